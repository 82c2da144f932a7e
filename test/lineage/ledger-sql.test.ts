import { appendFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type DuckDBConnection, DuckDBInstance } from '@duckdb/node-api'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import type { BatchClosed, LedgerEvent, StoreOutcome } from '../../src/lineage/events.ts'
import { openLedger } from '../../src/lineage/ledger.ts'
import { ledgerViews } from '../../src/lineage/ledger-sql.ts'

let instance: DuckDBInstance
let engine: DuckDBConnection
let dir = ''
beforeAll(async () => {
  instance = await DuckDBInstance.create(':memory:', { threads: '1' })
  engine = await instance.connect()
})
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "adflow-sql-'-"))
  return () => rm(dir, { recursive: true })
})
afterAll(() => {
  engine.closeSync()
  instance.closeSync()
})

const glob = () => join(dir, '*.ndjson')

async function views(files: readonly string[]): Promise<void> {
  for (const statement of ledgerViews(files)) await engine.run(statement)
}

async function rows(sql: string): Promise<unknown[]> {
  return (await engine.runAndReadAll(sql)).getRowObjectsJson()
}

async function write(run: string, events: readonly LedgerEvent[]): Promise<void> {
  const ledger = await openLedger(dir, { run, segmentBytes: 1500, now: () => new Date('2026-01-02T03:04:05.678Z') })
  for (const event of events) await ledger.append([event])
  await ledger.close()
}

const stored = (count: number, status: StoreOutcome['status'] = 'loaded'): StoreOutcome => ({
  rows: count,
  status,
  outputs: ['t'],
})

function closed(
  token: string,
  from: number,
  stores: BatchClosed['stores'],
  more: Partial<BatchClosed> = {},
): BatchClosed {
  return {
    type: 'batch_closed',
    token,
    sequence: '1',
    source: 'ads',
    lane: 'l',
    from: String(from),
    to: String(from + 100),
    origin: 'a.ndjson',
    digest: 'sha256:00',
    bytes: 100,
    clock: '2026-03-01T00:00:00.000Z',
    counts: { read: 10, quarantined: { r1: 2, r2: 1 }, filtered: { keep: 1 }, deduplicated: 1, warned: {} },
    sums: { read: '92233720368547758070', quarantined: '1', filtered: '2', deduplicated: '3', out: '4' },
    stores,
    unaccounted: 0,
    ...more,
  }
}

const started: LedgerEvent = {
  type: 'run_started',
  run: 'r1',
  job: 'ads',
  command: 'run',
  version: '1',
  epoch: '0',
  pin: 'p',
}

test('a folder without segments and an empty segment give empty views', async () => {
  for (const files of [[], [glob()]]) {
    if (files.length > 0) await write('r1', [])
    await views(files)
    for (const name of ['ledger', 'batches', 'runs', 'gaps', 'conservation'])
      expect(await rows(`SELECT * FROM ${name}`)).toEqual([])
  }
})

test('batches show each token once, as it was closed last, with exact sums', async () => {
  await write('r1', [closed('t1', 0, { dw: stored(5, 'owed') }), closed('t2', 100, { dw: stored(5) })])
  await write('r2', [closed('t1', 0, { dw: stored(5, 'repeated') })])
  await views([glob()])
  expect(
    await rows(`SELECT token, run, range_to, "read", quarantined, filtered, deduplicated, "out", sums."read" AS sum,
      counts.quarantined['r1'] AS r1, stores['dw'].status AS status, closed_at FROM batches ORDER BY token`),
  ).toEqual(
    [
      { token: 't1', run: 'r2', range_to: '100', status: 'repeated' },
      { token: 't2', run: 'r1', range_to: '200', status: 'loaded' },
    ].map((own) => ({
      ...own,
      read: '10',
      quarantined: '3',
      filtered: '1',
      deduplicated: '1',
      out: '5',
      sum: '92233720368547758070',
      r1: '2',
      closed_at: '2026-01-02 03:04:05.678',
    })),
  )
})

