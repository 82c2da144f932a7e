import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { afterEach, describe, expect, test } from 'vitest'
import { traceRows } from '../../src/trace/trace.ts'
import { traceQuarantine } from '../../src/trace/trace-quarantine.ts'
import type { Trace, TracedRow } from '../../src/trace/trace-result.ts'
import { duckdbRows } from '../harness/engine.ts'
import { fields, TRACED_JOB, TracedJob } from '../harness/traced-job.ts'

const RECORDS = 500
const SAMPLE = 300

let job: TracedJob
afterEach(() => job.remove())

async function trace(asked: Partial<Parameters<typeof traceRows>[0]> = {}): Promise<Trace> {
  return traceRows({ limit: 100, ...(await job.options()), ...asked })
}

/** The bytes at the place that the trace names. */
function bytesAt(origin: string, from: number, to: number): string {
  const content = readFileSync(origin)
  return (origin.endsWith('.gz') ? gunzipSync(content) : content).subarray(from, to).toString()
}

/** The record as its format reads it, without adflow. */
function parsed(origin: string, bytes: string): Record<string, string> {
  if (!origin.endsWith('.csv'))
    return Object.fromEntries(Object.entries(JSON.parse(bytes)).map(([name, value]) => [name, String(value)]))
  const [id = '', at = '', cost = '', city = ''] = bytes.split(',')
  return { id, at, cost, city }
}

function checkRecord({ row, records, status, given }: TracedRow): void {
  expect({ status, given, records: records.length }).toEqual({ status: 'traced', given: 'record', records: 1 })
  const [record] = records
  if (record === undefined) return
  const bytes = bytesAt(record.origin, record.byte_from, record.byte_to)
  expect(bytes.trimEnd()).toBe(record.raw)
  const { id, cost, city } = parsed(record.origin, bytes.trimEnd())
  expect({ id, cost, city, spend: String(2 * Number(cost)) }).toEqual({
    id: String(row['id']),
    cost: String(row['cost']),
    city: row['city'],
    spend: String(row['spend']),
  })
  const number = firstOf(record.origin) + record.line - (record.origin.endsWith('.csv') ? 2 : 1)
  expect(Number(id)).toBe(fields(number).id)
}

function firstOf(origin: string): number {
  if (origin.endsWith('.csv')) return 1_000_001
  return origin.endsWith('.gz') ? 2_000_001 : 1
}

