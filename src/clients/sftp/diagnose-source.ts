/** A folder that is read, before a run: there, to be listed, and its first file to be read. */
import type { DiagnoseEnv, Diagnosis, Finding } from '../../core/diagnosis.ts'
import { AdflowError } from '../../core/errors.ts'
import { diagnoseRemoteFiles } from '../objects/diagnose-remote.ts'
import type { FilePlace } from '../objects/place.ts'
import { diagnoseAnySftp } from './diagnose.ts'
import type { SftpOptions } from './options.ts'
import { explainSource } from './source-errors.ts'

/** Closes `files`. */
export function diagnoseSftpSource(options: SftpOptions, files: FilePlace, env: DiagnoseEnv): Diagnosis {
  const { place, findings } = diagnoseAnySftp(options, env, (at) => diagnoseRemoteFiles(at, files, env))
  return { place, findings: spokenAsSource(findings, files) }
}

async function* spokenAsSource(findings: AsyncIterable<Finding>, files: FilePlace): AsyncIterable<Finding> {
  try {
    yield* findings
  } catch (error) {
    throw error instanceof AdflowError ? explainSource(error, '') : error
  } finally {
    await files.close()
  }
}
