import { appendFileSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { type Impact, type ImpactedRecord, impactOf } from '../../src/trace/impact.ts'
import { traceRows } from '../../src/trace/trace.ts'
import { fields, TRACED_JOB, TracedJob } from '../harness/traced-job.ts'

const RECORDS = 300
const SAMPLE = 150
const seed = Number(process.env['SEED'] ?? Date.now() % 1_000_000)

let job: TracedJob
afterEach(() => job.remove())

async function impact(asked: Partial<Parameters<typeof impactOf>[0]>): Promise<Impact> {
  return impactOf({ cwd: job.folder, limit: 1_000_000, ...(await job.options()), ...asked })
}

const placeOf = ({ origin, line }: { readonly origin: string; readonly line: number }) => `${origin}:${line}`

/** What must become of the n-th record of the fixture, told without adflow. */
function expected(i: number, format: string): { fate: string; by: string | null } {
  if (format !== 'csv' && i % 10 === 3) return { fate: 'quarantined', by: 'malformed' }
  const { id, cost, city } = fields(i)
  if (cost < 0) return { fate: 'quarantined', by: 'positive' }
  if (city === 'Atlantis') return { fate: 'filtered', by: 'known' }
  const before = i % 13 === 5 ? fields(i - 1) : undefined
  const kept =
    before !== undefined && (format === 'csv' || (i - 1) % 10 !== 3) && before.cost >= 0 && before.city !== 'Atlantis'
  if (kept) return { fate: 'deduplicated', by: 'dedupe_1' }
  return id % 7 === 0 ? { fate: 'filtered', by: 'filter_1' } : { fate: 'passed', by: null }
}

describe('what came of a record', () => {
  test(`is the inverse of where a row comes from, in every store (seed ${seed})`, async () => {
    job = new TracedJob()
    job.fill(RECORDS)
    await job.run()
    const found = await impact({})
    expect(found).toMatchObject({ exit: 0, warnings: [], unreadable: {} })
    expect(found.records.length).toBe(3 * RECORDS)
    const traced = new Map<string, Map<string, unknown>>()
    for (const store of ['wh', 'archive']) {
      const { rows } = await traceRows({ limit: 1_000_000, ...(await job.options()), store })
      traced.set(store, new Map(rows.map(({ row, records }) => [placeOf(records[0] as ImpactedRecord), row])))
    }
    const all = found.records.filter(({ fate }) => fate === 'passed')
    for (const rows of traced.values()) expect(rows.size).toBe(all.length)
    let state = seed
    for (let round = 0; round < SAMPLE; round += 1) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0
      const record = found.records[state % found.records.length] as ImpactedRecord
      const format = record.origin.split('.').pop() as string
      const first = { ndjson: 1, csv: 1_000_000, gz: 2_000_001 }[format] as number
      expect({ fate: record.fate, by: record.by }, placeOf(record)).toEqual(expected(first + record.line - 1, format))
      for (const { store, status, row } of record.stores) {
        expect(status).toBe('there')
        expect(row).toEqual(traced.get(store)?.get(placeOf(record)))
      }
      expect(record.stores.length).toBe(record.fate === 'passed' ? 2 : 0)
    }
  }, 300_000)

  test('is found by line, by bytes and by the record itself', async () => {
    job = new TracedJob()
    job.fill(400)
    await job.run()
    const text = readFileSync(join(job.folder, 'data/a.ndjson'), 'utf8')
    const line = text.split('\n')[380] as string
    const from = text.indexOf(line)
    const asked = [
      { file: 'data/a.ndjson', line: 381 },
      { file: 'data/a.ndjson', bytes: { from: from + 3, to: from + 4 } },
      { record: line },
    ]
    for (const one of asked)
      expect((await impact(one)).records, JSON.stringify(one)).toMatchObject([
        { line: 381, byte_from: from, raw: line, fate: 'passed' },
      ])
    const kept = (await impact({ file: 'data/a.ndjson', line: 13 })).records
    expect(kept).toMatchObject([
      { fate: 'quarantined', by: 'malformed', kept_in: expect.stringContaining(kept[0]?.batch ?? 'x') },
    ])
  })

  test('names the batch that replaced its row, and the store that lost it', async () => {
    job = new TracedJob(
      TRACED_JOB.replace(/ {2}- dedupe.*\n/, '').replace('table: clicks', 'table: clicks, write: merge, key: [id]'),
    )
    const line = (id: number, cost: number) => `${JSON.stringify({ ...fields(id), cost })}\n`
    job.put('data/a.ndjson', line(8, 1) + line(8, 2) + line(9, 3) + line(10, 4))
    await job.run()
    job.put('data/b.ndjson', line(9, 5))
    await job.run()
    await job.change('DELETE FROM clicks WHERE id = 10')
    const { records, exit } = await impact({ file: 'data/a.ndjson', bytes: { from: 0, to: 10_000 } })
    const later = (await impact({ file: 'data/b.ndjson', line: 1 })).records[0]
    expect(exit).toBe(11)
    expect(records.map(({ stores }) => stores.find(({ store }) => store === 'wh'))).toMatchObject([
      { status: 'replaced', by: records[0]?.batch },
      { status: 'there', row: { cost: '2' } },
      { status: 'replaced', by: later?.batch },
      { status: 'missing', row: null },
    ])
    for (const { stores } of records) expect(stores.find(({ store }) => store === 'archive')?.status).toBe('there')
  })

  test('of equal records is a row each, and in an aggregate the row of its group', async () => {
    job = new TracedJob(
      TRACED_JOB.replace(
        /transform:[\s\S]*load:/,
        'transform:\n  - aggregate: { id: cities, by: [city], select: { n: "count(*)" } }\nload:\n  totals: { type: duckdb, path: wh.duckdb, table: totals, input: cities }',
      ),
    )
    job.put('data/a.ndjson', `${JSON.stringify(fields(1))}\n`.repeat(3))
    await job.run()
    await job.change('DELETE FROM clicks WHERE rowid = 2')
    const { records } = await impact({ file: 'data/a.ndjson', bytes: { from: 0, to: 10_000 } })
    const statusOf = (name: string) => records.map(({ stores }) => stores.find(({ store }) => store === name)?.status)
    expect(statusOf('wh')).toEqual(['there', 'there', 'missing'])
    expect(statusOf('archive')).toEqual(['there', 'there', 'there'])
    for (const { stores } of records)
      expect(stores.find(({ store }) => store === 'totals')).toMatchObject({
        status: 'contributes',
        row: { city: 'city 1', n: '3' },
      })
  })
})

