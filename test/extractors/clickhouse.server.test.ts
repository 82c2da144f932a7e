import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createClient } from '@clickhouse/client'
import { beforeAll, describe, expect, it } from 'vitest'
import clickhouse from '../../src/extractors/clickhouse.ts'
import { BreakingProxy } from '../harness/breaking-proxy.ts'
import { temporaryFolder } from '../harness/cli.ts'
import { freshClickHouseDatabase } from '../harness/servers/fresh.ts'
import { serverSuite } from '../harness/servers/suite.ts'
import { SmallJob } from '../harness/small-job.ts'
import { type StagedRunOptions, stagedRun } from '../harness/staged-run.ts'

const LONG = process.env['ADFLOW_TEST_LONG'] === '1'
const ROWS = LONG ? 300_000 : 6000

/** Type, SQL of the value, and how it stands in a record. */
const VALUES: readonly (readonly [type: string, sql: string, json: string])[] = [
  ['UInt64', '18446744073709551615', '"18446744073709551615"'],
  ['Int8', '-128', '-128'],
  ['Int128', "'-170141183460469231731687303715884105728'", '"-170141183460469231731687303715884105728"'],
  [
    'UInt256',
    "'1157920892373161954235709850086879078532699846656405'",
    '"1157920892373161954235709850086879078532699846656405"',
  ],
  ['Decimal(38, 18)', "'12345678901234567890.123456789012345678'", '"12345678901234567890.123456789012345678"'],
  ['Float64', 'nan', '"nan"'],
  ['Float64', '-inf', '"-inf"'],
  ['Float64', '-0.0', '"-0"'],
  ['Float32', '0.1', '"0.1"'],
  ['DateTime', "'2026-10-25 00:30:00'", '"2026-10-25 00:30:00Z"'],
  ["DateTime('Europe/Berlin')", 'toDateTime(1792888200)', '"2026-10-25 00:30:00Z"'],
  ["DateTime('Europe/Berlin')", 'toDateTime(1792891800)', '"2026-10-25 01:30:00Z"'],
  ["DateTime64(6, 'Asia/Tokyo')", "'2026-03-01 10:00:00.123456'", '"2026-03-01 01:00:00.123456Z"'],
  ['Date32', "'1900-01-01'", '"1900-01-01"'],
  ['Nullable(String)', 'NULL', 'null'],
  ['Nullable(String)', "''", '""'],
  ['Nullable(Decimal(9, 2))', 'NULL', 'null'],
  ['LowCardinality(Nullable(String))', "'a\\nb\\t\\\"ü😀\\\\'", '"a\\nb\\t\\"ü😀\\\\"'],
  ["Enum8('on' = 1, 'off' = 2)", "'off'", '"off"'],
  ['UUID', "'61f0c404-5cb3-11e7-907b-a6006ad3dba0'", '"61f0c404-5cb3-11e7-907b-a6006ad3dba0"'],
  ['FixedString(4)', "'ab'", '"ab\\u0000\\u0000"'],
  ['Bool', 'true', 'true'],
  ['Array(UInt64)', '[18446744073709551615, 0]', '["18446744073709551615","0"]'],
  ['Array(Float64)', '[nan, 1.5]', '["nan",1.5]'],
  [
    'Map(String, Decimal(38, 18))',
    "map('k', toDecimal128('0.000000000000000001', 18))",
    '{"k":"0.000000000000000001"}',
  ],
  ['Tuple(a Int8, b Nullable(String))', '(1, NULL)', '{"a":1,"b":null}'],
  ["Array(DateTime('Asia/Tokyo'))", "['2026-03-01 10:00:00']", '["2026-03-01T01:00:00Z"]'],
  ['IPv6', "'::1'", '"::1"'],
]

