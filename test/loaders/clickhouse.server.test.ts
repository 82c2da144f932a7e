import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import clickhouse from '../../src/loaders/clickhouse.ts'
import { onClickHouse } from '../harness/clickhouse.ts'
import { failing } from '../harness/cut-answer.ts'
import { LoaderBench, newFolder, removeFolder } from '../harness/loader.ts'
import { type FreshUrl, freshClickHouseDatabase } from '../harness/servers/fresh.ts'
import { serverSuite } from '../harness/servers/suite.ts'

type Options = Readonly<Record<string, unknown>>

const ROWS =
  "SELECT i::BIGINT AS id, 'name ' || i AS name, TIMESTAMP '2026-03-30' + to_days(i::INTEGER) AS at FROM range(4) t(i)"

await serverSuite('the loader of ClickHouse', ['clickhouse'], ({ clickhouse: server }) => {
  let folder: string
  let bench: LoaderBench
  let database: FreshUrl
  beforeEach(async () => {
    folder = newFolder()
    database = await freshClickHouseDatabase(server)
    bench = await LoaderBench.open({ definition: clickhouse as never, folder, options: [] })
  })
  afterEach(async () => {
    bench.close()
    removeFolder(folder)
    await database.remove()
  })

  const loaderOf = (options: Options = {}) => bench.create({ url: database.url, table: 'events', ...options })
  const opened = (options: Options = {}, rows = ROWS) => bench.open(loaderOf(options), rows)
  const query = (sql: string) => onClickHouse(database.url, sql)
  const count = async (from = 'events') => Number((await query(`SELECT count() AS n FROM ${from}`))[0]?.['n'])

  describe('what it makes', () => {
    it('has the engine, sorting key, partitions, TTL and projections that the job states, and syncs what it takes', async () => {
      const loader = await opened({
        engine: 'ReplacingMergeTree',
        order_by: ['name', 'id % 7'],
        partition_by: 'toYYYYMM(at)',
        ttl: 'toDateTime(at) + INTERVAL 50 YEAR',
        not_null: ['at', 'name'],
        version: 'id',
        projections: [{ name: 'by_name', query: 'SELECT name, count() GROUP BY name' }],
      })
      await bench.write(loader, { rows: ROWS })
      const [table] = await query(
        `SELECT engine, sorting_key, partition_key, engine_full FROM system.tables WHERE database = currentDatabase() AND name = 'events'`,
      )
      expect(table).toMatchObject({
        engine: 'ReplacingMergeTree',
        sorting_key: 'name, (id % 7)',
        partition_key: '(toYYYYMM(at))',
        engine_full: expect.stringMatching(
          /^ReplacingMergeTree\(id\).* TTL toDateTime\(at\) \+ toIntervalYear\(50\).*non_replicated_deduplication_window = 10000.*fsync_after_insert = 1/,
        ),
      })
      expect(await query(`SELECT name FROM system.projections WHERE database = currentDatabase()`)).toEqual([
        { name: 'by_name' },
      ])
      expect(
        await query(
          `SELECT name, type FROM system.columns WHERE database = currentDatabase() AND table = 'events' ORDER BY position`,
        ),
      ).toEqual([
        { name: 'id', type: 'Int64' },
        { name: 'name', type: 'String' },
        { name: 'at', type: "DateTime64(6, 'UTC')" },
        { name: '_batch', type: 'Nullable(Int64)' },
      ])
      await loader.close()
    })

    it('is one part for each partition, in the table and behind its views, however many rows a batch has', async () => {
      const rows = 'SELECT i::BIGINT AS id, (i % 3)::INTEGER AS p FROM range(2500000) t(i)'
      const view = {
        name: 'by_id',
        to: 'ids',
        query: 'SELECT assumeNotNull(id) % 400000 AS k, count() AS n FROM {table} GROUP BY k',
        engine: 'SummingMergeTree',
        order_by: ['k'],
      }
      const loader = await opened({ partition_by: 'p', materialized_views: [view] }, rows)
      await query('SYSTEM STOP MERGES events')
      await query('SYSTEM STOP MERGES ids')
      await bench.write(loader, { rows })
      expect(
        await query(
          'SELECT table, count() AS parts, sum(rows) AS rows FROM system.parts WHERE database = currentDatabase() AND active GROUP BY 1 ORDER BY 1',
        ),
      ).toMatchObject([
        { table: '_adflow_batches', parts: '2' },
        { table: 'events', parts: '3', rows: '2500000' },
        { table: 'ids', parts: '1', rows: '400000' },
      ])
      await loader.close()
    })

    it('sums in a SummingMergeTree, and numbers no batch there', async () => {
      const rows = "SELECT 'a' AS k, 1::DECIMAL(18,4) AS cost, 2::BIGINT AS n FROM range(3)"
      const loader = await opened({ engine: 'SummingMergeTree', order_by: ['k'] }, rows)
      await bench.write(loader, { rows })
      expect(await bench.write(loader, { rows, at: 1 })).toMatchObject({ rows: 3 })
      expect(await query('SELECT * FROM events FINAL')).toEqual([{ k: 'a', cost: 6, n: '12' }])
      await loader.close()
    })

    it('keeps of one key the last row of a batch, and of the batches the last', async () => {
      const loader = await opened({ write: 'merge', key: ['id'] }, 'SELECT 1 AS id, 0 AS v')
      const rows = (from: number) =>
        `SELECT (i % 3)::INTEGER AS id, (${from} + i)::INTEGER AS v FROM range(200000) t(i)`
      expect(await bench.write(loader, { rows: rows(0) })).toMatchObject({ rows: 200_000 })
      await bench.write(loader, { rows: rows(10), at: 1 })
      expect(await query('SELECT id, v FROM events FINAL ORDER BY id')).toEqual([
        { id: 0, v: 200_008 },
        { id: 1, v: 200_009 },
        { id: 2, v: 200_007 },
      ])
      await loader.close()
    })

    it('keeps nested values in types of their own with `nested: native`, and refuses a NULL of one', async () => {
      const rows = `SELECT 1 AS id, {'os': '', 'tags': ['a', NULL], 'huge': [170141183460469231731687303715884105727::HUGEINT]} AS device, MAP {'x': TIMESTAMP '1969-12-31 23:59:59.999999'} AS times, [{'day': DATE '1900-01-01'}] AS days`
      const loader = await opened({ nested: 'native' }, rows)
      await bench.write(loader, { rows })
      expect(
        await query(
          `SELECT device.os, device.tags, toString(device.huge[1]) AS huge, toString(times['x']) AS x, days[1].day AS day FROM events`,
        ),
      ).toEqual([
        {
          'device.os': '',
          'device.tags': ['a', null],
          huge: '170141183460469231731687303715884105727',
          x: '1969-12-31 23:59:59.999999',
          day: '1900-01-01',
        },
      ])
      for (const [at, hole] of [
        '* REPLACE (CASE WHEN false THEN device END AS device)',
        "* REPLACE ({'os': '', 'tags': NULL::VARCHAR[], 'huge': []::HUGEINT[]} AS device)",
        '* REPLACE (CASE WHEN false THEN times END AS times)',
        '* REPLACE ([CASE WHEN false THEN days[1] END] AS days)',
        "* REPLACE ([{'day': DATE '2300-01-01'}] AS days)",
      ].entries())
        expect(await failing(bench.write(loader, { rows: `SELECT ${hole} FROM (${rows})`, at: at + 1 }))).toMatchObject(
          {
            code: 'STORE_MISMATCH',
            message: expect.stringContaining('ClickHouse cannot hold'),
          },
        )
      expect(await count()).toBe(1)
      await loader.close()
    })

    it('has a type for each of the engine that keeps every value', async () => {
      const types: Readonly<Record<string, readonly [value: string, type: string, text: string]>> = {
        tiny: ['(-128)::TINYINT', 'Int8', '-128'],
        utiny: ['255::UTINYINT', 'UInt8', '255'],
        small: ['(-32768)::SMALLINT', 'Int16', '-32768'],
        usmall: ['65535::USMALLINT', 'UInt16', '65535'],
        uint: ['4294967295::UINTEGER', 'UInt32', '4294967295'],
        ubig: ['18446744073709551615::UBIGINT', 'UInt64', '18446744073709551615'],
        huge: [
          '(-170141183460469231731687303715884105728)::HUGEINT',
          'Int128',
          '-170141183460469231731687303715884105728',
        ],
        uhuge: [
          '340282366920938463463374607431768211455::UHUGEINT',
          'UInt128',
          '340282366920938463463374607431768211455',
        ],
        single: ["'-inf'::FLOAT", 'Float32', '-inf'],
        seconds: ["TIMESTAMP_S '1900-01-01 00:00:01'", "DateTime64(0, 'UTC')", '1900-01-01 00:00:01'],
        millis: ["TIMESTAMP_MS '2299-12-31 23:59:59.999'", "DateTime64(3, 'UTC')", '2299-12-31 23:59:59.999'],
        nanos: [
          "TIMESTAMP_NS '2262-01-01 00:00:00.123456789'",
          "DateTime64(9, 'UTC')",
          '2262-01-01 00:00:00.123456789',
        ],
        moment: ["TIMESTAMPTZ '1969-12-31 23:59:59.999999+08'", "DateTime64(6, 'UTC')", '1969-12-31 15:59:59.999999'],
        time: ["TIME '23:59:59.999999'", 'String', '23:59:59.999999'],
        span: ["INTERVAL '14 months 3 days 04:05:06.7'", 'String', '1 year 2 months 3 days 04:05:06.7'],
        id: ["'6c1c0b5e-9c5a-4c39-9b43-b7e7d2b00a1f'::UUID", 'UUID', '6c1c0b5e-9c5a-4c39-9b43-b7e7d2b00a1f'],
        bytes: ["'\\x41\\x42'::BLOB", 'String', 'AB'],
        json: [`'{"a": 12345678901234567890.123456789}'::JSON`, 'String', '{"a": 12345678901234567890.123456789}'],
      }
      const items = Object.entries(types).map(([name, [value]]) => `${value} AS ${name}`)
      const rows = `SELECT ${items.join(', ')}, 'b'::ENUM('a', 'b') AS kind UNION ALL SELECT ${items.map(() => 'NULL').join(', ')}, NULL`
      const loader = await opened({}, rows)
      await bench.write(loader, { rows })
      const names = Object.keys(types)
      const [row] = await query(
        `SELECT ${names.map((name) => `toString(${name}) AS ${name}`).join(', ')} FROM (SELECT * FROM events WHERE kind = 'b')`,
      )
      expect(row).toEqual(Object.fromEntries(Object.entries(types).map(([name, [, , text]]) => [name, text])))
      const found = await query(
        `SELECT name, type FROM system.columns WHERE database = currentDatabase() AND table = 'events' AND name NOT IN ('kind', '_batch')`,
      )
      expect(found).toEqual(Object.entries(types).map(([name, [, type]]) => ({ name, type: `Nullable(${type})` })))
      expect(await count(`events WHERE kind IS NULL AND ${names.map((name) => `${name} IS NULL`).join(' AND ')}`)).toBe(
        1,
      )
      const outside = [
        "TIMESTAMP 'infinity'",
        "TIMESTAMPTZ '-infinity'",
        "TIMESTAMP_S '290000-01-01 00:00:00'",
        "TIMESTAMP_NS '-infinity'",
        "DATE '1899-12-31'",
        "DATE '2300-01-01'",
      ]
      for (const [at, value] of outside.entries()) {
        const far = await opened({ table: `far_${at}` }, `SELECT ${value} AS v`)
        expect(await failing(bench.write(far, { rows: `SELECT ${value} AS v` })), value).toMatchObject({
          code: 'STORE_MISMATCH',
        })
        await far.close()
      }
      await loader.close()
    })

    it('is widened, gets new columns, and refuses what would lose something', async () => {
      const first = await opened({}, 'SELECT 1::INTEGER AS id, 1.5::DECIMAL(9,2) AS cost')
      await bench.write(first, { rows: 'SELECT 1::INTEGER AS id, 1.5::DECIMAL(9,2) AS cost' })
      const wider = "SELECT 9007199254740993::BIGINT AS id, 0.1234::DECIMAL(18,4) AS cost, 'x' AS note"
      const second = await opened({}, wider)
      await bench.write(second, { rows: wider, at: 1 })
      // The older process writes into the wider table.
      await bench.write(first, { rows: 'SELECT 2::INTEGER AS id, 2.5::DECIMAL(9,2) AS cost', at: 2 })
      expect(await query('SELECT id, toString(cost) AS cost, note FROM events ORDER BY id')).toEqual([
        { id: '1', cost: '1.5', note: null },
        { id: '2', cost: '2.5', note: null },
        { id: '9007199254740993', cost: '0.1234', note: 'x' },
      ])
      for (const [options, rows] of [
        [{}, "SELECT 'text' AS id"],
        [{}, 'SELECT 1::UBIGINT AS id'],
        [{}, 'SELECT 1.00001::DECIMAL(18,5) AS cost'],
        [{ evolve: false }, 'SELECT 1 AS more'],
      ] as const)
        expect(await failing(opened(options, rows)), rows).toMatchObject({ code: 'STORE_MISMATCH' })
      for (const loader of [first, second]) await loader.close()
    })
  })

  describe('a table and views that are there', () => {
    it('get a window where they have none, through views of views; with `create: never` that is an error', async () => {
      await query(
        "CREATE TABLE events (id Int64, name LowCardinality(String), at DateTime64(6, 'UTC'), _batch Int64) ENGINE = MergeTree ORDER BY id",
      )
      await query('CREATE TABLE days (day Date32, n UInt64) ENGINE = SummingMergeTree ORDER BY day')
      await query(
        'CREATE MATERIALIZED VIEW to_days TO days AS SELECT toDate32(at) AS day, count() AS n FROM events GROUP BY day',
      )
      await query(
        'CREATE MATERIALIZED VIEW `all``days` ENGINE = SummingMergeTree ORDER BY k AS SELECT 1 AS k, sum(n) AS n FROM days',
      )
      expect(await failing(opened({ create: 'never' }))).toMatchObject({ code: 'STORE_MISMATCH' })
      await (await opened({ table: 'other' })).close()
      expect(await failing(opened({ create: 'never' }))).toMatchObject({
        code: 'STORE_MISMATCH',
        message: expect.stringContaining('remembers no blocks'),
        hint: expect.stringContaining('MODIFY SETTING non_replicated_deduplication_window = 10000'),
      })
      const loader = await opened()
      await bench.write(loader, { rows: ROWS })
      await forgetEntries("state = 'written'")
      expect(await bench.write(loader, { rows: ROWS })).toMatchObject({ rows: 4, repeated: false })
      expect(await query('SELECT sum(n) AS n FROM days')).toEqual([{ n: '4' }])
      expect(await query('SELECT sum(n) AS n FROM `all``days`')).toEqual([{ n: '4' }])
      expect(await count()).toBe(4)
      // What has a window now needs nobody who may change it.
      const never = await opened({ create: 'never' })
      expect(await bench.write(never, { rows: ROWS, at: 1 })).toMatchObject({ rows: 4 })
      for (const own of [loader, never]) await own.close()
    })

    it.for([
      [
        'a view into a table that cannot refuse a repetition',
        [
          'CREATE TABLE events (id Int64) ENGINE = MergeTree ORDER BY id',
          'CREATE TABLE copy (id Int64) ENGINE = Memory',
          'CREATE MATERIALIZED VIEW v TO copy AS SELECT id FROM events',
        ],
        'engine Memory cannot refuse',
      ],
      [
        'a view whose partitions follow the clock',
        [
          'CREATE TABLE events (id Int64) ENGINE = MergeTree ORDER BY id',
          'CREATE TABLE copy (id Int64, d Date) ENGINE = MergeTree PARTITION BY d ORDER BY id',
          'CREATE MATERIALIZED VIEW v TO copy AS SELECT id, toDate(now()) AS d FROM events',
        ],
        'gives other values',
      ],
      [
        'partitions by a column that follows the clock',
        ['CREATE TABLE events (id Int64, d Date DEFAULT today()) ENGINE = MergeTree PARTITION BY d ORDER BY id'],
        'the partitions of',
      ],
      ['a table of another engine', ['CREATE TABLE events (id Int64) ENGINE = Memory'], 'engine Memory'],
      [
        'a column that would cut off',
        ['CREATE TABLE events (id Int8) ENGINE = MergeTree ORDER BY id'],
        'column id is Int8, the batch has Nullable(Int64)',
      ],
    ] as const)('are refused for %s', async ([, statements, message]) => {
      for (const statement of statements) await query(statement)
      expect(await failing(opened({ evolve: false, batch_column: false }, 'SELECT 1::BIGINT AS id'))).toMatchObject({
        code: 'STORE_MISMATCH',
        message: expect.stringContaining(message),
        hint: expect.any(String),
      })
    })
  })

  const forgetEntries = (where: string) =>
    query(`DELETE FROM _adflow_batches WHERE ${where} SETTINGS lightweight_deletes_sync = 2`)

  describe('a batch whose end nobody has heard', () => {
    const VIEW = {
      name: 'by_name',
      to: 'names',
      query: 'SELECT id, name, count() AS n FROM {table} GROUP BY id, name',
      engine: 'SummingMergeTree',
      order_by: ['id', 'name'],
      partition_by: 'id',
    }
    /** What a kill leaves, made by hand: partitions that never came are dropped, which the table forgets with them. */
    const lose = async (table: string, ids: readonly number[]) => {
      for (const id of ids) await query(`ALTER TABLE ${table} DROP PARTITION ${id}`)
    }
    const LOST = [
      ['nothing', [0, 1, 2, 3]],
      ['one partition', [1, 2, 3]],
      ['all but one partition', [2]],
      ['everything', []],
    ] as const

    for (const viewed of [false, true])
      it.for(LOST)(
        `is there once when the table has %s of it${viewed ? ', and its view something else' : ''}`,
        async ([, lost]) => {
          const loader = await opened({
            partition_by: 'id',
            not_null: ['id', 'name'],
            materialized_views: viewed ? [VIEW] : [],
          })
          await bench.write(loader, { rows: ROWS })
          await forgetEntries("state = 'written'")
          await lose('events', lost)
          if (viewed) await lose('names', [0, 2])
          await bench.write(loader, { rows: ROWS, at: 1 })
          expect(await bench.write(loader, { rows: ROWS })).toMatchObject({ rows: 4, repeated: false })
          expect(await bench.write(loader, { rows: ROWS })).toMatchObject({ rows: 4, repeated: true })
          expect(await query('SELECT id, count() AS n FROM events GROUP BY id ORDER BY id')).toEqual(
            [0, 1, 2, 3].map((id) => ({ id: String(id), n: '2' })),
          )
          if (viewed)
            expect(await query('SELECT count() AS k, sum(n) AS n FROM names FINAL')).toEqual([{ k: '4', n: '8' }])
          await loader.close()
        },
      )

    it.for(LOST.slice(0, 2))(
      'is there once when the table has %s of it and has forgotten its token',
      async ([, lost]) => {
        const loader = await opened({ partition_by: 'id', not_null: ['id'], deduplication_window: 6 })
        await bench.write(loader, { rows: ROWS })
        await forgetEntries("state = 'written'")
        await lose('events', lost)
        for (let at = 1; at < 4; at += 1) await bench.write(loader, { rows: ROWS, at })
        expect(await bench.write(loader, { rows: ROWS })).toMatchObject({ rows: 4, repeated: false })
        expect(await query('SELECT id, count() AS n FROM events GROUP BY id ORDER BY id')).toEqual(
          [0, 1, 2, 3].map((id) => ({ id: String(id), n: '4' })),
        )
        await loader.close()
      },
    )

    it('is refused by its entry after any number of others, where it was written', async () => {
      const loader = await opened({ partition_by: 'id', deduplication_window: 2, batch_column: false })
      for (const at of [0, 1, 2, 3, 0, 1, 2, 3]) await bench.write(loader, { rows: ROWS, at })
      expect(await count()).toBe(16)
      await loader.close()
    })

    it.for([
      ['rows do not know their batch', { batch_column: false }],
      ['a view feeds another table', { materialized_views: [VIEW] }],
      ['rows go when they are merged', { engine: 'ReplacingMergeTree', order_by: ['id'] }],
    ] as const)('is refused when its token is forgotten and %s, and can be settled by hand', async ([, options]) => {
      const loader = await opened({ partition_by: 'id', not_null: ['id', 'name'], deduplication_window: 6, ...options })
      await bench.write(loader, { rows: ROWS })
      await forgetEntries("state = 'written'")
      for (let at = 1; at < 4; at += 1) await bench.write(loader, { rows: ROWS, at })
      const merged = 'engine' in options
      const from = merged ? 'events FINAL' : 'events'
      const before = await count(from)
      const error = (await failing(bench.write(loader, { rows: ROWS }))) as { code: string; hint: string }
      expect(error).toMatchObject({ code: 'STORE_MISMATCH', message: expect.stringContaining('nobody knows') })
      expect(await count(from)).toBe(before)
      const [, allThere = '', nothingThere = ''] = /All there: (.*)\. Nothing there: (.*)$/.exec(error.hint) ?? []
      await query(nothingThere)
      expect(await bench.write(loader, { rows: ROWS })).toMatchObject({ rows: 4, repeated: false })
      await forgetEntries("state = 'written' AND from_position = '0'")
      await query(allThere)
      expect(await bench.write(loader, { rows: ROWS })).toMatchObject({ rows: 4, repeated: true })
      expect(await count(from)).toBe(before + (merged ? 0 : 4))
      await loader.close()
    })

    it('is known by what its rows follow from, where that is told, and by its rows where it is told once only', async () => {
      const loader = await opened({ partition_by: 'id', not_null: ['id'] })
      const begun = async (made: string | undefined, at: number) => {
        await bench.write(loader, { rows: ROWS, at, ...(made === undefined ? {} : { made }) })
        await forgetEntries("state = 'written'")
        await lose('events', [0, 1])
      }
      await begun('these rules', 0)
      expect(await failing(bench.write(loader, { rows: ROWS, made: 'other rules' }))).toMatchObject({
        code: 'STORE_MISMATCH',
        message: expect.stringContaining('other rows'),
      })
      expect(await bench.write(loader, { rows: ROWS, made: 'these rules' })).toMatchObject({ rows: 4, repeated: false })
      expect(await count()).toBe(4)
      await begun(undefined, 1)
      expect(await bench.write(loader, { rows: ROWS, at: 1, made: 'these rules' })).toMatchObject({
        rows: 4,
        repeated: false,
      })
      expect(await count('events WHERE id > 1')).toBe(4)
      await loader.close()
    })

    it('takes the rows of today where nothing of it came, and refuses them where something did', async () => {
      const today = ROWS.replace("'name ' || i", "'renamed ' || i")
      const loader = await opened({ partition_by: 'id', not_null: ['id'] })
      await bench.write(loader, { rows: ROWS })
      await forgetEntries("state = 'written'")
      await lose('events', [0, 1])
      expect(await failing(bench.write(loader, { rows: today }))).toMatchObject({
        code: 'STORE_MISMATCH',
        message: expect.stringContaining('other rows'),
      })
      await lose('events', [2, 3])
      expect(await bench.write(loader, { rows: today })).toMatchObject({ rows: 4, repeated: false })
      expect(await query("SELECT countIf(name LIKE 'renamed %') AS n, count() AS all FROM events")).toEqual([
        { n: '4', all: '4' },
      ])
      await loader.close()
    })
  })

  describe('replace', () => {
    it('shows the old rows until the run is complete, then the new ones', async () => {
      await query('CREATE TABLE events ENGINE = MergeTree ORDER BY id AS SELECT 99::Int64 AS id')
      const loader = await opened({ write: 'replace' })
      await bench.write(loader, { rows: ROWS })
      expect(await query('SELECT id FROM events')).toEqual([{ id: '99' }])
      await loader.finish?.({ engine: bench.session, complete: false })
      expect(await count()).toBe(1)
      expect(await failing(opened())).toMatchObject({
        code: 'STORE_MISMATCH',
        hint: expect.stringContaining('replace'),
      })
      await loader.finish?.({ engine: bench.session, complete: true })
      expect(await count()).toBe(4)
      expect(await bench.write(loader, { rows: ROWS })).toMatchObject({ repeated: true })
      await loader.finish?.({ engine: bench.session, complete: true })
      expect(await count()).toBe(4)
      await loader.close()
    })

    it('is finished by the next run, wherever it was killed', async () => {
      const { ClickHouseClient } = await import('@clickhouse/client')
      const command = ClickHouseClient.prototype.command
      for (let lastStep = 0, whole = false; !whole; lastStep += 1) {
        const rows = ROWS.replace('range(4)', `range(${lastStep + 1})`)
        const doomed = await opened({ write: 'replace' })
        await bench.write(doomed, { rows, at: lastStep })
        let steps = 0
        ClickHouseClient.prototype.command = function (...args) {
          steps += 1
          if (steps > lastStep) throw new Error('dead')
          return Reflect.apply(command, this, args)
        }
        whole =
          (await failing(Promise.resolve(doomed.finish?.({ engine: bench.session, complete: true })))) === undefined
        ClickHouseClient.prototype.command = command
        const heir = await opened({ write: 'replace' })
        await heir.finish?.({ engine: bench.session, complete: true })
        expect(await count(), `after step ${lastStep}`).toBe(lastStep + 1)
        expect(
          await query(
            "SELECT name, comment FROM system.tables WHERE database = currentDatabase() AND name LIKE 'events%'",
          ),
        ).toEqual([{ name: 'events', comment: '' }])
        for (const loader of [doomed, heir]) await loader.close()
      }
    })

    it('refuses a table with materialized views, which it would not feed', async () => {
      await query('CREATE TABLE events (id Int64) ENGINE = MergeTree ORDER BY id')
      await query('CREATE MATERIALIZED VIEW v ENGINE = MergeTree ORDER BY id AS SELECT id FROM events')
      expect(await failing(opened({ write: 'replace' }))).toMatchObject({
        code: 'STORE_MISMATCH',
        message: expect.stringContaining('a replace does not feed them'),
      })
    })
  })

  it('names its data set without the password', () => {
    const { namespace, name } = loaderOf().dataset()
    expect(namespace).toMatch(/^clickhouse:\/\/127\.0\.0\.1:\d+$/)
    expect(name).toBe(`${database.name}.events`)
  })
})
