/** A bucket that is read, before a run: there, to be listed, and its newest object to be read. */
import type { DiagnoseEnv, Diagnosis, Finding } from '../../core/diagnosis.ts'
import type { Findings } from '../../core/findings.ts'
import { diagnoseRemoteFiles } from '../objects/diagnose-remote.ts'
import type { FilePlace } from '../objects/place.ts'
import { diagnoseAnyBucket } from './diagnose.ts'
import type { BucketOptions } from './options.ts'
import { explainSource } from './source-errors.ts'

/** Closes `files`. */
export function diagnoseBucketSource(options: BucketOptions, files: FilePlace, env: DiagnoseEnv): Diagnosis {
  const look = async function* (
    at: Findings,
    _: unknown,
    absent: Parameters<Findings['failure']>[1],
  ): AsyncIterable<Finding> {
    if (absent === undefined) yield* diagnoseRemoteFiles(at, files, env)
    else yield at.failure('target', absent)
  }
  const { place, findings } = diagnoseAnyBucket(options, env, look, explainSource)
  return { place, findings: closing(findings, files) }
}

async function* closing(findings: AsyncIterable<Finding>, files: FilePlace): AsyncIterable<Finding> {
  try {
    yield* findings
  } finally {
    await files.close()
  }
}
