/** Whatever a source holds: the good records of a run are loaded, the bad ones are kept with their bytes and place, the books close. */
import { execFileSync } from 'node:child_process'
import { appendFileSync, mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync, gzipSync } from 'node:zlib'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { RunSummary } from '../../src/runtime/summary.ts'
import { temporaryFolder } from '../harness/cli.ts'
import { duckdbRows } from '../harness/engine.ts'
import { bytesOf, PeakMemory, ROWS_JOB, SmallJob } from '../harness/small-job.ts'

const GIB = 2 ** 30

let folder: ReturnType<typeof temporaryFolder>
let job: SmallJob

beforeEach(() => {
  folder = temporaryFolder('bad-input')
  job = new SmallJob(folder.path)
})

afterEach(() => folder.remove())

function lines(from: number, to: number): string {
  return Array.from(
    { length: to - from },
    (_, i) => `{"id":${from + i},"n":${i % 100},"name":"name ${from + i}"}\n`,
  ).join('')
}

/** Ids in both stores, as text: they may lie beyond 2^53. */
async function loadedIds(): Promise<string[]> {
  const ids = (rows: Record<string, unknown>[]) => rows.map(({ id }) => String(id))
  const warehouse = ids(await job.warehouse('SELECT id FROM w.rows ORDER BY id'))
  if (warehouse.length > 0) expect(ids(await job.archive('SELECT id FROM archive ORDER BY id'))).toEqual(warehouse)
  return warehouse
}

/** How many rows both stores hold; none of them twice. */
async function loadedRows(): Promise<number> {
  const what = 'count(*) AS n, count(DISTINCT id) AS ids'
  const [warehouse] = await job.warehouse(`SELECT ${what} FROM w.rows`)
  expect(warehouse?.['ids']).toBe(warehouse?.['n'])
  expect(await job.archive(`SELECT ${what} FROM archive`)).toEqual([warehouse])
  return Number(warehouse?.['n'])
}

function expectBalanced(summary: RunSummary): void {
  const { read, passed, quarantined, filtered, deduplicated, unaccounted, stores } = summary
  expect(unaccounted).toBe(0)
  expect(read).toBe(passed + quarantined + filtered + deduplicated)
  for (const store of Object.values(stores)) expect(store).toMatchObject({ loaded: passed, owed: 0 })
}

/** Every quarantined record stands with its own bytes, at the bytes and the line that it names. */
function expectOriginals(): void {
  for (const record of job.quarantine()) {
    const file = readFileSync(record.origin)
    const source = record.origin.endsWith('.gz') ? gunzipSync(file) : file
    const original = source.subarray(record.byte_from, record.byte_to)
    expect(bytesOf(record).equals(original), `${record.origin} from ${record.byte_from}`).toBe(true)
    const before = source.subarray(0, record.byte_from).toString('latin1').split('\n')
    expect(record.line).toBe(before.length)
  }
}