test('conservation balances per source, lane and store; what was owed and paid is loaded', async () => {
  await write('r1', [
    closed('t1', 0, { dw: stored(5), lake: stored(5, 'owed') }),
    closed('t2', 100, { dw: stored(5, 'repeated'), lake: stored(5, 'owed') }),
    closed('t3', 0, { dw: stored(4) }, { lane: 'm', unaccounted: 1 }),
    closed('t4', 100, { dw: stored(4) }, { lane: 'm' }),
    { type: 'store_paid', token: 't1', loader: 'lake', rows: 5 },
    { type: 'store_paid', token: 't1', loader: 'lake', rows: 5 },
  ])
  await views([glob()])
  const common = { source: 'ads', batches: '2', read: '20', quarantined: '6', filtered: '2', deduplicated: '2' }
  expect(await rows('SELECT * FROM conservation')).toEqual([
    { ...common, lane: 'l', store: 'dw', loaded: '10', owed: '0', unaccounted: '0', balance: '0' },
    { ...common, lane: 'l', store: 'lake', loaded: '5', owed: '5', unaccounted: '0', balance: '0' },
    { ...common, lane: 'm', store: 'dw', loaded: '8', owed: '0', unaccounted: '1', balance: '1' },
  ])
})

test('a batch of which nothing was left over still balances', async () => {
  const counts = { read: 2, quarantined: { r: 2 }, filtered: {}, deduplicated: 0, warned: {} }
  await write('r1', [closed('t1', 0, { dw: stored(0) }, { counts })])
  await views([glob()])
  expect(await rows('SELECT loaded, quarantined, filtered, balance FROM conservation')).toEqual([
    { loaded: '0', quarantined: '2', filtered: '0', balance: '0' },
  ])
})

test('runs show how they ended and what they closed; a killed one is unfinished', async () => {
  await write('r1', [started, closed('t1', 0, { dw: stored(5) }), closed('t1', 0, { dw: stored(5) })])
  await write('r2', [
    { ...started, run: 'r2' },
    { type: 'run_ended', run: 'r2', status: 'failed', exit: 69, code: 'STORE_OWED', message: 'owed' },
  ])
  await views([glob()])
  expect(await rows('SELECT run, job, status, exit, code, batches FROM runs')).toEqual([
    { run: 'r1', job: 'ads', status: 'unfinished', exit: null, code: null, batches: '1' },
    { run: 'r2', job: 'ads', status: 'failed', exit: 69, code: 'STORE_OWED', batches: '0' },
  ])
})

test('a gap is open until a later batch covers it', async () => {
  const gap = (from: string): LedgerEvent => ({
    type: 'gap',
    source: 'ads',
    lane: 'l',
    from,
    code: 'SOURCE_UNREADABLE',
    message: 'no permission',
  })
  await write('r1', [closed('t0', 0, {}), gap('0'), gap('150'), gap('150'), gap('1000'), closed('t1', 100, {})])
  await views([glob()])
  expect(await rows('SELECT range_from, range_to, open FROM gaps')).toEqual([
    { range_from: '0', range_to: null, open: true },
    { range_from: '150', range_to: null, open: false },
    { range_from: '1000', range_to: null, open: true },
  ])
})

test('a manual change can be read with what was before and after', async () => {
  const event: LedgerEvent = {
    type: 'state_changed',
    who: 'ann',
    what: 'rewind',
    before: { at: '7' },
    after: ['x', null],
  }
  await write('r1', [event])
  await views([glob()])
  expect(await rows('SELECT who, what, before, after FROM ledger')).toEqual([
    { who: 'ann', what: 'rewind', before: '{"at":"7"}', after: '["x",null]' },
  ])
})

test('an unfinished last line is left out, also after the segment that ends in it was read before', async () => {
  await write('r1', [started])
  await views([glob()])
  for (const part of ['{"at":"2026-01-0', '1T00:00:00Z","seq":2,"type":"gap"', ',"prev":"00"']) {
    appendFileSync(join(dir, '000001.ndjson'), part)
    expect(await rows('SELECT seq, type FROM ledger')).toEqual([{ seq: '1', type: 'run_started' }])
  }
})