describe('an impact that cannot be told', () => {
  test('says why: nothing read of it, a range that was never loaded, no record there, a file that is gone', async () => {
    job = new TracedJob()
    job.fill(50)
    await job.run()
    const file = 'data/a.ndjson'
    await expect(impact({ file: 'data/z.ndjson', line: 1 })).rejects.toMatchObject({ code: 'NOT_FOUND' })
    await expect(impact({ file, line: 51 })).rejects.toMatchObject({ code: 'NOT_FOUND' })
    appendFileSync(join(job.folder, file), '{"id": 1}\n')
    await expect(impact({ file, bytes: { from: 100_000, to: 100_001 } })).rejects.toThrow(/were never loaded/)
    rmSync(join(job.folder, file))
    const lost = await impact({ file, line: 1 })
    expect(lost).toMatchObject({ exit: 65, records: [] })
    expect(Object.values(lost.unreadable)).toEqual([expect.stringContaining('a.ndjson')])
  })

  test('of a store is told beside those of the others', async () => {
    job = new TracedJob()
    job.fill(20)
    await job.run()
    rmSync(join(job.folder, 'wh.duckdb'))
    const found = await impact({ file: 'data/a.ndjson', line: 1 })
    expect(found).toMatchObject({ exit: 69, closed: { wh: expect.stringContaining('wh.duckdb') } })
    expect(found.records[0]?.stores).toMatchObject([{ store: 'archive', status: 'there' }])
  })
})
