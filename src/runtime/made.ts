/** What the rows of a batch follow from, where that is nothing but the bytes of its chunk and what the job says of each record. */
import { hash } from 'node:crypto'
import type { Job } from '../core/job/job.ts'
import { redact } from '../core/job/secrets.ts'
import type { Batch } from './batch.ts'
import type { Pipeline } from './pipeline.ts'

/** Whether they follow from nothing else: no other records, no reference data, no columns that are found. */
export function isMadeAlone({ plan, reorders, stages }: Pipeline): boolean {
  return !reorders && plan.unknown === 'discard_value' && stages.every(({ step }) => step.kind === 'row')
}

/** Digest of it, once the chunk is counted. What is only said about columns and rules (descriptions, places in the file) is no part of it, nor are
 *  secrets: it is kept by stores. */
export function madeOf({ chunk, plan }: Pick<Batch, 'chunk' | 'plan'>, job: Job): string {
  const parts = [
    [chunk.digest, chunk.format, plan.clock],
    job.columns.map(({ name, type, required, from, format }) => [name, type, required, from, format]),
    job.rowRules.map(({ id, check, onFail }) => [id, check.sql, onFail]),
    job.steps.map(({ id, verb, options }) => [id, verb, options]),
  ]
  const exact = (_: string, value: unknown) => (typeof value === 'bigint' ? String(value) : value)
  return hash('sha256', redact(JSON.stringify(parts, exact)))
}