describe('a row of a store', () => {
  test.each(['wh', 'archive'])(
    'leads to the bytes that give it, for %s, whatever the format of the source',
    async (store) => {
      job = new TracedJob()
      job.fill(RECORDS)
      expect(await job.run()).toMatchObject({ exit: 0, unaccounted: 0 })
      const found = await trace({ store, sample: SAMPLE })
      expect(found.counts).toMatchObject({ rows: SAMPLE, traced: SAMPLE })
      expect(found.exit).toBe(0)
      for (const row of found.rows) checkRecord(row)
      expect(new Set(found.rows.map(({ records }) => records[0]?.origin.split('.').pop())).size).toBe(3)
    },
    300_000,
  )

  test('is told with its batch, run, job, rules and steps', async () => {
    job = new TracedJob()
    job.fill(100)
    const { run } = await job.run()
    const found = await trace({ keys: { id: '8' } })
    const [row] = found.rows
    const batch = found.batches[row?.batch ?? '']
    expect(batch).toMatchObject({ source: 'ads', lane: 'data/a.ndjson', from: '0', run })
    expect(Date.parse(batch?.loaded_at ?? '')).toBeGreaterThanOrEqual(Date.parse(batch?.clock ?? ''))
    const { digest } = await job.job()
    expect(found.runs[run]).toMatchObject({
      adflow: '0.0.0',
      job_digest: digest,
      rules: ['malformed', 'type', 'required', 'positive', 'known'],
      steps: [{ verb: 'dedupe' }, { verb: 'filter' }, { verb: 'derive' }],
      secrets_changed: [],
    })
  })

  test('that is there twice leads to two records', async () => {
    job = new TracedJob(TRACED_JOB.replace(/ {2}- dedupe.*\n/, ''))
    job.put('data/a.ndjson', [8, 9, 8, 8, 9].map((i) => JSON.stringify(fields(i))).join('\n'))
    await job.run()
    for (const store of ['wh', 'archive']) {
      const lines = (await trace({ store, where: 'id = 8' })).rows.map(({ records }) => records[0]?.line)
      expect(lines).toEqual([1, 3, 4])
    }
  })

  test('leads there by the job of its run, also when job file and reference data are others by now', async () => {
    const yaml = `${TRACED_JOB}`.replace(
      '  - derive',
      '  - lookup: { table: cities, from: { type: files, path: cities.csv }, on: { city: name }, select: { country: country } }\n  - derive',
    )
    job = new TracedJob(yaml)
    job.put('cities.csv', 'name,country\ncity 1,CN\ncity 2,DE\n')
    job.fill(60)
    expect(await job.run()).toMatchObject({ exit: 0 })
    job.put('cities.csv', 'name,country\ncity 1,XX\n')
    job.put('clicks.yaml', yaml.replace('cost * 2', 'cost * 3'))
    const found = await trace()
    expect(found.counts.traced).toBe(found.counts.rows)
    expect(found.rows.some(({ row }) => row['country'] === 'DE')).toBe(true)
  })

  test('under merge leads to the last record of its key', async () => {
    job = new TracedJob(
      TRACED_JOB.replace(/ {2}- dedupe.*\n/, '').replace('table: clicks', 'table: clicks, write: merge, key: [id]'),
    )
    const line = (cost: number) => JSON.stringify({ ...fields(8), cost })
    job.put('data/a.ndjson', `${line(1)}\n${line(2)}\n${line(2)}\n`)
    await job.run()
    job.put('data/b.ndjson', `${line(5)}\n`)
    await job.run()
    const [row] = (await trace()).rows
    expect(row?.records).toMatchObject([{ origin: join(job.folder, 'data/b.ndjson'), line: 1, raw: line(5) }])
    const archived = (await trace({ store: 'archive' })).rows.map(({ records }) => records[0]?.line)
    expect(archived.sort()).toEqual([1, 1, 2, 3])
  })

  test('of an aggregate leads to the records of its group', async () => {
    job = new TracedJob(
      TRACED_JOB.replace(
        'load:',
        '  - aggregate: { id: cities, by: [{ town: "upper(city)" }], select: { n: "count(*)" } }\nload:\n  totals: { type: duckdb, path: wh.duckdb, table: totals, input: cities }',
      ),
    )
    job.put('data/a.ndjson', Array.from({ length: 30 }, (_, i) => JSON.stringify(fields(i + 1))).join('\n'))
    await job.run()
    const { rows } = await trace({ store: 'totals' })
    expect(rows.length).toBeGreaterThan(3)
    for (const { row, given, records } of rows) {
      expect(given).toBe('group')
      expect(records.length).toBe(Number(row['n']))
      for (const { raw } of records) expect(JSON.parse(raw ?? '').city.toUpperCase()).toBe(row['town'])
    }
  })

  test('leads past records on which an expression fails', async () => {
    job = new TracedJob(
      TRACED_JOB.replace('"cost * 2"', `"case when id = 9 then cast(city as bigint) else cost * 2 end"`),
    )
    job.put('data/a.ndjson', [8, 9, 10, 11].map((i) => JSON.stringify(fields(i))).join('\n'))
    expect(await job.run()).toMatchObject({ exit: 0, quarantined: 1 })
    const { rows } = await trace()
    expect(rows.map(({ row, records }) => [row['id'], records[0]?.line])).toEqual([
      ['8', 1],
      ['10', 3],
      ['11', 4],
    ])
  })
})

