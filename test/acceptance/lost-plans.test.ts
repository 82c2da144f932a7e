/**
 * A plan can be lost after its batch has left traces and before any store has it: the newest checkpoint slot is damaged right
 * after a kill, or somebody moves a position. When the file has grown meanwhile, its end is cut otherwise and gets another token.
 */
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { RunSummary } from '../../src/runtime/summary.ts'
import { temporaryFolder } from '../harness/cli.ts'
import { duckdbRows } from '../harness/engine.ts'
import { ROWS_JOB, SmallJob } from '../harness/small-job.ts'

/** A store that is down ends the run after the marks: the failpoint. */
const DEDUPE_JOB = `${ROWS_JOB.replace('load:', 'transform:\n  - dedupe: { key: [id] }\nload:')}spool: { max_bytes: 0B, when_full: fail }
retry: { attempts: 1 }
`

let folder: ReturnType<typeof temporaryFolder>
let job: SmallJob

beforeEach(() => {
  folder = temporaryFolder('lost-plans')
  job = new SmallJob(folder.path, DEDUPE_JOB)
})

afterEach(() => folder.remove())

function lines(from: number, to: number): string {
  return Array.from({ length: to - from }, (_, i) => `{"id":${from + i}}\n`).join('')
}

function append(text: string): void {
  job.put('data/a.ndjson', `${readFileSync(join(folder.path, 'data/a.ndjson'), 'utf8')}${text}`)
}

/** Both stores away; the function returned brings them back. */
function takeStoresDown(): () => void {
  for (const store of ['warehouse.duckdb', 'archive'])
    renameSync(join(folder.path, store), join(folder.path, `${store}.away`))
  mkdirSync(join(folder.path, 'warehouse.duckdb'))
  job.put('archive', 'a file')
  return () => {
    for (const store of ['warehouse.duckdb', 'archive']) {
      rmSync(join(folder.path, store), { recursive: true })
      renameSync(join(folder.path, `${store}.away`), join(folder.path, store))
    }
  }
}

function newestSlot(): string {
  const slots = readdirSync(job.state).filter((name) => /^checkpoint\.[ab]$/.test(name))
  const generation = (name: string) =>
    Number(/"generation":"(\d+)"/.exec(readFileSync(join(job.state, name), 'utf8'))?.[1] ?? 0)
  return join(job.state, slots.sort((a, b) => generation(b) - generation(a))[0] ?? '')
}

/** Loads ids below 10, then leaves a batch of ids below 15 (and a malformed line) planned and marked, in no store. */
async function leaveMarks(): Promise<() => void> {
  job.put('data/a.ndjson', lines(0, 10))
  expect(await job.summary()).toMatchObject({ status: 'done', exit: 0 })
  const mend = takeStoresDown()
  append(`${lines(10, 15)}bad\n`)
  expect(await job.summary()).toMatchObject({ exit: 69, error: { code: 'SPOOL_FULL' } })
  expect(job.quarantine()).toHaveLength(1)
  return mend
}

async function expectAll(summary: RunSummary, ids: number): Promise<void> {
  expect(summary).toMatchObject({ status: 'done', exit: 0, unaccounted: 0, deduplicated: 0 })
  const counts = 'count(*) AS n, count(DISTINCT id) AS ids'
  const whole = [{ n: String(ids), ids: String(ids) }]
  expect(await job.warehouse(`SELECT ${counts} FROM w.rows`)).toEqual(whole)
  expect(await job.archive(`SELECT ${counts} FROM archive`)).toEqual(whole)
  expect(job.quarantine()).toHaveLength(1)
}

describe('the plan of a batch that is marked and in no store', () => {
  it.each<[what: string, lose: () => Promise<void>]>([
    ['lost with the newest checkpoint slot', async () => writeFileSync(newestSlot(), 'garbage')],
    [
      'dropped by `state rewind`',
      async () => {
        const rewound = await job.command(['state', 'rewind', job.file, 'input', '--reason', 'test'])
        expect(rewound.code, rewound.stderr).toBe(0)
      },
    ],
    [
      'dropped by `state set`',
      async () => {
        const at = String(lines(0, 10).length)
        const set = await job.command(['state', 'set', job.file, 'input', 'data/a.ndjson', at, '--reason', 'test'])
        expect(set.code, set.stderr).toBe(0)
      },
    ],
  ])('%s takes no record along, though the file has grown', async (_, lose) => {
    const mend = await leaveMarks()
    await lose()
    mend()
    append(lines(15, 20))
    await expectAll(await job.summary(), 20)
  })
})

