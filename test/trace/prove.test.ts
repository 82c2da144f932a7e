import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import type { Certificate, Finding } from '../../src/trace/certificate.ts'
import { prove } from '../../src/trace/prove.ts'
import { fields, ndjson, TRACED_JOB, TracedJob } from '../harness/traced-job.ts'

let job: TracedJob
afterEach(() => job.remove())

async function proof(asked: Partial<Parameters<typeof prove>[0]> = {}): Promise<Certificate> {
  return prove({ version: '0.0.0', ...(await job.options()), ...asked })
}

async function loaded(yaml = TRACED_JOB, records = 300): Promise<void> {
  job = new TracedJob(yaml)
  job.fill(records)
  expect(await job.run()).toMatchObject({ exit: 0, unaccounted: 0 })
}

/** The batch behind a row of the warehouse. */
async function batchOf(id: number): Promise<{ token: string; lane: string; from: string; to: string }> {
  const [row] = await job.rows(
    `SELECT token, lane, from_position AS "from", to_position AS "to" FROM _adflow_batches WHERE target = 'main.clicks' AND ('0x' || token[1:16])::UBIGINT::BIT::BIGINT = (SELECT _batch FROM clicks WHERE id = ${id} LIMIT 1)`,
  )
  return row as { token: string; lane: string; from: string; to: string }
}

const MERGED = TRACED_JOB.replace(/ {2}- dedupe.*\n/, '').replace(
  'table: clicks',
  'table: clicks, write: merge, key: [id]',
)

describe('books that close', () => {
  test('are proven against the stores, per source, lane and store', async () => {
    await loaded()
    const found = await proof()
    expect(found).toMatchObject({ status: 'proven', exit: 0, unaccounted: 0, findings: [], gaps: [] })
    expect(found.ledger.head).toMatch(/^\d+:[0-9a-f]{64}$/)
    expect(found.books.length).toBe(6)
    for (const line of found.books) {
      expect(line.read).toBe(line.loaded + line.owed + line.quarantined + line.filtered + line.deduplicated)
      expect(line.rows).toBe(line.loaded)
    }
    expect(
      found.stores.map(({ store, unverified, digests, batches }) => ({
        store,
        unverified,
        digests: digests === batches,
      })),
    ).toEqual([
      { store: 'wh', unverified: 0, digests: true },
      { store: 'archive', unverified: 0, digests: true },
    ])
    const sum = (name: 'read' | 'quarantined') =>
      found.books.filter(({ store }) => store === 'wh').reduce((total, line) => total + line[name], 0)
    expect(sum('read')).toBe(900)
    expect(found.quarantine.records).toBe(sum('quarantined'))
  })

  test('count rows that later batches of a merge replaced, exactly', async () => {
    await loaded(MERGED, 200)
    const again = Array.from({ length: 90 }, (_, index) => JSON.stringify({ ...fields(index + 1), cost: 7 }))
    job.put('data/d.ndjson', `${again.join('\n')}\n`)
    await job.run()
    const found = await proof()
    expect(found).toMatchObject({ status: 'proven', unaccounted: 0, findings: [] })
    const replaced = found.books.filter(({ store }) => store === 'wh').map((line) => line.replaced)
    expect(replaced.reduce((total, rows) => total + rows, 0)).toBeGreaterThan(50)
    await job.change('DELETE FROM clicks WHERE id = 8')
    expect((await proof()).findings).toMatchObject([{ what: 'missing', rows: 1, lane: 'data/d.ndjson' }])
  })

  test('close under replace, also when a run has put its rows in the place of others', async () => {
    await loaded(TRACED_JOB.replace('table: clicks', 'table: clicks, write: replace'))
    job.put('data/d.ndjson', ndjson(3_000_001, 3_000_200))
    await job.run()
    expect(await proof()).toMatchObject({ status: 'proven', findings: [] })
    await job.change('DELETE FROM clicks WHERE id = (SELECT min(id) FROM clicks)')
    expect((await proof()).findings).toMatchObject([{ what: 'missing', rows: 1, lane: 'data/d.ndjson' }])
  })

  test('close after the table got columns and wider ones', async () => {
    await loaded()
    await job.change(
      'ALTER TABLE clicks ADD COLUMN note VARCHAR',
      'ALTER TABLE clicks ALTER spend SET DATA TYPE HUGEINT',
    )
    expect(await proof()).toMatchObject({ status: 'proven', findings: [] })
  })

  test('close while a store is owed, as long as the spool has it', async () => {
    job = new TracedJob(TRACED_JOB.replace('resources:', 'retry: { attempts: 1 }\nresources:'))
    job.fill(100)
    writeFileSync(join(job.folder, 'archive'), 'a file in the place of the folder')
    expect(await job.run()).toMatchObject({ status: 'owed' })
    rmSync(join(job.folder, 'archive'))
    const owed = await proof()
    expect(owed).toMatchObject({ status: 'proven', findings: [] })
    expect(
      owed.books.filter(({ store }) => store === 'archive').every(({ owed, loaded }) => owed > 0 && loaded === 0),
    ).toBe(true)
    const spool = join(job.state, 'spool', 'archive')
    const [file = ''] = readdirSync(spool).filter((name) => name.endsWith('.parquet'))
    truncateSync(join(spool, file), 100)
    expect((await proof()).findings).toMatchObject([
      { stage: 'spool', what: 'missing', store: 'archive', message: expect.stringContaining(file) },
    ])
  })

  test('of a window are those of its batches alone', async () => {
    await loaded()
    const before = Date.now()
    job.put('data/d.ndjson', ndjson(3_000_001, 3_000_100))
    await job.run()
    const late = await proof({ from: before })
    expect(new Set(late.books.map(({ lane }) => lane))).toEqual(new Set(['data/d.ndjson']))
    expect(late).toMatchObject({ status: 'proven', window: { from: new Date(before).toISOString(), to: null } })
    await expect(proof({ to: 1000 })).rejects.toMatchObject({ code: 'NOT_FOUND' })
  })
})