describe('records that are not what the contract says', () => {
  const bytes = (...parts: (string | number[])[]) =>
    Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part) : Buffer.from(part))))
  const nested = (depth: number) => `${'['.repeat(depth)}${']'.repeat(depth)}`

  it.each<{
    what: string
    name?: string
    content: string | Buffer
    good: string[]
    bad: [line: number, rule: string, field: string | null, reason: RegExp][]
  }>([
    {
      what: 'invalid UTF-8',
      content: bytes('{"id":1}\n{"id":2,"name":"', [0xff, 0xfe], '"}\n{"id":3,"name":"ü"}\n', [0xc3], '\n'),
      good: ['1', '3'],
      bad: [
        [2, 'malformed', null, /not valid UTF-8/],
        [4, 'malformed', null, /not valid UTF-8/],
      ],
    },
    {
      what: 'NUL bytes',
      content: '{"id":1}\n{"id":2,"name":"b\0c"}\n\0\0\0\n{"id":3,"name":"b\\u0000c"}\n',
      good: ['1', '3'],
      bad: [
        [2, 'malformed', null, /NUL byte/],
        [3, 'malformed', null, /NUL byte/],
      ],
    },
    {
      what: 'lone surrogates',
      content: '{"id":1}\n{"id":2,"name":"\\ud800"}\n{"id":3,"name":"\\udc00x"}\n{"id":4,"name":"\\ud83d\\ude00"}\n',
      good: ['1', '4'],
      bad: [
        [2, 'malformed', null, /lone surrogate/],
        [3, 'malformed', null, /lone surrogate/],
      ],
    },
    {
      what: 'integers that do not fit',
      content: [
        '{"id":9223372036854775807,"n":2147483647}',
        '{"id":9223372036854775808}',
        '{"id":-9223372036854775808,"n":-2147483648}',
        '{"id":2,"n":1.5}',
        '{"id":3,"n":2147483648}',
        '{"id":4,"n":true}',
        '{"id":123456789012345678901234567890}',
        '{"id":"5","n":"6"}',
        '',
      ].join('\n'),
      good: ['-9223372036854775808', '5', '9223372036854775807'],
      bad: [
        [2, 'type', 'id', /cannot read 9223372036854775808 as BIGINT/],
        [4, 'type', 'n', /cannot read 1\.5 as INTEGER/],
        [5, 'type', 'n', /cannot read 2147483648 as INTEGER/],
        [6, 'type', 'n', /cannot read true as INTEGER/],
        [7, 'type', 'id', /cannot read 123456789012345678901234567890 as BIGINT/],
      ],
    },
    {
      what: 'keys that stand twice',
      content: '{"id":1,"n":1}\n{"id":2,"id":3}\n{"id":4,"other":1,"other":2}\n',
      good: ['1', '4'],
      bad: [[2, 'malformed', 'id', /the key "id" stands twice/]],
    },
    {
      what: 'values nested 100,000 deep',
      content: [
        '{"id":1}',
        `{"id":2,"other":${nested(1e5)}}`,
        `{"id":3,"other":${'['.repeat(1e5)}}`,
        `{"id":${nested(1e5)}}`,
        '{"id":5}',
        '',
      ].join('\n'),
      good: ['1', '2', '5'],
      bad: [
        [3, 'malformed', null, /not JSON/],
        [4, 'type', 'id', /as BIGINT/],
      ],
    },
    {
      what: 'lines that are no objects, and blank ones',
      content: '{"id":1}\n\n[2]\n3\n"four"\nnull\n{"id":5} {"id":6}\n   \n{"id":7\n{"id":8}\n',
      good: ['1', '8'],
      bad: [
        [3, 'malformed', null, /not a JSON object/],
        [4, 'malformed', null, /not a JSON object/],
        [5, 'malformed', null, /not a JSON object/],
        [6, 'malformed', null, /not a JSON object/],
        [7, 'malformed', null, /not JSON/],
        [9, 'malformed', null, /not JSON/],
      ],
    },
    {
      what: 'CSV with ragged rows, quotes and line ends in quotes',
      name: 'a.csv',
      content:
        'id,n,name\n1,2,a\n2,3\n3,4,b,c\n4,,"x, y"\n5,5,"line\nbreak"\n6,6,say ""hi""\n7,7,"q""q"\n8,8,"a"b\n9,x,z\n10,,""\n',
      good: ['1', '4', '5', '6', '7', '10'],
      bad: [
        [3, 'malformed', null, /^2 fields, not 3 as the header has/],
        [4, 'malformed', null, /^4 fields, not 3 as the header has/],
        [10, 'malformed', null, /after the closing quote of field 3/],
        [11, 'type', 'n', /cannot read x as INTEGER/],
      ],
    },
    {
      what: 'CSV with a byte order mark, CRLF and a quote that is never closed',
      name: 'a.csv',
      content: '\ufeffid,n,name\r\n1,2,"a\r\nb"\r\n2,x,b\r\n3,3,"open\r\n4,4,d\r\n',
      good: ['1', '4'],
      bad: [
        [4, 'type', 'n', /cannot read x as INTEGER/],
        [5, 'malformed', null, /quoted field is never closed/],
      ],
    },
  ])('$what: quarantined by themselves, with their bytes', async ({ name = 'a.ndjson', content, good, bad }) => {
    job.put(`data/${name}`, content)
    const summary = await job.summary()
    expect(summary).toMatchObject({ status: 'done', exit: 0, read: good.length + bad.length, quarantined: bad.length })
    expectBalanced(summary)
    expect(await loadedIds()).toEqual(good)
    expect(job.quarantine().map(({ line, rule, field }) => [line, rule, field])).toEqual(
      bad.map(([line, rule, field]) => [line, rule, field]),
    )
    for (const [index, { reason }] of job.quarantine().entries()) expect(reason).toMatch(bad[index]?.[3] ?? /^$/)
    expectOriginals()
    expect(await job.summary()).toMatchObject({ status: 'done', read: 0 })
  })

  it('`__proto__` and its like are keys and texts as any other', async () => {
    const content = [
      '{"id":1,"__proto__":{"id":9,"polluted":true},"name":"a"}',
      '{"__proto__":{"id":7},"constructor":{"prototype":{"x":1}},"id":2,"name":"__proto__"}',
      '{"__proto__":null,"name":"no id"}',
      '',
    ].join('\n')
    const yaml = ROWS_JOB.replace(
      '    name: varchar\n',
      '    name: varchar\n    hidden: { type: varchar, from: __proto__ }\n',
    )
    for (const text of [ROWS_JOB, yaml, ROWS_JOB.replace('  columns:', '  unknown: evolve\n  columns:')]) {
      rmSync(folder.path, { recursive: true })
      job = new SmallJob(folder.path, text)
      job.put('data/a.ndjson', content)
      const summary = await job.summary()
      expect(summary).toMatchObject({ status: 'done', read: 3, passed: 2, quarantined_by: { required: 1 } })
      expectBalanced(summary)
      expect(await job.warehouse('SELECT id, name FROM w.rows ORDER BY id')).toEqual([
        { id: '1', name: 'a' },
        { id: '2', name: '__proto__' },
      ])
      expectOriginals()
    }
  })

  it('a record of the wrong shape costs no other record of its struct or list', async () => {
    const columns = '    id: { type: bigint, required: true }\n    geo: "struct(lat double, tags varchar[])"\n'
    job.put('job.yaml', ROWS_JOB.replace(/ {4}id:[\s\S]*varchar\n/, columns))
    job.put(
      'data/a.ndjson',
      [
        '{"id":1,"geo":{"lat":1.5,"tags":["a"]}}',
        '{"id":2,"geo":[1]}',
        '{"id":3,"geo":{"lat":"north"}}',
        '{"id":4,"geo":{"tags":{"a":1}}}',
        `{"id":5,"geo":{"lat":${'['.repeat(1e5)}${']'.repeat(1e5)}}}`,
        '{"id":6,"geo":null}',
        '',
      ].join('\n'),
    )
    const summary = await job.summary()
    expect(summary).toMatchObject({ status: 'done', read: 6, passed: 2, quarantined: 4 })
    expectBalanced(summary)
    expect(await loadedIds()).toEqual(['1', '6'])
    expect(job.quarantine().map(({ line }) => line)).toEqual([2, 3, 4, 5])
    expectOriginals()
  })
})