describe('where plans may be lost', () => {
  it('a batch that is only owed is paid once, though the file has grown', async () => {
    job.put('job.yaml', `${ROWS_JOB}retry: { attempts: 1 }\n`)
    job.put('data/a.ndjson', lines(0, 10))
    expect(await job.summary()).toMatchObject({ exit: 0, passed: 10 })
    const slots = readdirSync(job.state).filter((name) => name.startsWith('checkpoint.'))
    const before = slots.map((name) => readFileSync(join(job.state, name)))
    const mend = takeStoresDown()
    append(`${lines(10, 15)}bad\n`)
    expect(await job.summary()).toMatchObject({ exit: 69, stores: { archive: { owed: 5 }, warehouse: { owed: 5 } } })
    for (const [index, name] of slots.entries()) writeFileSync(join(job.state, name), before[index] ?? '')
    const older = slots.find((name) => join(job.state, name) !== newestSlot()) ?? ''
    writeFileSync(join(job.state, older), 'garbage')
    mend()
    append(lines(15, 20))
    await expectAll(await job.summary(), 20)
  })

  it('nothing is read before every store has said what it has', async () => {
    const mend = await leaveMarks()
    writeFileSync(newestSlot(), 'garbage')
    append(lines(15, 20))
    for (let attempt = 0; attempt < 2; attempt += 1)
      expect(await job.summary()).toMatchObject({
        exit: 69,
        read: 0,
        error: {
          code: 'STORE_UNAVAILABLE',
          message: expect.stringMatching(/^plans of batches may be lost.*warehouse cannot be asked: /),
        },
      })
    mend()
    await expectAll(await job.summary(), 20)
  })

  it('a lost checkpoint of a job whose stores have nothing lets the marks go too', async () => {
    job.put('warehouse.duckdb/x', 'a folder')
    job.put('archive', 'a file')
    job.put('data/a.ndjson', `${lines(0, 15)}bad\n`)
    expect(await job.summary()).toMatchObject({ exit: 69, error: { code: 'SPOOL_FULL' } })
    for (const name of readdirSync(job.state).filter((entry) => entry.startsWith('checkpoint.')))
      rmSync(join(job.state, name))
    for (const store of ['warehouse.duckdb', 'archive']) rmSync(join(folder.path, store), { recursive: true })
    append(lines(15, 20))
    await expectAll(await job.summary(), 20)
  })
})

describe('a batch of a damaged file', () => {
  it('that was marked before the damage was found takes no record of the whole copy along', async () => {
    const chunk = 'resources: { chunk: 20kB }\n'
    job.put('job.yaml', `${DEDUPE_JOB.replace(/spool.*\n/, '')}${chunk}`)
    const file = job.put('data/a.parquet', '')
    const write = (rowGroup: number) =>
      duckdbRows(
        `COPY (SELECT i AS id, CASE WHEN i = 3 THEN 'x' ELSE i::VARCHAR END AS n, 'p' AS name, md5(i::VARCHAR) AS other FROM range(6000) t(i)) TO '${file}' (FORMAT parquet, ROW_GROUP_SIZE ${rowGroup})`,
      )
    // The text of a rejected row needs all columns: the damage of one that the contract does not read is found last.
    await write(6000)
    const whole = readFileSync(file)
    const end = whole.length - 8 - whole.readUInt32LE(whole.length - 8)
    for (let byte = end - 5000; byte < end - 4000; byte += 1) whole.writeUInt8(whole.readUInt8(byte) ^ 0xff, byte)
    writeFileSync(file, whole)
    expect(await job.summary()).toMatchObject({ status: 'gaps', exit: 65, read: 0, error: { code: 'SOURCE_DAMAGED' } })
    rmSync(file)
    await write(2048)
    const mended = await job.summary()
    expect(mended).toMatchObject({ status: 'done', exit: 0, passed: 5999, deduplicated: 0, quarantined: 1 })
    expect(mended.batches).toBeGreaterThan(1)
  })
})

