import { existsSync } from 'node:fs'
import { appendFile, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { planText, sqlText } from '../../src/cli/plan-text.ts'
import { loadJob } from '../../src/core/job/load.ts'
import { loadRegistry } from '../../src/core/registry.ts'
import { planJob } from '../../src/runtime/plan.ts'
import { runJob } from '../../src/runtime/run.ts'

const log = pino({ level: 'silent' })
const registry = await loadRegistry()

let folder = ''
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'adflow-plan-test-'))
  await mkdir(join(folder, 'data'))
  await writeFile(join(folder, 'data', 'a.ndjson'), '{"id":1,"cost":5,"user":"u"}\n{"id":1,"cost":5,"user":"u"}\n')
  await writeFile(
    join(folder, 'job.yaml'),
    `version: 1
name: planned
extract: { ads: { type: files, path: data/*.ndjson } }
contract: { columns: { event_id: { type: bigint, from: id, required: true }, cost: bigint, user: { type: varchar, personal: true } } }
validate:
  - { id: positive, check: "cost > 0" }
  - { id: enough, rows: { min: 1 }, on_fail: warn }
  - { budget: { ratio: 0.5, then: fail } }
transform:
  - dedupe: { key: [event_id] }
  - derive: { euros: "cost / 2" }
  - mask: { user: hmac, key: "0123456789abcdef" }
  - aggregate: { id: totals, by: [event_id], select: { cost: "sum(cost)" } }
load:
  warehouse: { type: duckdb, path: out/w.duckdb, table: t }
  sums: { type: files, input: totals, path: out/sums, format: csv }
`,
  )
})
afterAll(() => rm(folder, { recursive: true }))

const job = () => loadJob(join(folder, 'job.yaml'), { registry, env: {} })
const plan = async () => planJob({ job: await job(), registry, stateDir: join(folder, 'state'), log })

describe('a plan', () => {
  it('shows sources, columns with their lineage, rules and guarantees, and leaves no trace', async () => {
    const planned = await plan()
    expect(planned).toMatchObject({ job: 'planned', checkpoint: null, planned: 0, batches: 1 })
    expect(planned.sources).toMatchObject([
      { id: 'ads', lanes: [{ state: 'new', at: '0' }], replayable: true, error: null, bytes_left: 58 },
    ])
    expect(planned.contract.columns[0]).toEqual({ name: 'event_id', type: 'BIGINT', from: ['id'] })
    expect(planned.rules.map(({ id }) => id)).toEqual(['type', 'required', 'positive', 'enough', 'budget'])
    expect(
      planned.steps.map(({ id, kind, keeps_state, drops, hides }) => [id, kind, keeps_state, drops, hides]),
    ).toEqual([
      ['dedupe_1', 'row', true, 'deduplicated', []],
      ['derive_1', 'row', false, null, []],
      ['mask_1', 'row', false, null, ['user']],
      ['totals', 'set', false, null, []],
    ])
    const [warehouse, sums] = planned.loaders
    expect(warehouse?.columns.at(-1)).toEqual({ name: 'euros', type: 'DOUBLE', from: ['cost'] })
    expect(warehouse?.paths).toMatchObject([{ source: 'ads', delivery: 'exactly once' }])
    expect(sums).toMatchObject({ input: 'totals', owed: { batches: 0 } })
    expect(sums?.columns.map(({ name }) => name)).toEqual(['event_id', 'cost'])
    expect((await readdir(folder)).sort()).toEqual(['data', 'job.yaml'])
  })

  it('is written for people, and as SQL in which each part names the one before it', async () => {
    const planned = await plan()
    const text = planText(planned)
    expect(text).toContain('ads → warehouse: exactly once')
    expect(text).toContain('mask_1; hides user')
    expect(text).toContain('field id')
    const sql = sqlText(planned)
    expect(sql).toMatch(/-- derive_1 — derive: rows that go on\nSELECT .*"euros".* FROM "dedupe_1"/s)
    expect(sql).not.toContain('0123456789abcdef')
  })

  it('goes on from the checkpoint: only what was appended is left', async () => {
    const options = { job: await job(), registry, stateDir: join(folder, 'state'), log, command: 'test', version: '0' }
    const summary = await runJob(options)
    expect(summary).toMatchObject({ status: 'done', read: 2, deduplicated: 1 })
    expect((await plan()).sources[0]).toMatchObject({ bytes_left: 0, batches: 0 })
    await appendFile(join(folder, 'data', 'a.ndjson'), '{"id":2,"cost":1}\n')
    const planned = await plan()
    expect(planned.checkpoint).not.toBeNull()
    expect(planned.sources[0]).toMatchObject({ bytes_left: 18, batches: 1, lanes: [{ state: 'continue', at: '58' }] })
    expect(existsSync(join(folder, 'out', 'w.duckdb'))).toBe(true)
  })
})