describe('the verdict on a record', () => {
  // Each line is an odd record that one reader of JSON takes and another does not.
  const odd = [
    'null',
    '{}',
    '{"id":5,}',
    '{"id":5,"other":"\\ud800"}',
    '{"id":5,"other":1,"other":2}',
    '{"id":5,"name":NaN}',
    '{"id":NaN}',
    '{"id":5,"n":1e2}',
    '{"id":5,"n":"1e2"}',
    '{"id":5,"n":" 7 "}',
    '{"id":5,"name":{"a":[1.10]}}',
    '{"ID":5}',
    '{"id":5,"Id":6}',
    '{"id":5.0,"n":-0}',
    '{"id":1e19}',
    '{"id":[5]}',
    '\t{"id":5}\t',
    '{"id":5,"name":"a\tb"}',
    '{"id":5}\0',
    '{"id":5,"geo":{}}',
    '{"id":5,"geo":[]}',
    '{"id":5,"geo":{"lat":"1.5","other":1}}',
    '{"id":5,"geo":{"lat":1,"lat":2}}',
    '{"id":5,"geo":{"tags":"a"}}',
    '{"id":5,"geo":{"tags":[{"a":1}]}}',
    '{"id":5,"n":0x10}',
    '{"id":5,"n":Infinity}',
    '{"id":5 /* comment */}',
    '{"id":5,"cost":0.1234567890123456789012345}',
    '{"id":5,"cost":"1,5"}',
    '{"id":5,"cost":1.005}',
    '{"id":5,"cost":"1.005"}',
    '{"id":5,"cost":1.50000}',
    '{"id":5,"cost":0.30000000000000004}',
    '{"id":5,"cost":1.00000000000000000000001}',
    '{"id":5,"cost":1e-7}',
    '{"id":5,"cost":1.5e1}',
    '{"id":5,"other":NaN}',
    '{"id":5,"other":[1,]}',
    '{"id":5,"other":{"a":-Infinity,},}',
    '{"id":5,"seen":"2026-02-30"}',
    '{"id":5,"seen":1767225600}',
    '{"id":5} {"id":6}',
  ]
  const columns = `    id: bigint
    n: integer
    name: varchar
    geo: "struct(lat double, tags varchar[])"
    cost: decimal(10,2)
    seen: timestamp
`
  const both = ROWS_JOB.replace(/ {4}id:[\s\S]*varchar\n/, columns)

  async function verdicts(): Promise<{ loaded: unknown[]; refused: unknown[] }> {
    const summary = await job.summary()
    expect(summary).toMatchObject({ exit: 0, read: odd.length })
    expectBalanced(summary)
    const loaded = await job.archive('SELECT * FROM archive ORDER BY ALL')
    const refused = job.quarantine().map(({ rule, field, reason, raw }) => JSON.stringify([raw, rule, field, reason]))
    return { loaded, refused: refused.sort() }
  }

  it('does not depend on its neighbours, nor on the way into the store', async () => {
    job.put('job.yaml', both)
    job.put('data/all.ndjson', odd.map((line) => `${line}\n`).join(''))
    const together = await verdicts()
    expect(together.loaded.length + together.refused.length).toBe(odd.length)
    expectOriginals()
    // Without a second store clean batches are streamed.
    for (const yaml of [both, both.replace(/ {2}warehouse.*\n/, '')]) {
      rmSync(folder.path, { recursive: true })
      job = new SmallJob(folder.path, yaml)
      for (const [index, line] of odd.entries()) job.put(`data/${index}.ndjson`, `${line}\n`)
      expect(await verdicts()).toEqual(together)
    }
  })
})