describe('what does not hold', () => {
  const named = async (id = 100): Promise<Partial<Finding>> => {
    const { token, lane, from, to } = await batchOf(id)
    return { source: 'ads', batch: token, lane, from, to, store: 'wh' }
  }

  test.each([
    ['a row that was deleted', ['DELETE FROM clicks WHERE id = 100'], { what: 'missing', rows: 1 }],
    ['a value that was changed', ['UPDATE clicks SET cost = cost + 1 WHERE id = 100'], { what: 'changed', rows: 1 }],
    ['a row that was doubled', ['INSERT INTO clicks SELECT * FROM clicks WHERE id = 100'], { what: 'extra', rows: 1 }],
    [
      'one lost and one doubled',
      ['DELETE FROM clicks WHERE id = 102', 'INSERT INTO clicks SELECT * FROM clicks WHERE id = 100'],
      { what: 'changed', rows: 1 },
    ],
    [
      'values of two rows that were exchanged',
      ['UPDATE clicks SET spend = 404 - spend WHERE id IN (100, 102)'],
      { what: 'changed', rows: 1 },
    ],
  ])('is named: %s', async (_what, statements, finding) => {
    await loaded()
    const place = await named()
    await job.change(...statements)
    const found = await proof()
    expect(found).toMatchObject({ status: 'differences', exit: 11, unaccounted: 1 })
    expect(found.findings).toMatchObject([{ stage: 'store', ...place, ...finding }])
    expect(found.books.filter(({ unaccounted }) => unaccounted > 0)).toMatchObject([
      { lane: place.lane, store: 'wh', unaccounted: 1 },
    ])
  })

  test('is named: an entry of the store that was dropped, rows of an unknown batch, rows without a batch', async () => {
    await loaded()
    const place = await named()
    await job.change(
      `DELETE FROM _adflow_batches WHERE token = '${place.batch}'`,
      'INSERT INTO clicks SELECT * REPLACE (5 AS _batch) FROM clicks WHERE id = 100',
      'INSERT INTO clicks SELECT * REPLACE (NULL AS _batch) FROM clicks WHERE id IN (100, 101)',
    )
    expect((await proof()).findings).toMatchObject([
      { what: 'entry', ...place, rows: 0 },
      { what: 'unknown', store: 'wh', batch: '5', rows: 1 },
      { what: 'unknown', store: 'wh', batch: null, rows: 2, expected: 0 },
    ])
  })

  test('is named: a file of the archive that was cut off, and one that is gone', async () => {
    await loaded()
    const files = readdirSync(join(job.folder, 'archive'))
      .filter((name) => name.endsWith('.parquet'))
      .sort()
    const [cut = '', gone = ''] = files
    truncateSync(join(job.folder, 'archive', cut), 50)
    rmSync(join(job.folder, 'archive', gone))
    const { findings } = await proof()
    expect(findings.map(({ what, store }) => `${store} ${what}`)).toEqual(['archive file', 'archive file'])
    for (const [name, text] of [
      [cut, 'does not have the bytes that were published'],
      [gone, 'is gone'],
    ])
      expect(findings).toContainEqual(
        expect.objectContaining({
          message: `archive: ${name} ${text}`,
          batch: expect.stringMatching(new RegExp(`^${name?.slice(0, 24)}`)),
        }),
      )
  })

  test('is named: a manifest that was removed, a file of the quarantine that is gone, and one that lost a record', async () => {
    await loaded()
    const place = await named()
    rmSync(join(job.folder, 'archive', '_adflow', `${place.batch}.parquet.json`))
    const quarantine = join(job.state, 'quarantine')
    const [first = '', second = ''] = readdirSync(quarantine).sort()
    const kept = readFileSync(join(quarantine, first), 'utf8').trimEnd().split('\n')
    writeFileSync(join(quarantine, first), `${kept.slice(1).join('\n')}\n`)
    rmSync(join(quarantine, second))
    const { findings } = await proof()
    expect(findings).toMatchObject([
      { stage: 'store', what: 'entry', store: 'archive', batch: place.batch },
      { stage: 'store', what: 'missing', store: 'archive', batch: place.batch },
      { stage: 'quarantine' },
      { stage: 'quarantine' },
    ])
    const at = (name: string) =>
      findings.find(({ stage, batch }) => stage === 'quarantine' && name.startsWith(`${batch}`))
    expect(at(first)).toMatchObject({ what: kept.length > 1 ? 'missing' : 'file', rows: 1 })
    expect(at(second)).toMatchObject({ what: 'file', found: 0 })
  })

  test('is refused where the ledger was cut, a byte of it changed, or a store is gone', async () => {
    await loaded()
    const ledger = join(job.state, 'ledger', '000001.ndjson')
    const whole = readFileSync(ledger)
    writeFileSync(ledger, whole.subarray(0, whole.lastIndexOf(10, whole.length >> 1) + 1))
    await expect(proof()).rejects.toMatchObject({ code: 'LEDGER_DAMAGED' })
    writeFileSync(ledger, whole.toString().replace('"unaccounted":0', '"unaccounted":1'))
    await expect(proof()).rejects.toMatchObject({ code: 'LEDGER_DAMAGED', message: expect.stringContaining('line') })
    writeFileSync(ledger, whole)
    rmSync(join(job.folder, 'wh.duckdb'))
    await expect(proof()).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' })
    expect(existsSync(join(job.folder, 'wh.duckdb'))).toBe(false)
  })

  test('is told: a place that could not be read', async () => {
    job = new TracedJob()
    job.fill(50)
    mkdirSync(join(job.folder, 'data', 'x'))
    job.put('data/z.ndjson.gz', Buffer.from('1f8b08000000000000ff', 'hex'))
    await job.run()
    expect(await proof()).toMatchObject({
      status: 'gaps',
      exit: 65,
      gaps: [{ lane: 'data/z.ndjson.gz' }],
      unaccounted: 0,
    })
  })
})
