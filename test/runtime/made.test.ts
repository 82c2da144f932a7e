import { expect, it } from 'vitest'
import type { Job } from '../../src/core/job/job.ts'
import { registerSecret } from '../../src/core/job/secrets.ts'
import type { Batch } from '../../src/runtime/batch.ts'
import { isMadeAlone, madeOf } from '../../src/runtime/made.ts'
import type { Pipeline } from '../../src/runtime/pipeline.ts'

const JOB = {
  columns: [{ name: 'id', type: 'BIGINT', required: true, from: 'id', description: 'a', path: ['a'] }],
  rowRules: [{ id: 'r', check: { sql: 'id > 0', path: ['a'] }, onFail: 'drop', description: 'a', path: ['a'] }],
  steps: [{ id: 's', verb: 'derive', options: { twice: 'id * 2' }, path: ['a'] }],
}
const BATCH = { chunk: { digest: 'crc32:1', format: { type: 'ndjson' } }, plan: { clock: '2026-01-01T00:00:00.000Z' } }
const of = (job: object = {}, batch: object = {}) =>
  madeOf({ ...BATCH, ...batch } as Batch, { ...JOB, ...job } as unknown as Job)

it('says the same of a job in which only words and places have changed', () => {
  const [column, rule, step] = [JOB.columns[0], JOB.rowRules[0], JOB.steps[0]]
  const more = { description: 'b', path: ['b'] }
  const rules = [{ ...rule, ...more, check: { sql: 'id > 0', path: ['b'] } }]
  expect(of({ columns: [{ ...column, ...more }], rowRules: rules, steps: [{ ...step, path: ['b'] }] })).toBe(of())
})

it.each([
  ['bytes', {}, { chunk: { ...BATCH.chunk, digest: 'crc32:2' } }],
  ['a format', {}, { chunk: { ...BATCH.chunk, format: { type: 'csv' } } }],
  ['a clock', {}, { plan: { clock: '2026-01-01T00:00:00.001Z' } }],
  ['columns', { columns: [{ ...JOB.columns[0], type: 'INTEGER' }] }, {}],
  ['rules', { rowRules: [{ ...JOB.rowRules[0], check: { sql: 'id > 1' } }] }, {}],
  ['steps', { steps: [{ ...JOB.steps[0], options: { twice: 'id * 3' } }] }, {}],
])('says something else for other %s', (_, job, batch) => {
  expect(of(job, batch)).not.toBe(of())
})

it.each([
  ['rows follow from their records alone', {}, true],
  ['a step has state or reference data', { reorders: true }, false],
  ['columns are found', { plan: { unknown: 'evolve' } }, false],
  ['a step aggregates', { stages: [{ step: { kind: 'batch' } }] }, false],
])('where %s: %o', (_, more, alone) => {
  const pipeline = { reorders: false, plan: { unknown: 'discard_value' }, stages: [{ step: { kind: 'row' } }], ...more }
  expect(isMadeAlone(pipeline as unknown as Pipeline, JOB as unknown as Job)).toBe(alone)
})

it('is not known where a step has a secret, which may be another one by the next attempt', () => {
  const pipeline = { reorders: false, plan: { unknown: 'discard_value' }, stages: [] } as unknown as Pipeline
  const steps = [{ id: 'm', verb: 'mask', options: { user: 'hmac', key: 'a secret of a test of made' } }]
  const job = { ...JOB, steps } as unknown as Job
  expect(isMadeAlone(pipeline, job)).toBe(true)
  registerSecret('a secret of a test of made')
  expect(isMadeAlone(pipeline, job)).toBe(false)
})