await serverSuite('the source ClickHouse', ['clickhouse'], ({ clickhouse: { url: serverUrl, readerUrl } }) => {
  let url: string
  let reader: string
  const as = (user: string) => reader.replace('reader:reader@', `${user}:${user}@`)
  const folder = () => mkdtempSync(join(tmpdir(), 'adflow-clickhouse-'))
  const sql = async (query: string) => {
    const client = createClient({ url })
    try {
      const { stream } = await client.exec({ query, clickhouse_settings: { wait_end_of_query: 1 } })
      return (await stream.toArray()).join('').trim()
    } finally {
      await client.close()
    }
  }
  const read = (options: object, where = folder(), run: Partial<StagedRunOptions> = {}) =>
    stagedRun(
      clickhouse,
      { url: reader, retry: { attempts: 3, initial: '5ms', max: '10ms' }, ...options },
      { root: where, stage: join(where, 'stage'), parallel: 4, ...run },
    )
  const ids = (records: readonly string[]) => records.map((line) => Number((JSON.parse(line) as { id: string }).id))
  const upTo = (count: number, from = 0) => Array.from({ length: count }, (_, n) => from + n)

  beforeAll(async () => {
    const database = await freshClickHouseDatabase({ url: serverUrl, readerUrl, native: '' })
    url = database.url
    reader = `${readerUrl}/${database.name}`
    return () => database.remove()
  })

  it('writes every value as it is, also for a user who may change no setting', async () => {
    const columns = VALUES.map(([type], n) => `c${n} ${type}`)
    await sql(`CREATE TABLE kinds (id UInt64, ${columns.join(', ')}) ENGINE = MergeTree ORDER BY id`)
    await sql(`INSERT INTO kinds SELECT 1, ${VALUES.map(([, value]) => value).join(', ')}`)
    const wanted = `{"id":"1",${VALUES.map(([, , json], n) => `"c${n}":${json}`).join(',')}}`
    expect((await read({ table: 'kinds', cursor: ['id'] })).records).toEqual([wanted])
    const plain = VALUES.flatMap(([type], n) => (/^(?:Array|Map)/.test(type) ? [] : [`c${n}`]))
    const frozen = await read({ url: as('frozen'), table: 'kinds', columns: plain, cursor: ['id'] })
    expect(frozen).toMatchObject({ gaps: [], records: [expect.any(String)] })
    expect(JSON.parse(frozen.records[0] ?? '')).toMatchObject({ id: '1', c0: '18446744073709551615', c5: 'nan' })
    const { gaps } = await read({ url: as('frozen'), table: 'kinds', cursor: ['id'] })
    expect(gaps).toMatchObject([
      { code: 'SOURCE_UNSUPPORTED', message: expect.stringMatching(/quote_denormals.*NaN in c23.*readonly = 2/s) },
    ])
  })

  it('loads a table by lanes and ties, whole, and then what is new', async () => {
    await sql(
      'CREATE TABLE events (id UInt64, seen DateTime64(6), cost Decimal(38, 18), name Nullable(String)) ENGINE = MergeTree PARTITION BY id % 3 ORDER BY (seen, id)',
    )
    const insert = (count: number, from: number) =>
      sql(
        `INSERT INTO events SELECT 9007199254740993 + number, toDateTime64('2026-01-01 00:00:00.000001', 6, 'UTC') + intDiv(number, 700), toDecimal128(number, 18) / 7, if(number % 5 = 0, NULL, if(number % 5 = 1, '', concat('ü', toString(number)))) FROM numbers(${from}, ${count})`,
      )
    await insert(ROWS, 0)
    const truth = async () =>
      JSON.parse(
        await sql(
          `SELECT toUInt32(count()) AS n, toUInt32(uniqExact(id)) AS ids, toString(sum(cost)) AS cost, toString(sum(toInt128(toUnixTimestamp64Micro(seen)))) AS micros, toUInt32(countIf(name = '')) AS empty, toUInt32(countIf(name IS NULL)) AS none FROM events FORMAT JSONEachRow`,
        ),
      ) as object
    const held =
      "SELECT count(*)::INTEGER AS n, count(DISTINCT id)::INTEGER AS ids, rtrim(sum(cost)::VARCHAR, '0') AS cost, sum(epoch_us(seen))::VARCHAR AS micros, count_if(name = '')::INTEGER AS empty, count_if(name IS NULL)::INTEGER AS none FROM w.rows"
    const { path, remove } = temporaryFolder('clickhouse')
    const job = new SmallJob(
      path,
      `version: 1
name: rows
extract:
  input: { type: clickhouse, url: "${reader}", table: events, cursor: [seen], query_rows: ${ROWS / 20}, parallel: { by: modulo, of: id, count: 3 } }
contract:
  columns: { id: { type: bigint, required: true }, seen: timestamp, cost: "decimal(38,18)", name: varchar }
load:
  warehouse: { type: duckdb, path: warehouse.duckdb, table: rows }
resources: { chunk: ${LONG ? 4 : 0.2}MB }
`,
    )
    expect(await job.summary()).toMatchObject({ exit: 0, read: ROWS })
    expect(await job.warehouse(held)).toEqual([await truth()])
    await insert(1000, ROWS + 700)
    expect(await job.summary()).toMatchObject({ exit: 0, read: 1000 })
    expect(await job.warehouse(held)).toEqual([await truth()])
    remove()
  })

  it('goes on behind the last page that is durable, with lanes of partitions', async () => {
    await sql('CREATE TABLE parts (id UInt32, pad String) ENGINE = MergeTree PARTITION BY id % 2 ORDER BY id')
    await sql("INSERT INTO parts SELECT number, repeat('x', 200) FROM numbers(4000)")
    const options = { table: 'parts', cursor: ['id'], parallel: { by: 'partition' } }
    const where = folder()
    const first = await read(options, where, { chunks: 3, chunkBytes: 100_000 })
    const rest = await read(options, where, { from: first.positions, chunkBytes: 100_000 })
    expect(first.records.length).toBeLessThan(4000)
    expect(ids([...first.records, ...rest.records]).sort((a, b) => a - b)).toEqual(upTo(4000))
  })

  it('reads the lag again, leaves out what it has by its key, and leaves the youngest to a later run', async () => {
    await sql('CREATE TABLE late (id UInt32, at DateTime64(3)) ENGINE = MergeTree ORDER BY at')
    const insert = (id: number, seconds: number) =>
      sql(`INSERT INTO late SELECT ${id}, now64(3) - toIntervalSecond(${seconds})`)
    await insert(1, 9000)
    await insert(2, 5000)
    const options = { table: 'late', cursor: ['at'], lag: '30m', key: ['id'], settle: '10m' }
    const where = folder()
    const first = await read(options, where)
    expect(ids(first.records)).toEqual([1, 2])
    await insert(3, 6000) // late, within the lag
    await insert(4, 8000) // too late
    await insert(5, 1000)
    await insert(6, 1) // too young
    const second = await read(options, where, { from: first.positions })
    expect(ids(second.records)).toEqual([3, 5])
    expect((await read(options, where, { from: second.positions })).records).toEqual([])
  })

  it('takes an error in the middle of an answer for an error, and keeps the pages before it', async () => {
    const query = "SELECT number AS id, repeat('x', 100) AS pad, throwIf(number = 50000) AS t FROM numbers(100000)"
    const where = folder()
    const broken = await read({ query, cursor: ['id'] }, where)
    expect(broken.gaps).toMatchObject([{ code: 'SOURCE_UNSUPPORTED', message: expect.stringMatching(/throwIf/) }])
    const settings = ' SETTINGS max_block_size = 1000, max_threads = 1'
    const whole = await read({ query: `SELECT * FROM (${query})${settings}`, again: 'all' })
    expect(whole).toMatchObject({ records: [], gaps: [{ code: 'SOURCE_UNSUPPORTED' }] })
  })

  it('goes on behind what is whole where answers break off, and stops where it is refused in the middle', async () => {
    await sql('CREATE TABLE long (id UInt32, pad String) ENGINE = MergeTree ORDER BY id')
    await sql('INSERT INTO long SELECT number, hex(sipHash128(number)) FROM numbers(30000)')
    await using proxy = await BreakingProxy.before(reader)
    let answers = 0
    const isData = (body: string) => body.includes('FORMAT JSONEachRow') && body.includes('__adflow_0')
    const options = { url: proxy.url, table: 'long', cursor: ['id'], query_rows: 10_000 }
    proxy.interfere = ({ body }) => (isData(body) && answers++ % 2 === 0 ? 200_000 : false)
    const whole = await read(options)
    expect(whole.gaps).toEqual([])
    expect(answers).toBeGreaterThan(4)
    expect(ids(whole.records)).toEqual(upTo(30_000))

    const refusals: readonly (readonly [number, string, string, RegExp])[] = [
      [403, 'Code: 516. DB::Exception: adflow: Authentication failed', 'SOURCE_DENIED', /Authentication failed/],
      [200, '<html>a proxy</html>', 'SOURCE_UNREADABLE', /HTML/],
      [502, '<html>a proxy</html>', 'SOURCE_UNREADABLE', /HTML/],
    ]
    for (const [status, text, code, message] of refusals) {
      answers = 0
      proxy.interfere = ({ body }, response) => {
        if (!isData(body) || answers++ === 0) return false
        response.writeHead(status).end(text)
        return true
      }
      const where = folder()
      const refused = await read(options, where)
      expect(refused.gaps).toMatchObject([{ code, message: expect.stringMatching(message) }])
      expect(ids(refused.records)).toEqual(upTo(10_000))
      proxy.interfere = () => false
      const rest = await read(options, where, { from: refused.positions })
      expect(ids(rest.records)).toEqual(upTo(20_000, 10_000))
    }
  })

  it('takes rows that read like an error for rows, also of a server that does not mark its errors', async () => {
    await sql('CREATE TABLE told (id UInt32, text String) ENGINE = MergeTree ORDER BY id')
    await sql("INSERT INTO told SELECT number, 'Code: 241. DB::Exception: Memory limit exceeded' FROM numbers(100)")
    await using proxy = await BreakingProxy.before(reader)
    proxy.withheld = ['x-clickhouse-exception-tag']
    let keptBack = 0
    proxy.interfere = ({ path }) => {
      keptBack += path.includes('wait_end_of_query=1') ? 1 : 0
      return false
    }
    const { records, gaps } = await read({ url: proxy.url, table: 'told', cursor: ['id'] })
    expect(gaps).toEqual([])
    expect(ids(records)).toEqual(upTo(100))
    expect(keptBack).toBe(1)
  })

  describe('says clearly what is wrong', () => {
    beforeAll(async () => {
      await sql('CREATE TABLE plain (id UInt64, f Float64, maybe Nullable(UInt8)) ENGINE = MergeTree ORDER BY id')
      await sql('INSERT INTO plain SELECT number, 1, 1 FROM numbers(50)')
    })
    const by = { table: 'plain', cursor: ['id'] }
    it.each<[string, () => object, string, RegExp]>([
      ['a wrong password', () => ({ url: reader.replace(':reader@', ':wrong@'), ...by }), 'SOURCE_DENIED', /password/],
      ['no such table', () => ({ table: 'nope', cursor: ['id'] }), 'SOURCE_MISSING', /nope/],
      ['no such column', () => ({ table: 'plain', columns: ['nope'], cursor: ['id'] }), 'SOURCE_MISSING', /nope/],
      [
        'no such cursor',
        () => ({ table: 'plain', cursor: ['nope'] }),
        'SOURCE_MISSING',
        /no column nope.*id, f, maybe/s,
      ],
      [
        'a cursor that may be NULL',
        () => ({ table: 'plain', cursor: ['maybe'] }),
        'SOURCE_UNSUPPORTED',
        /assumeNotNull/,
      ],
      ['a cursor of floats', () => ({ table: 'plain', cursor: ['f'] }), 'SOURCE_UNSUPPORTED', /no total order/],
      ['bad SQL', () => ({ query: 'SELEKT 1', again: 'all' }), 'SOURCE_UNSUPPORTED', /Syntax error/],
      [
        'a user whose answers are cut',
        () => ({ url: as('short'), ...by }),
        'SOURCE_UNSUPPORTED',
        /result_overflow_mode is break/,
      ],
      ['no server', () => ({ url: 'http://127.0.0.1:1/default', ...by }), 'SOURCE_UNREADABLE', /ECONNREFUSED/],
    ])('%s', async (_, options, code, message) => {
      const { gaps, records } = await read(options())
      expect(records).toEqual([])
      expect(gaps).toMatchObject([{ code, message: expect.stringMatching(message) }])
    })

    it('and is not misled by limits of a user, whether it may lift them or not', async () => {
      for (const user of ['hasty', 'frozen'])
        expect(ids((await read({ url: as(user), ...by })).records)).toEqual(upTo(50))
    })
  })

  it('is diagnosed before a run', async () => {
    await sql('CREATE TABLE IF NOT EXISTS plain (id UInt64) ENGINE = MergeTree ORDER BY id')
    const checks = async (options: object) => {
      const env = { baseDir: '.', answerMs: 5000, signal: new AbortController().signal, now: Date.now }
      const { findings } =
        clickhouse.diagnose?.(clickhouse.options.parse({ url: reader, ...options }), env as never) ?? {}
      const found: string[] = []
      for await (const { check, status } of findings ?? []) found.push(`${check} ${status}`)
      return found
    }
    expect(await checks({ table: 'plain', cursor: ['id'] })).toEqual(
      ['reachable', 'version', 'tls', 'target', 'permission', 'clock'].map((check) => `${check} ok`),
    )
    expect(await checks({ table: 'nope', cursor: ['id'] })).toContain('target failed')
  })
})