describe('files that are empty, or full of nothing', () => {
  it('an empty file is no error', async () => {
    job.put('data/a.ndjson', '')
    job.put('data/b.csv', '')
    job.put('data/c.csv', 'id,n,name\n')
    job.put('data/d.ndjson', '\n\n')
    expect(await job.summary()).toMatchObject({ status: 'done', exit: 0, read: 0, gaps: [], warnings: [] })
  })

  it('a file of only malformed lines ends with 65, and all of it is in quarantine', async () => {
    job.put('data/a.ndjson', 'nope\n{"id": \nhello, world\n')
    const summary = await job.summary()
    expect(summary).toMatchObject({
      status: 'rejected',
      exit: 65,
      quarantined_by: { malformed: 3 },
      error: { code: 'NOTHING_ACCEPTED', message: expect.stringContaining('all 3 records'), hint: expect.any(String) },
    })
    expectBalanced(summary)
    expect(await loadedIds()).toEqual([])
    expect(job.quarantine()).toHaveLength(3)
    expectOriginals()
  })

  it('a pattern that matches nothing ends with 69 and says where it looked, unless that is allowed', async () => {
    const summary = await job.summary()
    expect(summary).toMatchObject({ status: 'gaps', exit: 69, error: { code: 'SOURCE_MISSING' } })
    expect(summary.error?.message).toMatch(/no file matches data\/\* in .*allow_empty/)
    job.put('job.yaml', ROWS_JOB.replace('settle: 0s', 'settle: 0s, allow_empty: true'))
    expect(await job.summary()).toMatchObject({ status: 'done', exit: 0, gaps: [] })
  })
})

describe('a line of 200 MB', () => {
  it('between good ones is quarantined by its place, in bounded memory', async () => {
    const file = job.put('data/a.ndjson', '{"id":1}\n{"id":2,"name":"')
    const piece = 'x'.repeat(1 << 20)
    for (let written = 0; written < 200; written += 1) appendFileSync(file, piece)
    appendFileSync(file, '"}\n{"id":3}\n')
    const peak = new PeakMemory()
    const summary = (await job.run([], { started: peak.watch })).json<RunSummary>()
    expect(summary).toMatchObject({ status: 'done', exit: 0, read: 3, quarantined_by: { record_too_large: 1 } })
    expectBalanced(summary)
    expect(await loadedIds()).toEqual(['1', '3'])
    const to = 9 + 16 + 200 * 2 ** 20 + 2
    expect(job.quarantine()).toMatchObject([
      {
        line: 2,
        byte_from: 9,
        byte_to: to,
        rule: 'record_too_large',
        reason: expect.stringContaining('16000000 bytes'),
      },
    ])
    const kept = job.quarantine()[0]?.raw ?? ''
    expect(kept.startsWith('{"id":2,"name":"xxx')).toBe(true)
    expect(kept.length).toBeLessThan(1e5)
    if (process.platform === 'linux') expect(peak.bytes).toBeGreaterThan(0)
    expect(peak.bytes).toBeLessThan(GIB)
  })
})

