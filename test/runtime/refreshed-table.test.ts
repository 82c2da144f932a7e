/** Versions of reference data in the engine: which session sees which, and what becomes of those that nobody sees. */
import { mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { ReferenceRefresh } from '../../src/core/step-contract.ts'
import { Engine, type Session } from '../../src/engine/session.ts'
import { type LoadOptions, ReferenceTables } from '../../src/runtime/reference-tables.ts'

const MINUTE: ReferenceRefresh = { everyMs: 20, maxAgeMs: undefined }

let folder: string
let engine: Engine
let session: Session

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'adflow-refreshed-'))
  engine = await Engine.open({ memoryBytes: 200_000_000, threads: 1, tempFolder: folder, folders: [folder] })
  session = await engine.connect()
  put(1)
})
afterEach(() => {
  session.close()
  engine.close()
  rmSync(folder, { recursive: true })
})

function put(rate: number | string) {
  writeFileSync(join(folder, 'new'), `side,rate\nleft,${rate}\n`)
  renameSync(join(folder, 'new'), join(folder, 'rates.csv'))
}

const load = (refresh = MINUTE) => {
  const place = join(folder, 'rates.csv')
  const columns = [
    { name: 'side', type: 'VARCHAR' },
    { name: 'rate', type: 'BIGINT' },
  ]
  const source = { kind: 'file', file: place }
  const common = { table: '"rates"', key: 'lookup_1.rates', name: 'rates', path: [], keys: [['side']] }
  const reference = { ...common, place, copy: place, source, columns, refresh }
  const pipeline = { references: [reference], job: { baseDir: folder } }
  const state = { chunks: folder }
  const options = {
    engine,
    session,
    pipeline,
    state,
    locate: undefined,
    copies: folder,
    log: pino({ level: 'silent' }),
  }
  return ReferenceTables.load(options as unknown as LoadOptions)
}
const seen = async (by: Session) => Number(await by.value('SELECT rate FROM rates'))
const tables = async () =>
  Number(await session.value(`SELECT count(*) FROM duckdb_tables() WHERE table_name LIKE 'lookup_1.rates@%'`))

/** Until batches are planned with another version than `before`. */
async function changed(references: ReferenceTables, before: object | undefined): Promise<object | undefined> {
  for (;;) {
    const now = references.hold(undefined)
    references.release(now)
    if (JSON.stringify(now) !== JSON.stringify(before)) return now
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

test('each session sees its own version; one that nobody sees is dropped, and comes back from its copy', async () => {
  const references = await load()
  const told: string[] = []
  references.keepFresh({ warn: (text) => told.push(text), failed: (error) => told.push(String(error)) })
  const first = references.hold(undefined)
  const other = await engine.connect()
  await references.show(other, first)
  put(2)
  const second = await changed(references, first)
  await references.show(session, references.hold(undefined))
  expect([await seen(other), await seen(session)]).toEqual([1, 2])
  expect(await tables()).toBe(2)

  references.release(first)
  put('none')
  while (told.length === 0) await new Promise((resolve) => setTimeout(resolve, 5))
  expect(told[0]).toMatch(/rates cannot be read again, and stay as they were/)
  expect(references.hold(undefined)).toEqual(second)
  put(3)
  await changed(references, second)
  await references.show(session, references.hold(undefined))
  expect(await seen(session)).toBe(3)
  await vi.waitFor(async () => expect(await tables()).toBe(2), { timeout: 20_000 })
  put(1)
  await changed(references, references.hold(undefined))
  await references.show(other, references.hold(second as Record<string, string>))
  expect(await seen(other)).toBe(2)

  await references.close()
  for (const name of readdirSync(folder).filter((file) => /^[0-9a-f]{64}/.test(file))) rmSync(join(folder, name))
  await expect(references.show(session, { 'lookup_1.rates': `${'0'.repeat(64)}.csv` })).rejects.toMatchObject({
    code: 'STATE_MISSING',
  })
  other.close()
})

test('each reason why they cannot be read is told once until they are read: one that passes does not hide one that lasts', async () => {
  const references = await load()
  const told: string[] = []
  references.keepFresh({ warn: (text) => told.push(text), failed: (error) => told.push(String(error)) })
  const toldOf = (count: number) => vi.waitFor(() => expect(told).toHaveLength(count), { timeout: 20_000 })
  rmSync(join(folder, 'rates.csv'))
  await toldOf(1)
  put('4\nleft,5')
  await toldOf(2)
  rmSync(join(folder, 'rates.csv'))
  await new Promise((resolve) => setTimeout(resolve, 200))
  put(6)
  await changed(references, references.hold(undefined))
  put('7\nleft,8')
  await toldOf(3)
  await references.close()
  const reasons = [/read the reference data .*rates\.csv/, /1 repeated key/, /1 repeated key/]
  expect(told).toEqual(reasons.map((reason) => expect.stringMatching(reason)))
})

test('what is too old fails a run with an end, and holds back one without until it is told to stop', async () => {
  const references = await load({ everyMs: 60_000, maxAgeMs: 1 })
  await new Promise((resolve) => setTimeout(resolve, 5))
  const stop = new AbortController()
  await expect(references.ready(false, stop.signal)).rejects.toMatchObject({ code: 'SOURCE_UNREADABLE' })
  const waiting = references.ready(true, stop.signal)
  expect(
    await Promise.race([waiting.then(() => 'over'), new Promise((resolve) => setTimeout(resolve, 30, 'waits'))]),
  ).toBe('waits')
  stop.abort()
  await waiting
  await references.close()
})
