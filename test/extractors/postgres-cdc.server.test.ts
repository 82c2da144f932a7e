import { readFileSync } from 'node:fs'
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest'
import cdc from '../../src/extractors/postgres_cdc.ts'
import { onPostgres } from '../conformance/fixtures/postgres.ts'
import { temporaryFolder } from '../harness/cli.ts'
import { diagnosed, statuses } from '../harness/diagnosis.ts'
import type { ServerInstance } from '../harness/servers/core/instance.ts'
import { type FreshUrl, freshDatabase } from '../harness/servers/fresh.ts'
import type { PostgresEndpoint } from '../harness/servers/postgres.ts'
import { startPrivate } from '../harness/servers/private.ts'
import { serverSuite } from '../harness/servers/suite.ts'
import { SmallJob } from '../harness/small-job.ts'
import { writersAtWork } from '../harness/writers.ts'

const LONG = process.env['ADFLOW_TEST_LONG'] === '1'
const CHANGES = LONG ? 200_000 : 3000
const KILLS = LONG ? 20 : 3
/** Writers and kills share the machine with other tests. */
const PATIENCE_MS = LONG ? 1_200_000 : 240_000

await serverSuite('the extractor of changes of PostgreSQL', ['postgres'], () => {
  // Of its own: a new slot waits for every transaction of the cluster.
  let server: ServerInstance<PostgresEndpoint>
  let database: FreshUrl
  let folder: ReturnType<typeof temporaryFolder>
  beforeAll(async () => {
    server = await startPrivate('postgres')
  })
  afterAll(() => server.end())
  beforeEach(async () => {
    database = await freshDatabase(server.endpoint)
    folder = temporaryFolder('postgres-cdc')
  })
  afterEach(async () => {
    folder.remove()
    await sql(
      'SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database() AND NOT active',
    )
    await database.remove()
  })

  const sql = (text: string) => onPostgres(database.url, async (client) => (await client.query(text)).rows)
  const extractOf = (options: Readonly<Record<string, unknown>> = {}) => ({
    type: 'postgres_cdc',
    url: database.url,
    tables: ['t'],
    retry: { attempts: 3, initial: '100ms', max: '1s' },
    ...options,
  })
  const jobOf = (columns: string, more = '', options: Readonly<Record<string, unknown>> = {}, chunk = '64MB') =>
    new SmallJob(
      folder.path,
      `version: 1
name: rows
extract: { input: ${JSON.stringify(extractOf(options))} }
contract: { columns: ${columns} }
load:
  warehouse: { type: duckdb, path: warehouse.duckdb, table: rows }
${more}resources: { chunk: ${chunk} }
`,
    )
  const LOG =
    '{ op: varchar, "table": varchar, seq: bigint, lsn: varchar, commit_lsn: varchar, commit_time: timestamptz, xid: bigint, before: json, after: json, unchanged: json }'
  const log = (job: SmallJob) =>
    job.warehouse(
      'SELECT op, "table", before::VARCHAR AS before, after::VARCHAR AS after, unchanged::VARCHAR AS unchanged FROM w.rows ORDER BY rowid',
    )

  it('tells what was there and each change, with both images, exactly', async () => {
    const large = 'x'.repeat(3000)
    await sql(`
      CREATE TYPE mood AS ENUM ('sad'); CREATE DOMAIN cents AS bigint;
      CREATE TABLE t (id bigint PRIMARY KEY, exact numeric(38,18), list cents[], at timestamptz, doc json, bytes bytea, mood mood, large text);
      ALTER TABLE t ALTER large SET STORAGE EXTERNAL;
      INSERT INTO t VALUES (9007199254740993, 12345678901234567890.123456789012345678, '{1,NULL}', '1969-12-31 23:59:59.999999+00', E'{"a":\\n"b\\\\nc"}', '\\x00ff', 'sad', NULL), (2, 'NaN', '{}', 'infinity', NULL, NULL, NULL, E'tab\\t\\\\ "ü"\\n')`)
    const job = jobOf(LOG)
    expect(await job.summary()).toMatchObject({ exit: 0, read: 2 })
    await sql(
      `BEGIN; INSERT INTO t VALUES (3, 0.1, '{{1,2},{3,4}}', NULL, '[1, 2]', '', 'sad', '${large}'); UPDATE t SET id = 4 WHERE id = 2; COMMIT`,
    )
    await sql('BEGIN; INSERT INTO t (id) VALUES (99); ROLLBACK')
    await sql('UPDATE t SET exact = 1 WHERE id = 3')
    await sql(
      'ALTER TABLE t REPLICA IDENTITY FULL; ALTER TABLE t ADD more int; ALTER TABLE t DROP mood; UPDATE t SET more = 7 WHERE id = 3',
    )
    await sql('DELETE FROM t WHERE id = 4; TRUNCATE t')
    const run = await job.run()
    expect(run.json()).toMatchObject({ gaps: [], exit: 0, read: 6 })
    expect(run.stderr).toMatch(/public\.t has changed: column more added, column mood dropped/)
    const changes = (await log(job)).map((row) =>
      Object.fromEntries(Object.entries(row).map(([name, value]) => [name, String(value).replace(large, 'LARGE')])),
    )
    const [first, second] = changes
    expect(first).toMatchObject({
      op: 'snapshot',
      before: 'null',
      after:
        '{"id":9007199254740993,"exact":"12345678901234567890.123456789012345678","list":[1,null],"at":"1969-12-31 23:59:59.999999+00","doc":{"a":"b\\nc"},"bytes":"\\\\x00\\\\xff","mood":"sad","large":null}',
    })
    expect(second).toMatchObject({
      after:
        '{"id":2,"exact":"NaN","list":[],"at":"infinity","doc":null,"bytes":null,"mood":null,"large":"tab\\t\\\\ \\"ü\\"\\n"}',
    })
    expect(changes.slice(2).map(({ op, before, after, unchanged }) => [op, before, after, unchanged])).toEqual([
      [
        'insert',
        'null',
        '{"id":3,"exact":"0.100000000000000000","list":[[1,2],[3,4]],"at":null,"doc":[1,2],"bytes":"","mood":"sad","large":"LARGE"}',
        'null',
      ],
      ['update', '{"id":2}', expect.stringMatching(/^\{"id":4,.*ü/), 'null'],
      [
        'update',
        'null',
        '{"id":3,"exact":"1.000000000000000000","list":[[1,2],[3,4]],"at":null,"doc":[1,2],"bytes":"","mood":"sad"}',
        '["large"]',
      ],
      [
        'update',
        expect.stringMatching(/"large":"LARGE","more":null\}$/),
        expect.stringMatching(/"large":"LARGE","more":7\}$/),
        'null',
      ],
      ['delete', expect.stringMatching(/^\{"id":4,/), 'null', 'null'],
      ['truncate', 'null', 'null', 'null'],
    ])
    const [order] = await job.warehouse(
      "SELECT count(DISTINCT xid) AS transactions, bool_and(commit_time > '2020-01-01' AND seq >= 1) AS told FROM w.rows WHERE op <> 'snapshot'",
    )
    expect(order).toMatchObject({ transactions: '4', told: true })
    expect(await job.summary()).toMatchObject({ exit: 0, read: 0 })
  })

  it(
    `ends as the table is, with each change once, killed ${KILLS} times while four writers work`,
    async () => {
      await sql(
        `CREATE TABLE t (id bigserial PRIMARY KEY, writer int, n int, updated_at timestamptz DEFAULT now());
       INSERT INTO t (writer, n) SELECT 9, n FROM generate_series(1, ${CHANGES}) n`,
      )
      const job = jobOf(
        '{ op: varchar, seq: bigint, commit_lsn: varchar, id: { type: bigint, from: after.id }, n: { type: integer, from: after.n } }',
        '  latest: { type: duckdb, path: latest.duckdb, table: rows, write: merge, key: [id] }\n',
        {},
        LONG ? '2MB' : '60kB',
      )
      let kills = 0
      await writersAtWork(database.url, CHANGES, async () => {
        const dies = kills < KILLS
        const run = await job.run(
          [],
          dies ? { started: job.onceClosed(job.closedBatches(), (child) => child.kill('SIGKILL')) } : {},
        )
        if (run.signal === 'SIGKILL') kills += 1
        else expect(run.code, run.stdout + run.stderr).toBe(0)
      })
      expect(kills).toBeGreaterThan(0)
      expect(await job.summary()).toMatchObject({ exit: 0 })
      const truth = await sql('SELECT count(*)::int AS rows, sum(id)::text AS ids, sum(n)::text AS n FROM t')
      const held = 'SELECT count(*)::INTEGER AS rows, sum(id)::VARCHAR AS ids, sum(n)::VARCHAR AS n FROM w.rows'
      expect(await job.warehouse(held, 'latest.duckdb')).toEqual(truth)
      const [twice] = await job.warehouse(
        `SELECT count(*) FILTER (WHERE op = 'insert') + count(*) FILTER (WHERE op = 'snapshot') AS rows, count(DISTINCT id) FILTER (WHERE op IN ('insert', 'snapshot')) AS ids,
         count(*) FILTER (WHERE op <> 'snapshot') AS changes, count(DISTINCT (commit_lsn, seq)) FILTER (WHERE op <> 'snapshot') AS distinct_changes FROM w.rows`,
      )
      expect(twice?.['rows']).toBe(twice?.['ids'])
      expect(twice?.['changes']).toBe(twice?.['distinct_changes'])
    },
    PATIENCE_MS,
  )

  const onlyLong = LONG ? it : undefined // a test that is skipped counts as failed
  onlyLong?.(
    'is read on where the server is killed while changes come, in small transactions and in a large one',
    async () => {
      await sql('CREATE TABLE t (id bigint PRIMARY KEY, n bigint NOT NULL)')
      const columns =
        '{ op: varchar, commit_lsn: varchar, seq: bigint, id: { type: bigint, from: after.id }, n: { type: bigint, from: after.n } }'
      const job = jobOf(columns, '', {}, '200kB')
      expect(await job.summary()).toMatchObject({ exit: 0, read: 0 })
      let changes = 0
      let deaths = 0
      for (let round = 0; round < KILLS; round += 1) {
        const [from, to] = [round * 6000, round * 6000 + 3000]
        // A hundred transactions of thirty rows; then one of 3000 rows, and another that changes them all.
        await sql(
          `DO $$ BEGIN FOR k IN 0..99 LOOP INSERT INTO t SELECT ${from} + k * 30 + i, 0 FROM generate_series(0, 29) i; COMMIT; END LOOP; END $$`,
        )
        await sql(`INSERT INTO t SELECT i, 0 FROM generate_series(${to}, ${to + 2999}) i`)
        await sql(`UPDATE t SET n = n + 1 WHERE id >= ${from}`)
        changes += 12_000
        let dying: Promise<void> | undefined
        const started = job.onceClosed(job.closedBatches(), () => {
          dying = server.kill9().then(() => (round % 2 === 0 ? server.restart() : undefined))
        })
        const run = await job.summary({ started })
        expect([0, 69]).toContain(run.exit)
        if (dying !== undefined) deaths += 1
        await dying
        if (round % 2 !== 0 && dying !== undefined) await server.restart()
      }
      expect(deaths).toBeGreaterThan(KILLS / 2)
      expect(await job.summary()).toMatchObject({ exit: 0 })
      expect(await job.summary()).toMatchObject({ exit: 0, read: 0 })
      const [found] = await job.warehouse(
        `SELECT count(*)::INTEGER AS changes, count(DISTINCT (commit_lsn, seq))::INTEGER AS once, count(*) FILTER (WHERE op = 'insert')::INTEGER AS inserts,
          count(DISTINCT id)::INTEGER AS ids, sum(n)::INTEGER AS n FROM w.rows`,
      )
      const half = changes / 2
      expect(found).toEqual({ changes, once: changes, inserts: half, ids: half, n: half })
    },
    PATIENCE_MS,
  )

  it('confirms to the slot what its checkpoint has, and says that changes are lost where the slot is gone', async () => {
    await sql('CREATE TABLE t (id bigint PRIMARY KEY); INSERT INTO t VALUES (1)')
    const job = jobOf('{ op: varchar, id: { type: bigint, from: after.id } }')
    const confirmed = async () => {
      const [row] = await sql(
        'SELECT slot_name, confirmed_flush_lsn::text AS lsn, pg_wal_lsn_diff(confirmed_flush_lsn, $$0/0$$)::text AS at FROM pg_replication_slots WHERE database = current_database()',
      )
      return row as { slot_name: string; lsn: string; at: string }
    }
    expect(await job.summary()).toMatchObject({ exit: 0, read: 1 })
    const before = await confirmed()
    await sql('INSERT INTO t VALUES (2)')
    const died = await job.run([], {
      env: {
        NODE_OPTIONS: `${process.env['NODE_OPTIONS'] ?? ''} --import=${new URL('../harness/die-before-save.ts', import.meta.url).href}`,
        ADFLOW_TEST_DIE_BEFORE_SAVE: '2',
      },
    })
    expect(died.signal).toBe('SIGKILL')
    expect(await confirmed()).toEqual(before)
    expect(await job.summary()).toMatchObject({ exit: 0, read: 1 })
    expect(BigInt((await confirmed()).at)).toBeGreaterThan(BigInt(before.at))
    // Where nothing of the tables changes the log goes on, and must not be kept for ever.
    await sql('CREATE TABLE other AS SELECT generate_series(1, 1000)')
    const [end] = await sql('SELECT pg_current_wal_flush_lsn()::text AS lsn')
    for (let run = 0; run < 2; run += 1) expect(await job.summary()).toMatchObject({ exit: 0, read: 0 })
    const [ahead] = await sql(
      `SELECT confirmed_flush_lsn >= '${end.lsn}' AS ahead FROM pg_replication_slots WHERE database = current_database()`,
    )
    expect(ahead).toEqual({ ahead: true })

    await sql(`SELECT pg_drop_replication_slot('${before.slot_name}'); INSERT INTO t VALUES (3)`)
    for (let run = 0; run < 2; run += 1)
      expect(await job.summary()).toMatchObject({
        exit: 65,
        gaps: [
          {
            code: 'SOURCE_CHANGED',
            message: expect.stringMatching(/slot .* is gone, and with it the changes after .*--reload/s),
          },
        ],
      })
    expect(await sql('SELECT slot_name FROM pg_replication_slots WHERE database = current_database()')).toEqual([])
    const rewound = await job.command(['state', 'rewind', job.file, 'input', '--reload', '--reason', 'a test'])
    expect(rewound.code, rewound.stderr).toBe(0)
    expect(await job.summary()).toMatchObject({ exit: 0, read: 3 })
  })

  it('goes on inside of a transaction that is larger than a page, and reads none of its changes twice', async () => {
    const rows = 8000
    await sql('CREATE TABLE t (id bigint PRIMARY KEY, name text)')
    const job = jobOf('{ op: varchar, seq: bigint, id: { type: bigint, from: after.id } }', '', {}, '200kB')
    expect(await job.summary()).toMatchObject({ exit: 0, read: 0 })
    await sql(`INSERT INTO t SELECT n, repeat('x', 40) FROM generate_series(1, ${rows}) n`)
    const killed = await job.run([], { started: job.onceClosed(0, (child) => child.kill('SIGKILL')) })
    expect(killed.signal).toBe('SIGKILL')
    expect(await job.summary()).toMatchObject({ exit: 0 })
    expect(
      await job.warehouse(
        'SELECT count(*)::INTEGER AS rows, count(DISTINCT id)::INTEGER AS ids, count(DISTINCT seq)::INTEGER AS seqs, max(seq)::INTEGER AS last FROM w.rows',
      ),
    ).toEqual([{ rows, ids: rows, seqs: rows, last: rows }])
  })

  it('keeps the latest state of each row in a store, and says which are deleted', async () => {
    await sql('CREATE TABLE t (id bigint PRIMARY KEY, name text); INSERT INTO t VALUES (1, $$a$$), (2, $$b$$)')
    const job = jobOf(
      '{ op: varchar, id_after: { type: bigint, from: after.id }, id_before: { type: bigint, from: before.id }, name: { type: varchar, from: after.name } }',
    )
    const steps = `transform: [{ filter: "op <> 'truncate'" }, { derive: { id: "coalesce(id_after, id_before)", deleted: "op = 'delete'" } }]\n`
    const text = readFileSync(job.file, 'utf8').replace('table: rows }', 'table: rows, write: merge, key: [id] }')
    job.put(
      'job.yaml',
      text.replace('load:', () => `${steps}load:`),
    )
    expect(await job.summary()).toMatchObject({ exit: 0, read: 2 })
    await sql(`UPDATE t SET name = 'a2' WHERE id = 1; UPDATE t SET name = 'a3' WHERE id = 1`)
    await sql(`DELETE FROM t WHERE id = 2; INSERT INTO t VALUES (3, 'c')`)
    expect(await job.summary()).toMatchObject({ exit: 0, read: 4 })
    expect(await job.warehouse('SELECT id::INTEGER AS id, name, deleted FROM w.rows ORDER BY id')).toEqual([
      { id: 1, name: 'a3', deleted: false },
      { id: 2, name: null, deleted: true },
      { id: 3, name: 'c', deleted: false },
    ])
  })

  it('says of each thing what is wrong with it', async () => {
    const poor = new URL(database.url)
    poor.username = `poor_${database.name}`
    poor.password = 'poor'
    await sql(
      `CREATE TABLE t (id bigint PRIMARY KEY); CREATE TABLE bare (id int); CREATE ROLE ${poor.username} LOGIN PASSWORD 'poor'`,
    )
    await sql("SELECT pg_create_logical_replication_slot('taken', 'pgoutput')")
    const plain = await startPrivate('postgres', { settings: { wal_level: 'replica' } })
    const wrong = {
      level: [{ url: plain.endpoint.url }, 'SOURCE_UNSUPPORTED', /wal_level = replica/],
      user: [{ url: poor.href }, 'SOURCE_DENIED', /may not read the log of changes/],
      password: [{ password: 'wrong' }, 'SOURCE_DENIED', /password/],
      table: [{ tables: ['nothing'] }, 'SOURCE_MISSING', /no table nothing/],
      bare: [{ tables: ['bare'] }, 'SOURCE_UNSUPPORTED', /no replica identity/],
      slot: [
        { slot: 'nothing', create: 'never', publication: 'there' },
        'SOURCE_MISSING',
        /no replication slot nothing/,
      ],
      taken: [
        { slot: 'taken', publication: 'there' },
        'SOURCE_UNSUPPORTED',
        /is there already, and this job knows nothing of it/,
      ],
      tables: [{ tables: ['bare'], publication: 'there' }, 'SOURCE_MISSING', /does not have the table bare/],
    } as const
    await sql('CREATE PUBLICATION there FOR TABLE t')
    const common = { ...extractOf(), retry: { attempts: 1 } }
    const extract = Object.fromEntries(Object.entries(wrong).map(([id, [options]]) => [id, { ...common, ...options }]))
    const job = new SmallJob(
      folder.path,
      `version: 1
name: rows
extract: ${JSON.stringify(extract)}
contract: { columns: { op: varchar } }
load: { warehouse: { type: duckdb, path: warehouse.duckdb, table: rows } }
`,
    )
    try {
      const { gaps } = await job.summary()
      for (const [source, [, code, message]] of Object.entries(wrong))
        expect(gaps).toContainEqual(expect.objectContaining({ source, code, message: expect.stringMatching(message) }))
      const found = async (options: Readonly<Record<string, unknown>>) =>
        statuses(await diagnosed(cdc, { url: database.url, tables: ['t'], ...options }))
      expect(await found({})).toMatchObject({ permission: 'ok', target: 'ok', durability: 'ok' })
      expect(await found({ url: plain.endpoint.url })).toMatchObject({ permission: 'failed SOURCE_UNSUPPORTED' })
      expect(await found({ tables: ['bare'] })).toMatchObject({ target: 'failed SOURCE_UNSUPPORTED' })
      await sql('CREATE TABLE much AS SELECT repeat($$x$$, 100) FROM generate_series(1, 1000)')
      expect(await found({ slot: 'taken', max_slot_wal: '1B' })).toMatchObject({ durability: 'warning' })
    } finally {
      await plain.end()
      await sql(`DROP ROLE ${poor.username}`)
    }
  })
})