describe('compressed files', () => {
  const whole = gzipSync(lines(0, 20_000))
  const half = whole.subarray(0, whole.length >> 1)

  it.each(['written over', 'put in its place'])(
    'cut off: complete records are loaded, the run says 65, and the whole file, %s, goes on from there',
    async (how) => {
      const file = job.put('data/a.ndjson.gz', half)
      const first = await job.summary()
      expect(first).toMatchObject({ status: 'gaps', exit: 65, quarantined: 0, error: { code: 'SOURCE_DAMAGED' } })
      expect(first.gaps).toMatchObject([{ lane: 'data/a.ndjson.gz', message: expect.stringContaining('whole copy') }])
      expect(first.read).toBeGreaterThan(1000)
      expectBalanced(first)
      expect(await job.summary()).toMatchObject({ status: 'gaps', exit: 65, read: 0 })

      if (how === 'written over') writeFileSync(file, whole)
      else renameSync(job.put('whole', whole), file)
      const mended = await job.summary()
      expect(mended).toMatchObject({ status: 'done', exit: 0, read: 20_000 - first.read, gaps: [] })
      expectBalanced(mended)
      expect(await loadedRows()).toBe(20_000)
    },
  )

  it.each([
    ['of one endless line', Buffer.alloc(200_000_000, 'a'), 0],
    ['of good records', Buffer.from(`{"id":1,"name":"${'a'.repeat(1000)}"}\n`.repeat(100_000)), 1],
  ])('that are bombs %s end with 65 long before all is unpacked', async (_, content, least) => {
    job.put('data/a.ndjson.gz', gzipSync(content))
    job.put('data/b.ndjson', lines(100, 110))
    const peak = new PeakMemory()
    const summary = (await job.run([], { started: peak.watch })).json<RunSummary>()
    expect(summary).toMatchObject({ status: 'gaps', exit: 65, error: { code: 'SOURCE_BOMB' } })
    expect(summary.error?.message).toMatch(/more than 200 times its size.*max_ratio/)
    expectBalanced(summary)
    expect(summary.passed).toBeGreaterThanOrEqual(10 + least)
    expect(summary.bytes).toBeLessThan(80_000_000)
    expect(peak.bytes).toBeLessThan(GIB)
  })
})