describe('state rewind --reload', () => {
  const rewind = (...args: readonly string[]) =>
    job.command(['state', 'rewind', job.file, 'input', '--reload', '--reason', 'test', '--json', ...args])

  it('is refused while a store is owed what it would bring again; paid first, it loads everything once more', async () => {
    job.put('job.yaml', `${ROWS_JOB}retry: { attempts: 1 }\n`)
    job.put('data/a.ndjson', lines(0, 10))
    job.put('archive', 'a file')
    expect(await job.summary()).toMatchObject({ exit: 69, stores: { archive: { owed: 10 } } })
    const refused = await rewind()
    expect(refused.code).toBe(69)
    expect(refused.json()).toMatchObject({
      error: { code: 'STORE_OWED', message: expect.stringContaining('archive is owed 10 rows') },
    })
    rmSync(join(folder.path, 'archive'))
    expect(await job.summary()).toMatchObject({ exit: 0, stores: { archive: { loaded: 10, owed: 0 } } })
    expect((await rewind()).code).toBe(0)
    expect(await job.summary()).toMatchObject({ exit: 0, passed: 10, stores: { archive: { loaded: 10 } } })
    expect(await job.archive('SELECT count(*) AS n, count(DISTINCT id) AS ids FROM archive')).toEqual([
      { n: '20', ids: '10' },
    ])
  })

  it('is refused while another lane is under way, whose batches would get other tokens', async () => {
    job.put('data/b.ndjson', lines(100, 110))
    const mend = await leaveMarks()
    mend()
    const refused = await rewind('--lane', 'data/b.ndjson')
    expect(refused.code).toBe(69)
    expect(refused.json()).toMatchObject({
      error: { message: expect.stringMatching(/of data\/a\.ndjson is under way$/) },
    })
    expect((await rewind()).code).toBe(0)
  })
})

describe('recover', () => {
  it('keeps the epoch of a reload, so that what only one store has is not loaded there again', async () => {
    job.put('job.yaml', `${ROWS_JOB}retry: { attempts: 1 }\n`)
    job.put('data/a.ndjson', lines(0, 10))
    expect(await job.summary()).toMatchObject({ exit: 0 })
    await job.command(['state', 'rewind', job.file, 'input', '--reload', '--reason', 'test'])
    expect(await job.summary()).toMatchObject({ exit: 0, passed: 10 })
    rmSync(job.state, { recursive: true })
    rmSync(join(folder.path, 'archive'), { recursive: true })
    const recovered = await job.command(['recover', job.file, '--json'])
    expect(recovered.json()).toMatchObject({ planned: 1, holes: [] })
    expect(await job.summary()).toMatchObject({
      exit: 0,
      stores: { warehouse: { loaded: 0 }, archive: { loaded: 10 } },
    })
  })
})

describe('a job whose rules change while a batch is in one store and not in the other', () => {
  it('ends with 65 before the other store sees it, and is finished under the rules as they were', async () => {
    const slow = `${ROWS_JOB}spool: { max_bytes: 0B, when_full: fail }\nretry: { attempts: 1 }\n`
    const strict = slow.replace('load:', 'validate:\n  - { id: odd, check: "id % 2 = 1" }\nload:')
    job.put('job.yaml', slow)
    job.put('data/a.ndjson', lines(0, 10))
    job.put('archive', 'a file')
    expect(await job.summary()).toMatchObject({ exit: 69, error: { code: 'SPOOL_FULL' } })
    rmSync(join(folder.path, 'archive'))
    job.put('job.yaml', strict)
    for (let attempt = 0; attempt < 2; attempt += 1)
      expect(await job.summary()).toMatchObject({
        exit: 65,
        error: {
          code: 'UNACCOUNTED',
          message: expect.stringMatching(/store warehouse has 10 rows of .*and the job passes 5 now/),
        },
      })
    expect(job.quarantine()).toEqual([])
    job.put('job.yaml', slow)
    expect(await job.summary()).toMatchObject({
      exit: 0,
      passed: 10,
      stores: { warehouse: { loaded: 0 }, archive: { loaded: 10 } },
    })
  })
})

describe('a range that was rewritten after it was loaded', () => {
  it('ends with 65, is owed to nobody, and holds up no other lane', async () => {
    job.put('job.yaml', `${ROWS_JOB}retry: { attempts: 1 }\n`)
    job.put('data/a.ndjson', lines(0, 10))
    expect(await job.summary()).toMatchObject({ exit: 0, passed: 10 })
    await job.command(['state', 'rewind', job.file, 'input', '--reason', 'test'])
    job.put('data/a.ndjson', lines(0, 10).replace('"id":3', '"id":7'))
    job.put('data/b.ndjson', lines(100, 110))
    const summary = await job.summary()
    expect(summary).toMatchObject({
      status: 'gaps',
      exit: 65,
      passed: 10,
      error: { code: 'STORE_MISMATCH', message: expect.stringContaining('it now has other bytes') },
      gaps: [{ lane: 'data/a.ndjson', code: 'STORE_MISMATCH' }],
    })
    for (const store of Object.values(summary.stores)) expect(store).toMatchObject({ loaded: 10, owed: 0 })
  })
})
