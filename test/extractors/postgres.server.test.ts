import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { afterEach, beforeEach, expect, it } from 'vitest'
import postgres from '../../src/extractors/postgres.ts'
import { onPostgres } from '../conformance/fixtures/postgres.ts'
import { temporaryFolder } from '../harness/cli.ts'
import { diagnosed, statuses } from '../harness/diagnosis.ts'
import { type FreshUrl, freshDatabase } from '../harness/servers/fresh.ts'
import { serverSuite } from '../harness/servers/suite.ts'
import { SmallJob } from '../harness/small-job.ts'
import { writersAtWork } from '../harness/writers.ts'

const LONG = process.env['ADFLOW_TEST_LONG'] === '1'
/** Writers share the machine with other tests. */
const PATIENCE_MS = LONG ? 1_200_000 : 240_000

await serverSuite('the extractor of PostgreSQL', ['postgres'], ({ postgres: server }) => {
  let database: FreshUrl
  let folder: ReturnType<typeof temporaryFolder>
  beforeEach(async () => {
    database = await freshDatabase(server)
    folder = temporaryFolder('postgres-source')
  })
  afterEach(async () => {
    folder.remove()
    await database.remove()
  })

  const sql = (text: string) => onPostgres(database.url, async (client) => (await client.query(text)).rows)
  const jobOf = (extract: Readonly<Record<string, unknown>>, columns: string, load = '', more = '') =>
    new SmallJob(
      folder.path,
      `version: 1
name: rows
extract: { input: ${JSON.stringify({ type: 'postgres', url: database.url, retry: { attempts: 1 }, ...extract })} }
contract: { columns: ${columns} }
load: { warehouse: { type: duckdb, path: warehouse.duckdb, table: rows${load} } }
${more}`,
    )

  it('reads every value exactly, and NULL is not the empty text', async () => {
    await sql(`
      CREATE DOMAIN money_like AS numeric(38,18);
      CREATE TABLE t (id bigint, small numeric, exact money_like, at timestamptz, local timestamp, day date, doc jsonb, raw json, list bigint[], words text[], bytes bytea, key uuid, yes boolean, text text, real float8);
      INSERT INTO t VALUES
        (9223372036854775807, 0.000000000000000000000000000001, 12345678901234567890.123456789012345678, '2024-02-29 23:59:59.999999+05:30', '1969-12-31 23:59:59.999999', '1969-12-31', '{"n": 9007199254740993, "s": "a\\nb"}', E'{"a":\\n1}', '{1,NULL,9007199254740993}', ARRAY['a,b','"q"',NULL,''], '\\x00ff5c27', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', true, '', 0.1),
        (-9223372036854775808, -5, -0.000000000000000001, '0044-03-15 12:00:00.5+00 BC', '0044-03-15 12:00:00 BC', '0044-03-15 BC', 'null', '1', '{}', '{}', '', NULL, false, E'line\\r\\nend, "quoted" ü 𝄞 \\\\. ', '-Infinity'),
        (NULL, NULL, NULL, 'infinity', '-infinity', 'infinity', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)`)
    const job = jobOf(
      { table: 't' },
      `{ id: bigint, small: varchar, exact: "decimal(38,18)", at: timestamptz, local: timestamp, day: date, doc: json, raw: json, list: "bigint[]", words: "varchar[]", bytes: blob, key: uuid, yes: boolean, text: varchar, real: double }`,
    )
    expect(await job.summary()).toMatchObject({ exit: 0, read: 3 })
    const loaded = await job.warehouse(
      `SELECT id::VARCHAR AS id, small, exact::VARCHAR AS exact, "at"::VARCHAR AS "at", local::VARCHAR AS local, day::VARCHAR AS day, doc::VARCHAR AS doc, raw->>'a' AS raw, list::VARCHAR AS list, words::VARCHAR AS words, hex(bytes) AS bytes, key::VARCHAR AS key, yes, text, real::VARCHAR AS real FROM w.rows ORDER BY id NULLS LAST, id DESC`,
    )
    expect(loaded.toSorted((a, b) => String(a['id']).localeCompare(String(b['id'])))).toEqual([
      {
        id: '-9223372036854775808',
        small: '-5',
        exact: '-0.000000000000000001',
        at: '0044-03-15 (BC) 12:00:00.5+00',
        local: '0044-03-15 (BC) 12:00:00',
        day: '0044-03-15 (BC)',
        doc: 'null',
        raw: null,
        list: '[]',
        words: '[]',
        bytes: '',
        key: null,
        yes: false,
        text: 'line\r\nend, "quoted" ü 𝄞 \\. ',
        real: '-inf',
      },
      {
        id: '9223372036854775807',
        small: '0.000000000000000000000000000001',
        exact: '12345678901234567890.123456789012345678',
        at: '2024-02-29 18:29:59.999999+00',
        local: '1969-12-31 23:59:59.999999',
        day: '1969-12-31',
        doc: '{"n": 9007199254740993, "s": "a\\nb"}',
        raw: '1',
        list: '[1, NULL, 9007199254740993]',
        words: `['a,b', '"q"', NULL, '']`,
        bytes: '00FF5C27',
        key: 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
        yes: true,
        text: '',
        real: '0.1',
      },
      {
        id: null,
        small: null,
        exact: null,
        at: 'infinity',
        local: '-infinity',
        day: 'infinity',
        doc: null,
        raw: null,
        list: null,
        words: null,
        bytes: null,
        key: null,
        yes: null,
        text: null,
        real: null,
      },
    ])
  })

  it('reads a table of one column, with its NULLs, and all partitions of another', async () => {
    await sql(`CREATE TABLE t (id bigint) PARTITION BY RANGE (id); CREATE TABLE low PARTITION OF t FOR VALUES FROM (0) TO (10); CREATE TABLE rest PARTITION OF t DEFAULT;
      INSERT INTO t VALUES (9007199254740993), (1), (NULL)`)
    const job = jobOf({ table: 't' }, '{ id: bigint }')
    expect(await job.summary()).toMatchObject({ exit: 0, read: 3 })
    expect(await job.warehouse('SELECT id::VARCHAR AS id FROM w.rows ORDER BY 1')).toEqual([
      { id: '1' },
      { id: '9007199254740993' },
      { id: null },
    ])
  })

  it('misses no row of a transaction that commits late, and reads none twice', async () => {
    await sql('CREATE TABLE t (id bigserial PRIMARY KEY, note text)')
    const job = jobOf({ table: 't', cursor: ['id'], lag: 100 }, '{ id: bigint, note: varchar }')
    await onPostgres(database.url, async (late) => {
      await late.query(`BEGIN; INSERT INTO t (note) VALUES ('late')`)
      // Their rows have transaction numbers of their own.
      await late.query(`SAVEPOINT s; INSERT INTO t (note) VALUES ('late too'); RELEASE s`)
      await sql(`INSERT INTO t (note) VALUES ('early')`)
      expect(await job.summary()).toMatchObject({ exit: 0, read: 0 })
      await late.query('COMMIT')
      await sql(`BEGIN; INSERT INTO t (note) VALUES ('never'); ROLLBACK`)
      expect(await job.summary()).toMatchObject({ exit: 0, read: 3 })
      await sql(`INSERT INTO t (note) VALUES ('last')`)
      expect(await job.summary()).toMatchObject({ exit: 0, read: 1 })
      expect(await job.summary()).toMatchObject({ exit: 0, read: 0 })
    })
    expect(await job.warehouse('SELECT note FROM w.rows ORDER BY id')).toEqual(
      ['late', 'late too', 'early', 'last'].map((note) => ({ note })),
    )
  })

  it('waits for what is open in its own database, and for nothing in another one of the server', async () => {
    await sql(`CREATE TABLE t (id bigint)`)
    const job = jobOf({ table: 't' }, '{ id: bigint }')
    const [here, there] = [randomUUID(), randomUUID()]
    const prepare = (name: string) => `BEGIN; CREATE TABLE prepared (id int); PREPARE TRANSACTION '${name}'`
    await using other = await freshDatabase(server)
    await onPostgres(other.url, async (elsewhere) => {
      await elsewhere.query(prepare(there))
      try {
        await elsewhere.query('BEGIN; CREATE TABLE open (id int)')
        await sql('INSERT INTO t VALUES (1)')
        expect(await job.summary()).toMatchObject({ exit: 0, read: 1 })
      } finally {
        await elsewhere.query('ROLLBACK')
        await elsewhere.query(`ROLLBACK PREPARED '${there}'`)
      }
    })
    await sql(prepare(here))
    try {
      await sql('INSERT INTO t VALUES (2)')
      const { stdout, stderr } = await job.run()
      expect(JSON.parse(stdout)).toMatchObject({ exit: 0, read: 0 })
      expect(stderr).toContain(`(prepared as '${here}') is open`)
      const open = async (laterMs: number) => {
        const now = () => Date.now() + laterMs
        const findings = await diagnosed(postgres, { url: database.url, table: 't' }, { now })
        return findings.find(({ check }) => check === 'transactions')
      }
      expect(await open(0)).toMatchObject({ status: 'ok', found: expect.stringContaining(here) })
      expect(await open(3 * 3_600_000)).toMatchObject({
        status: 'warning',
        found: expect.stringMatching(/is open for 3 h: what later ones have written is not read/),
        mend: expect.stringContaining(`ROLLBACK PREPARED '${here}'`),
      })
    } finally {
      await sql(`COMMIT PREPARED '${here}'`)
    }
    expect(await job.summary()).toMatchObject({ exit: 0, read: 1 })
  })

  it('reads everything each time where it is told to, as a user who may only read', async () => {
    await sql('CREATE TABLE t AS SELECT n AS id FROM generate_series(1, 5) n')
    const reader = new URL(database.url)
    reader.username = `reader_${database.name}`
    await sql(
      `CREATE ROLE ${reader.username} LOGIN PASSWORD '${reader.password}'; GRANT SELECT ON t TO ${reader.username}`,
    )
    try {
      const job = jobOf({ table: 't', again: 'all', url: reader.href }, '{ id: bigint }')
      for (const read of [5, 5]) expect(await job.summary()).toMatchObject({ exit: 0, read })
    } finally {
      await sql(`DROP OWNED BY ${reader.username}; DROP ROLE ${reader.username}`)
    }
  })

  it('reads a query in the order of its cursor, and what comes late by a lag and a key', async () => {
    await sql(`CREATE TABLE a (id bigint PRIMARY KEY, at timestamptz, exact numeric); CREATE VIEW v AS SELECT * FROM a;
      INSERT INTO a SELECT n, '2026-03-01 10:00:00.123456+00'::timestamptz + n / 10 * interval '1 minute', n + 0.000000000000000001 FROM generate_series(1, 300) n; INSERT INTO a VALUES (0, NULL, 1)`)
    const job = jobOf(
      { query: 'SELECT * FROM v -- all', cursor: ['at'], lag: '5m', key: ['id'] },
      '{ id: bigint, at: timestamptz, exact: "decimal(38,18)" }',
    )
    expect(await job.summary()).toMatchObject({ exit: 0, read: 300 })
    expect(await job.summary()).toMatchObject({ exit: 0, read: 0 })
    await sql(
      `INSERT INTO a VALUES (301, '2026-03-01 10:27:00+00', 1), (302, '2026-03-01 11:00:00+00', 1), (303, '2026-03-01 09:00:00+00', 1)`,
    )
    expect(await job.summary()).toMatchObject({ exit: 0, read: 2 })
    expect(
      await job.warehouse(
        'SELECT count(*)::INTEGER AS rows, count(DISTINCT id)::INTEGER AS ids, sum(exact)::VARCHAR AS exact, min("at")::VARCHAR AS first FROM w.rows',
      ),
    ).toEqual([{ rows: 302, ids: 302, exact: '45152.000000000000000300', first: '2026-03-01 10:00:00.123456+00' }])
  })

  it.each(
    [{ name: 'the index of its cursor', cursor: ['updated_at'] }, { name: 'all of the table' }].map(
      (row) => [row.name, row] as const,
    ),
  )(
    'ends as the table is, whatever four writers do meanwhile, by %s',
    async (_, { cursor }) => {
      await sql(
        'CREATE TABLE t (id bigserial PRIMARY KEY, writer int, n int, updated_at timestamptz DEFAULT now()); CREATE INDEX ON t (updated_at)',
      )
      const options = { cursor: cursor === undefined ? undefined : [...cursor] }
      const merged = jobOf(
        { table: 't', ...options },
        '{ id: bigint, writer: integer, n: integer }',
        ', write: merge, key: [id] }, versions: { type: duckdb, path: versions.duckdb, table: rows',
        `resources: { chunk: ${LONG ? '2MB' : '30kB'} }\n`,
      )
      const changes = await writersAtWork(database.url, LONG ? 200_000 : 4000, async () => {
        expect(await merged.summary()).toMatchObject({ exit: 0 })
      })
      expect(changes).toBeGreaterThanOrEqual(LONG ? 200_000 : 4000)
      expect(await merged.summary()).toMatchObject({ exit: 0 })
      const truth = await sql('SELECT count(*)::int AS rows, sum(id)::text AS ids, sum(n)::text AS n FROM t')
      expect(
        await merged.warehouse(
          'SELECT count(*)::INTEGER AS rows, sum(id)::VARCHAR AS ids, sum(n)::VARCHAR AS n FROM w.rows',
        ),
      ).toEqual(truth)
      // Each version of a row has an n of its own: none came twice, though several connections have read many parts.
      const [versions] = await merged.warehouse(
        'SELECT count(*)::INTEGER AS rows, count(DISTINCT (id, n))::INTEGER AS once FROM w.rows',
        'versions.duckdb',
      )
      expect(versions?.['rows']).toBe(versions?.['once'])
    },
    PATIENCE_MS,
  )

  it('says of each thing what is wrong with it, and loads the rest', async () => {
    const poor = new URL(database.url)
    poor.username = `poor_${database.name}`
    poor.password = 'poor'
    await sql(
      `CREATE TABLE t (id int, name text); INSERT INTO t VALUES (1); CREATE VIEW v AS SELECT * FROM t; CREATE TABLE held (id int); CREATE ROLE ${poor.username} LOGIN PASSWORD 'poor'`,
    )
    const wrong = {
      table: [{ table: 'nothing' }, 'SOURCE_MISSING', /nothing/],
      column: [{ table: 't', columns: ['id', 'nme'] }, 'SOURCE_MISSING', /no column nme; did you mean `name`/],
      view: [{ table: 'v' }, 'SOURCE_UNSUPPORTED', /v is no table/],
      shared: [{ table: 'pg_database' }, 'SOURCE_UNSUPPORTED', /belongs to all databases of the cluster/],
      text: [{ table: 't', cursor: ['name'] }, 'SOURCE_UNSUPPORTED', /how late is late/],
      password: [{ table: 't', password: 'wrong' }, 'SOURCE_DENIED', /password/],
      user: [{ table: 't', url: poor.href }, 'SOURCE_DENIED', /permission denied for table t/],
      down: [{ table: 't', url: 'postgres://x@127.0.0.1:1/x' }, 'SOURCE_UNREADABLE', /ECONNREFUSED/],
      locked: [{ table: 'held', lock_timeout: '50ms' }, 'SOURCE_UNREADABLE', /lock_timeout/],
    } as const
    const common = { type: 'postgres', url: database.url, retry: { attempts: 1 } }
    const extract = Object.entries(wrong).map(([id, [options]]) => [id, { ...common, ...options }])
    const job = jobOf({}, '{ id: integer, name: varchar }')
    const all = JSON.stringify({ ...Object.fromEntries(extract), good: { ...common, table: 't' } })
    job.put(
      'job.yaml',
      readFileSync(job.file, 'utf8').replace(/^extract: .*$/m, () => `extract: ${all}`),
    )
    try {
      await onPostgres(database.url, async (client) => {
        await client.query('BEGIN; LOCK TABLE held')
        const { read, gaps } = await job.summary()
        expect(read).toBe(1)
        expect(gaps).toHaveLength(Object.keys(wrong).length)
        for (const [source, [, code, message]] of Object.entries(wrong))
          expect(gaps).toContainEqual(
            expect.objectContaining({ source, code, message: expect.stringMatching(message) }),
          )
      })
      const found = async (options: Readonly<Record<string, unknown>>) =>
        statuses(await diagnosed(postgres, { url: database.url, table: 't', ...options }))
      expect(await found({})).toMatchObject({
        reachable: 'ok',
        target: 'ok',
        permission: 'ok',
        transactions: 'ok',
        connections: 'ok',
      })
      expect(await found({ table: 'nothing' })).toMatchObject({ target: 'failed SOURCE_MISSING' })
      expect(await found({ table: 'pg_database' })).toMatchObject({ target: 'failed SOURCE_UNSUPPORTED' })
      expect(await found({ url: poor.href })).toMatchObject({ permission: 'failed SOURCE_DENIED' })
      expect(await found({ password: 'wrong' })).toMatchObject({ reachable: 'failed SOURCE_DENIED' })
    } finally {
      await sql(`DROP ROLE ${poor.username}`)
    }
  })
})