describe('a row that cannot be led to its record', () => {
  test('is told with what is known: changed, without number, of an unknown batch', async () => {
    job = new TracedJob()
    job.fill(50)
    await job.run()
    await job.change(
      'UPDATE clicks SET cost = 4711 WHERE id = 8',
      'INSERT INTO clicks SELECT * REPLACE (NULL AS _batch) FROM clicks WHERE id = 9',
      'INSERT INTO clicks SELECT * REPLACE (5 AS _batch) FROM clicks WHERE id = 10',
    )
    const { rows, exit } = await trace({ where: 'id between 8 and 10' })
    expect(exit).toBe(11)
    expect(rows.map(({ row, status }) => `${row['id']} ${status}`).sort()).toEqual([
      '10 traced',
      '10 unknown_batch',
      '8 changed',
      '9 traced',
      '9 unnumbered',
    ])
    expect(rows.find(({ status }) => status === 'changed')?.batch).toMatch(/^[0-9a-f]{64}$/)
  })

  test.each([
    ['is gone', (path: string) => rmSync(path)],
    [
      'has other bytes',
      (path: string) => writeFileSync(path, readFileSync(path, 'utf8').replace('"cost":8', '"cost":9')),
    ],
  ])('keeps its place when the file %s, and costs no row of another file', async (_what, change) => {
    job = new TracedJob()
    job.fill(400)
    await job.run()
    change(join(job.folder, 'data/a.ndjson'))
    const { rows, batches, exit } = await trace({ where: 'id IN (8, 1000008)' })
    expect(exit).toBe(65)
    const [lost, kept] = ['8', '1000008'].map((id) => rows.find(({ row }) => row['id'] === id))
    expect(kept?.status).toBe('traced')
    expect(lost).toMatchObject({ status: 'source', records: [], message: expect.stringContaining('a.ndjson') })
    expect(batches[lost?.batch ?? '']).toMatchObject({ lane: 'data/a.ndjson', from: '0' })
  })
})

describe('a trace that cannot be made', () => {
  test('says so once, and changes nothing', async () => {
    job = new TracedJob()
    job.fill(20)
    await job.run()
    await expect(trace({ keys: { id: '99' } })).rejects.toMatchObject({ code: 'NOT_FOUND' })
    await expect(trace({ keys: { nobody: '1' } })).rejects.toMatchObject({ code: 'USAGE' })
    await expect(trace({ where: 'nobody = 1' })).rejects.toMatchObject({ code: 'USAGE' })
    await expect(trace({ store: 'elsewhere' })).rejects.toMatchObject({ code: 'USAGE' })
    rmSync(join(job.folder, 'wh.duckdb'))
    await expect(trace({ store: 'wh' })).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' })
    rmSync(join(job.folder, 'archive'), { recursive: true })
    await expect(trace()).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' })
  })

  test('names the option where a store has no batch column', async () => {
    job = new TracedJob(TRACED_JOB.replace('table: clicks', 'table: clicks, batch_column: false'))
    job.fill(20)
    await job.run()
    await expect(trace({ store: 'wh' })).rejects.toThrow(/do not know their batches/)
    expect((await trace()).store).toBe('archive')
  })
})

test('a refused record is told with its bytes and its batch', async () => {
  job = new TracedJob()
  job.fill(50)
  const { run } = await job.run()
  const found = await traceQuarantine({ limit: 100, ...(await job.options()), keys: { rule: 'positive' } })
  expect(found.records.length).toBeGreaterThan(3)
  for (const { origin, byte_from, byte_to, raw, token } of found.records) {
    expect(bytesAt(origin, byte_from, byte_to).trimEnd()).toBe(raw)
    expect(found.batches[token]).toMatchObject({ run })
  }
  await expect(traceQuarantine({ limit: 1, ...(await job.options()), keys: { rule: 'nobody' } })).rejects.toMatchObject(
    { code: 'NOT_FOUND' },
  )
})

test.each(['csv', 'ndjson'] as const)(
  'a row of a store of %s files leads to its record, from a Parquet file too',
  async (format) => {
    job = new TracedJob(TRACED_JOB.replace('format: parquet', `format: ${format}`))
    job.fill(60)
    const file = join(job.folder, 'data/p.parquet')
    const rows =
      'SELECT 3000001 + i AS id, TIMESTAMP \'2026-03-01 10:00:00\' AS "at", i AS cost, \'city, "quoted"\' AS city FROM range(40) t(i)'
    await duckdbRows(`SELECT 1`, [`COPY (${rows}) TO '${file}' (FORMAT parquet)`])
    expect(await job.run()).toMatchObject({ exit: 0 })
    for (const store of ['archive', 'wh']) {
      const found = await trace({ store, limit: 1000 })
      expect(found.counts.traced, store).toBe(found.counts.rows)
      const parquet = found.rows.filter(({ records }) => records[0]?.origin === file)
      expect(parquet.length).toBeGreaterThan(20)
      for (const { row, records } of parquet) {
        expect(records[0]?.line).toBe(Number(row['id']) - 3_000_000)
        expect(String(JSON.parse(records[0]?.raw ?? '{}').id)).toBe(row['id'])
      }
    }
  },
)
