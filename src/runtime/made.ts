/** What the rows of a batch follow from, where that is nothing but the bytes of its chunk and what the job says of each record. */
import { hash } from 'node:crypto'
import type { Job } from '../core/job/job.ts'
import { redact } from '../core/job/secrets.ts'
import type { Batch } from './batch.ts'
import type { Pipeline } from './pipeline.ts'

/** Whether they follow from nothing else: no other records, no reference data, no columns that are found, and no secret, which nothing that a
 *  store keeps may follow from. */
export function isMadeAlone({ plan, reorders, stages }: Pipeline, job: Job): boolean {
  if (reorders || plan.unknown !== 'discard_value' || !stages.every(({ step }) => step.kind === 'row')) return false
  const said = JSON.stringify(saidOf(job), exact)
  return redact(said) === said
}

/** Digest of it, once the chunk is counted. */
export function madeOf({ chunk, plan }: Pick<Batch, 'chunk' | 'plan'>, job: Job): string {
  return hash('sha256', JSON.stringify([chunk.digest, chunk.format, plan.clock, saidOf(job)], exact))
}

/** Without descriptions and places in the file. */
function saidOf({ columns, rowRules, steps }: Job): unknown {
  return [
    columns.map(({ name, type, required, from, format }) => [name, type, required, from, format]),
    rowRules.map(({ id, check, onFail }) => [id, check.sql, onFail]),
    steps.map(({ id, verb, options }) => [id, verb, options]),
  ]
}

function exact(_: string, value: unknown): unknown {
  return typeof value === 'bigint' ? String(value) : value
}
