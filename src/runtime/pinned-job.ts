/** The job as a run of the past had it: text, variables and reference data of its pin; secrets as they are today. */
import { existsSync } from 'node:fs'
import { dirname } from 'node:path'
import type { Environment } from '../core/job/interpolate.ts'
import type { Job } from '../core/job/job.ts'
import { readJobText } from '../core/job/load.ts'
import type { Registry } from '../core/registry.ts'
import type { Pins } from './pins.ts'

export interface PinnedJob {
  readonly job: Job
  /** Version of adflow that made the run, and of its engine. */
  readonly adflow: string
  readonly engine: string
  /** Secrets that are other ones by now: what is computed with them differs. */
  readonly changed: readonly string[]
  readonly evolved: Readonly<Record<string, string>>
  /** Absolute path of a reference file, or place of other reference data → the copy that the run had read. */
  readonly locate: (file: string) => Promise<string>
  /** Folder of the versions of reference data that its batches were planned with. */
  readonly copies: string
}

export interface PinnedOptions {
  readonly registry: Registry
  /** The job file of today: its folder stands in where that of the pin is gone. */
  readonly today: Job
  readonly env: Environment
}

/** @throws AdflowError STATE_MISSING, STATE_DAMAGED, and those of a job that is not valid any more */
export async function openPinnedJob(
  pins: Pins,
  id: string,
  { registry, today, env }: PinnedOptions,
): Promise<PinnedJob> {
  const pin = await pins.read(id)
  const then = (await pins.environment(pin, today, env)).env
  const file = existsSync(dirname(pin.job.file)) ? pin.job.file : today.file
  const job = await readJobText(pin.job.text, file, { registry, env: then })
  const { changed } = await pins.environment(pin, job, env)
  return {
    job,
    adflow: pin.adflow,
    engine: pin.engine,
    changed,
    evolved: pin.evolved,
    locate: (path) => pins.locate(pin, path),
    copies: pins.copies,
  }
}