describe('Parquet files', () => {
  const write = (name: string, select: string, options = '') => {
    mkdirSync(join(folder.path, 'data'), { recursive: true })
    return duckdbRows(`COPY (${select}) TO '${folder.path}/data/${name}' (FORMAT parquet${options})`)
  }

  it('with a wrong type: the values that do not fit are quarantined with their row', async () => {
    await write(
      'a.parquet',
      `SELECT i || CASE WHEN i = 4 THEN 'x' ELSE '' END AS id, i * 1.5 AS n, 'p' || i AS name FROM range(10) t(i)`,
    )
    const summary = await job.summary()
    expect(summary).toMatchObject({ status: 'done', read: 10, passed: 4, quarantined_by: { type: 6 } })
    expectBalanced(summary)
    expect(await loadedIds()).toEqual(['0', '2', '6', '8'])
    const found = job.quarantine().sort((a, b) => a.line - b.line)
    expect(found.map(({ line, field }) => [line, field])).toEqual([
      [2, 'n'],
      [4, 'n'],
      [5, 'id'],
      [6, 'n'],
      [8, 'n'],
      [10, 'n'],
    ])
    expect(found.map(({ raw }) => JSON.parse(raw ?? ''))[2]).toEqual({ id: '4x', n: 6.0, name: 'p4' })
  })

  it('that are none, or were cut off, are gaps with 65; the good ones beside them are loaded', async () => {
    await write('good.parquet', 'SELECT i AS id, i AS n FROM range(10) t(i)')
    const good = readFileSync(join(folder.path, 'data/good.parquet'))
    job.put('data/cut.parquet', good.subarray(0, good.length - 20))
    job.put('data/none.parquet', 'this is no Parquet file, and long enough to be looked at')
    const summary = await job.summary()
    expect(summary).toMatchObject({ status: 'gaps', exit: 65, read: 10, passed: 10 })
    expect(summary.gaps.map(({ lane, code }) => [lane, code]).sort()).toEqual([
      ['data/cut.parquet', 'SOURCE_DAMAGED'],
      ['data/none.parquet', 'SOURCE_DAMAGED'],
    ])
    expect(await loadedRows()).toBe(10)
  })

  it.each(['in its first rows', 'in the middle'])(
    'damaged %s under a good footer: a gap with 65; the whole file is loaded exactly once',
    async (where) => {
      job.put('job.yaml', `${ROWS_JOB}resources: { chunk: 10kB }\n`)
      await write(
        'a.parquet',
        `SELECT i AS id, i % 7 AS n, 'p' || i AS name FROM range(10000) t(i)`,
        ', ROW_GROUP_SIZE 2048',
      )
      job.put('data/b.ndjson', lines(50_000, 50_010))
      const file = join(folder.path, 'data/a.parquet')
      const whole = readFileSync(file)
      const damaged = Buffer.from(whole)
      const at = where === 'in the middle' ? damaged.length >> 1 : 100
      for (let byte = at; byte < at + 500; byte += 1) damaged.writeUInt8(damaged.readUInt8(byte) ^ 0xff, byte)
      writeFileSync(file, damaged)
      const first = await job.summary()
      expect(first).toMatchObject({ status: 'gaps', exit: 65, quarantined: 0, error: { code: 'SOURCE_DAMAGED' } })
      expect(first.error?.message).toMatch(/cannot read the rows \d+ to \d+ of .*data\/a\.parquet.*whole copy/)
      expectBalanced(first)
      expect(first.passed).toBe(where === 'in the middle' ? 10 + 2 * 2048 : 10)

      renameSync(job.put('whole', whole), file)
      const mended = await job.summary()
      expect(mended).toMatchObject({ status: 'done', exit: 0, read: 10_010 - first.read, gaps: [] })
      expectBalanced(mended)
      expect(await loadedRows()).toBe(10_010)
    },
  )
})

describe('several bad files beside good ones', () => {
  it('cost the good ones nothing, are booked one by one, and are paid back when they are mended', async () => {
    const data = join(folder.path, 'data')
    job.put('data/01-good.ndjson', lines(0, 100))
    const gzip = gzipSync(lines(1000, 3000))
    job.put('data/02-cut.ndjson.gz', gzip.subarray(0, gzip.length - 500))
    symlinkSync('nowhere', join(data, '03-dangling.ndjson'))
    symlinkSync('04-loop.ndjson', join(data, '04-loop.ndjson'))
    job.put('data/05-not.gz.ndjson.gz', 'not gzip at all\n')
    job.put('data/06-utf16.csv', Buffer.from('\ufeffid,n,name\n5000,1,a\n', 'utf16le'))
    job.put('data/07-header.csv', '"id,n,name\n1,2,3\n')
    job.put('data/08-what.dat', 'x\n')
    job.put('data/09-some-bad.ndjson', `${lines(200, 210)}bad\n${lines(210, 220)}`)
    job.put('data/10-good.csv', 'id,n,name\n300,1,a\n301,2,b\n')
    const first = await job.summary()
    expect(first).toMatchObject({ status: 'gaps', exit: 65, quarantined_by: { malformed: 1 } })
    expect(first.error).toMatchObject({
      code: 'SOURCE_DAMAGED',
      message: expect.stringMatching(/02-cut.*\(and 6 more gaps\)/),
    })
    expectBalanced(first)
    expect(first.gaps.map(({ lane, code }) => [lane.slice(5, 7), code]).sort()).toEqual([
      ['02', 'SOURCE_DAMAGED'],
      ['03', 'SOURCE_UNREADABLE'],
      ['04', 'SOURCE_UNREADABLE'],
      ['05', 'SOURCE_DAMAGED'],
      ['06', 'SOURCE_UNSUPPORTED'],
      ['07', 'SOURCE_DAMAGED'],
      ['08', 'SOURCE_UNSUPPORTED'],
    ])
    for (const { message } of first.gaps) expect(message).toMatch(/data\/0\d-/)
    const ids = await loadedIds()
    const whole = [...Array(100).keys(), ...Array.from({ length: 20 }, (_, i) => 200 + i), 300, 301].map(String)
    expect(whole.filter((id) => !ids.includes(id))).toEqual([])

    job.put('nowhere', '')
    writeFileSync(join(data, 'nowhere'), lines(4000, 4010))
    rmSync(join(data, '04-loop.ndjson'))
    job.put('data/02-cut.ndjson.gz', gzip)
    job.put('data/05-not.gz.ndjson.gz', gzipSync(lines(6000, 6010)))
    job.put('data/06-utf16.csv', 'id,n,name\n5000,1,a\n')
    job.put('data/07-header.csv', '"id",n,name\n7000,2,3\n')
    rmSync(join(data, '08-what.dat'))
    rmSync(join(data, 'nowhere'))
    job.put('data/03-real.ndjson', lines(4000, 4010))
    rmSync(join(data, '03-dangling.ndjson'))
    const second = await job.summary()
    expect(second).toMatchObject({ status: 'done', exit: 0, gaps: [], quarantined: 0 })
    expectBalanced(second)
    expect(await loadedRows()).toBe(100 + 2000 + 20 + 2 + 10 + 10 + 1 + 1)
  })

  it('keep a table that is replaced as it was, until every file could be read', async () => {
    const yaml = ROWS_JOB.replace('table: rows }', 'table: rows, write: replace }').replace(/ {2}archive.*\n/, '')
    job.put('job.yaml', yaml)
    job.put('data/old.ndjson', lines(0, 10))
    expect(await job.summary()).toMatchObject({ status: 'done' })
    const rows = 'SELECT count(*) AS n FROM w.rows'
    job.put('data/good.ndjson', lines(100, 150))
    job.put('data/cut.parquet', 'this is no Parquet file, and long enough to be looked at')
    expect(await job.summary()).toMatchObject({ status: 'gaps', exit: 65, passed: 50 })
    expect(await job.warehouse(rows)).toEqual([{ n: '10' }])
    rmSync(join(folder.path, 'data/cut.parquet'))
    job.put('data/mended.ndjson', lines(200, 205))
    expect(await job.summary()).toMatchObject({ status: 'done', passed: 5 })
    expect(await job.warehouse(rows)).toEqual([{ n: '55' }])
  })

  it('that cannot be opened at all (a folder, a pipe) are named', async () => {
    job.put('data/good.ndjson', lines(0, 5))
    mkdirSync(join(folder.path, 'data/folder.ndjson'))
    execFileSync('mkfifo', [join(folder.path, 'data/pipe.ndjson')])
    job.put(
      'job.yaml',
      ROWS_JOB.replace('"data/*"', '[data/good.ndjson, data/folder.ndjson, data/pipe.ndjson, data/missing.ndjson]'),
    )
    const summary = await job.summary()
    expect(summary).toMatchObject({ status: 'gaps', exit: 65, passed: 5 })
    expect(Object.fromEntries(summary.gaps.map(({ lane, code }) => [lane, code]))).toEqual({
      'data/folder.ndjson': 'SOURCE_UNSUPPORTED',
      'data/pipe.ndjson': 'SOURCE_UNSUPPORTED',
      'data/missing.ndjson': 'SOURCE_MISSING',
    })
    expect(await loadedRows()).toBe(5)
  })
})

describe('an error budget', () => {
  it('counts each record once, also where the store was to read the batch by itself', async () => {
    const budget = 'validate:\n  - { budget: { ratio: 0.06 } }\nload:'
    job.put('job.yaml', ROWS_JOB.replace('load:', budget).replace(/ {2}warehouse.*\n/, ''))
    job.put('data/a.ndjson', `${lines(0, 90)}${'bad\n'.repeat(10)}`)
    const summary = await job.summary()
    expect(summary).toMatchObject({ exit: 65, passed: 0, error: { code: 'DATA_REJECTED' } })
    expect(summary.error?.message).toContain('10 of 100 records of this run were rejected')
  })
})

describe('a query', () => {
  it('asks the quarantine although a store cannot be opened, and also where it is empty', async () => {
    job.put('deep', 'a file')
    job.put('job.yaml', ROWS_JOB.replace('warehouse.duckdb', 'deep/warehouse.duckdb'))
    const asked = await job.command([
      'query',
      'select count(failures) as n from quarantine',
      '--job',
      job.file,
      '--json',
    ])
    expect(asked.json(), asked.stderr).toMatchObject({ rows: [{ n: '0' }] })
  })
})
