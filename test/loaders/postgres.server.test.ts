import { once } from 'node:events'
import { basename } from 'node:path'
import { Client } from 'pg'
import { from } from 'pg-copy-streams'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { Postgres } from '../../src/clients/postgres/connect.ts'
import { connectionShape } from '../../src/clients/postgres/options.ts'
import type { Loader } from '../../src/core/contracts.ts'
import postgres from '../../src/loaders/postgres.ts'
import { cutAnswer, failing } from '../harness/cut-answer.ts'
import { JOB, LoaderBench, newFolder, removeFolder } from '../harness/loader.ts'
import { makeCertificate } from '../harness/servers/core/certificates.ts'
import { makeFolder } from '../harness/servers/core/folder.ts'
import { type FreshUrl, freshDatabase } from '../harness/servers/fresh.ts'
import { startPrivate } from '../harness/servers/private.ts'
import { serverSuite } from '../harness/servers/suite.ts'
import { proxyFor } from '../harness/servers/toxics.ts'

const ROWS =
  "SELECT i::BIGINT AS id, 'name ' || i AS name, TIMESTAMP '2026-03-30' + to_days(i::INTEGER) AS at FROM range(4) t(i)"

await serverSuite('the loader of PostgreSQL', ['postgres', 'toxiproxy'], ({ postgres: server, toxiproxy }) => {
  let folder: string
  let bench: LoaderBench
  let database: FreshUrl

  beforeEach(async () => {
    folder = newFolder()
    database = await freshDatabase(server)
    bench = await LoaderBench.open({ definition: postgres as never, folder, options: [] })
  })
  afterEach(async () => {
    bench.close()
    removeFolder(folder)
    await database.remove()
  })

  const loaderOf = (options: Readonly<Record<string, unknown>> = {}) =>
    bench.create({ url: database.url, table: 'events', connect_timeout: '5s', ...options })
  const opened = (options: Readonly<Record<string, unknown>> = {}, rows = ROWS) => bench.open(loaderOf(options), rows)
  const query = async (sql: string, url = database.url): Promise<Record<string, unknown>[]> => {
    const client = new Client({ connectionString: url })
    client.on('error', () => undefined) // the server may be killed meanwhile; the query says so
    await client.connect()
    try {
      return (await client.query<Record<string, unknown>>(sql)).rows
    } finally {
      await client.end()
    }
  }
  const count = async (table = 'events') => Number((await query(`SELECT count(*) AS n FROM ${table}`))[0]?.['n'])
  const close = async (loader: Loader) => loader.close()

  describe('what it makes', () => {
    it('partitions by range for each day that comes, with a place for rows without one', async () => {
      const loader = await opened({ partition: { by: 'range', column: 'at', every: 'day' } })
      await bench.write(loader, { rows: `${ROWS} UNION ALL SELECT 9, 'none', NULL` })
      expect(
        await query('SELECT tableoid::regclass::text AS part, count(*)::int AS n FROM events GROUP BY 1 ORDER BY 1'),
      ).toEqual([
        { part: 'events_20260330', n: 1 },
        { part: 'events_20260331', n: 1 },
        { part: 'events_20260401', n: 1 },
        { part: 'events_20260402', n: 1 },
        { part: 'events_rest', n: 1 },
      ])
      await close(loader)
    })

    it.for([
      [{ by: 'list', column: 'name' }, 5],
      [{ by: 'hash', column: 'id', partitions: 3 }, 3],
    ] as const)('partitions %j', async ([partition, parts]) => {
      const loader = await opened({ partition })
      await bench.write(loader, { rows: ROWS })
      await bench.write(loader, { rows: ROWS, at: 1 })
      expect(await count()).toBe(8)
      expect(await query("SELECT count(*)::int AS n FROM pg_inherits WHERE inhparent = 'events'::regclass")).toEqual([
        { n: parts },
      ])
      await close(loader)
    })

    it('indexes of each kind, which the server can use', async () => {
      const indexes = [
        { columns: ['at'], type: 'brin' },
        { columns: ['id'], type: 'hash' },
        { columns: ['name'], type: 'full_text', language: 'english' },
        { columns: ['id', 'name'] },
      ]
      await close(await opened({ indexes }))
      const found = await query("SELECT indexdef FROM pg_indexes WHERE tablename = 'events' ORDER BY indexname")
      const kinds = found.map(({ indexdef }) => /USING (\w+)/.exec(String(indexdef))?.[1])
      expect(kinds.sort()).toEqual(['brin', 'btree', 'gin', 'hash'])
    })

    it('the index of batches of a table that has none, or what a kill has left of one; before that, and for whoever may not, the answer is the same', async () => {
      const poor = `${database.name}_poor`
      const url = new URL(database.url)
      url.username = poor
      url.password = 'poor'
      const loader = await opened()
      for (const lane of ['a', 'b']) for (const at of [9, 10]) await bench.write(loader, { rows: ROWS, at, lane })
      const told = async (teller: Loader) => {
        const records = await teller.history?.(JOB, {
          engine: bench.session,
          since: (_, lane) => (lane === 'a' ? '10' : '11'),
        })
        return records?.map(({ range: { lane, from } }) => `${lane} ${from}`)
      }
      const usable = () =>
        query(
          `SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('_adflow_batches_lanes') AND indnatts > 1`,
        )
      expect([await told(loader), await usable()]).toEqual([['a 10'], [{ indisvalid: true }]])
      await query(`DROP INDEX _adflow_batches_lanes; CREATE INDEX _adflow_batches_lanes ON _adflow_batches (token); UPDATE pg_index SET indisvalid = false WHERE indexrelid = '_adflow_batches_lanes'::regclass;
        CREATE ROLE ${poor} LOGIN PASSWORD 'poor'; GRANT USAGE ON SCHEMA public TO ${poor}; GRANT SELECT, INSERT ON events, _adflow_batches TO ${poor}`)
      const restricted = await opened({ url: url.href, create: 'never' })
      expect([await told(restricted), await usable()]).toEqual([['a 10'], []])
      const owner = await opened()
      expect([await told(owner), await usable()]).toEqual([['a 10'], [{ indisvalid: true }]])
      for (const each of [loader, restricted, owner]) await close(each)
      await query(`DROP OWNED BY ${poor}; DROP ROLE ${poor}`)
    })

    it('wider columns and new ones, and refuses what would lose something', async () => {
      const first = await opened({}, 'SELECT 1::INTEGER AS id')
      await bench.write(first, { rows: 'SELECT 1::INTEGER AS id' })
      const wider = "SELECT 9007199254740993::BIGINT AS id, 'x' AS note"
      const second = await opened({}, wider)
      await bench.write(second, { rows: wider, at: 1 })
      expect(await query('SELECT id, note FROM events ORDER BY id')).toEqual([
        { id: '1', note: null },
        { id: '9007199254740993', note: 'x' },
      ])
      expect(await failing(opened({}, "SELECT 'text' AS id"))).toMatchObject({ code: 'STORE_MISMATCH' })
      for (const loader of [first, second]) await close(loader)
    })
  })

  describe('replace', () => {
    it('shows the old rows until the run is complete, then the new ones, with the grants of before', async () => {
      await query(`CREATE ROLE ${database.name}_reader`)
      await query('CREATE TABLE events AS SELECT 99::bigint AS id')
      await query(`GRANT SELECT ON events TO ${database.name}_reader`)
      const loader = await opened({ write: 'replace' })
      await bench.write(loader, { rows: ROWS })
      expect(await query('SELECT id FROM events')).toEqual([{ id: '99' }])
      await loader.finish?.({ engine: bench.session, complete: false })
      expect(await count()).toBe(1)
      await loader.finish?.({ engine: bench.session, complete: true })
      expect(await count()).toBe(4)
      expect(await query(`SELECT has_table_privilege('${database.name}_reader', 'events', 'SELECT') AS may`)).toEqual([
        { may: true },
      ])
      await close(loader)
      await query(`DROP OWNED BY ${database.name}_reader; DROP ROLE ${database.name}_reader`)
    })

    it('keeps the views on the table', async () => {
      await query('CREATE TABLE events (id bigint, name text, at timestamp, _batch bigint)')
      await query('CREATE VIEW names AS SELECT name FROM events')
      const loader = await opened({ write: 'replace' })
      await bench.write(loader, { rows: ROWS })
      await loader.finish?.({ engine: bench.session, complete: true })
      expect(await count('names')).toBe(4)
      await close(loader)
    })
  })

  describe('a connection that is cut', () => {
    it('just after the commit was sent: the next attempt finds the batch there, once', async () => {
      await using proxy = await proxyFor(toxiproxy, database.url)
      const loader = await opened({ url: proxy.url })
      const answers: string[] = []
      for (let bytes = 20; bytes < 500; bytes += 16) {
        const at = bytes
        const spec = { at, rows: ROWS, lane: 'cut' }
        answers.push(await cutAnswer({ bench, loader, proxy }, bytes, spec, 4))
      }
      expect([...new Set(answers)].sort()).toEqual(['landed', 'lost', 'whole'])
      expect(await count()).toBe(4 * answers.length)
      await close(loader)
    }, 120_000)

    it('by the server, which waits for no transaction that stands still', async () => {
      const options = z.object(connectionShape).parse({ url: database.url })
      const standing = new Postgres({ ...options, idleMs: 100 }, folder)
      const stands = standing.transaction('stand still', async (client) => {
        await client.query('SELECT 1')
        await once(client, 'error')
        await client.query('SELECT 1')
      })
      await expect(stands).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE', retryable: true })
      await standing.close()
    })

    it('by whoever comes after one that stands still in the middle of its COPY', async () => {
      const loader = await opened()
      const standing = new Client({ connectionString: database.url, application_name: 'adflow' })
      standing.on('error', () => undefined) // it is ended
      const ended = new Promise((resolve) => standing.once('end', resolve))
      await standing.connect()
      const { token } = await bench.batch({ rows: ROWS })
      await standing.query(
        `BEGIN; INSERT INTO _adflow_batches SELECT '${token}', 'public.events', 'l', 'j', 's', 'a', '0', '1', 'd', 0, now()`,
      )
      standing.query(from('COPY events FROM STDIN')).on('error', () => undefined) // there
      expect(await bench.write(loader, { rows: ROWS })).toMatchObject({ rows: 4, repeated: false })
      await ended
      expect(await count()).toBe(4)
      await close(loader)
    })

    it('by kill -9 of the server in the middle of a batch: nothing of it is there, then all of it', async () => {
      await using own = await startPrivate('postgres')
      const { url } = own.endpoint
      const loader = await opened({ url })
      const rows =
        "SELECT i::BIGINT AS id, repeat('x', 200) AS name, TIMESTAMP '2026-01-01' AS at FROM range(400000) t(i)"
      const first = failing(bench.write(loader, { rows }))
      const copying = async () =>
        (await query('SELECT count(*)::int AS n FROM pg_stat_progress_copy', url))[0]?.['n'] === 1
      while (!(await copying()));
      await own.kill9()
      expect(await first).toMatchObject({ code: 'STORE_UNAVAILABLE' })
      await own.restart()
      expect(await query('SELECT count(*)::int AS n FROM events', url)).toEqual([{ n: 0 }])
      expect(await bench.write(loader, { rows })).toMatchObject({ rows: 400_000, repeated: false })
      expect(await query('SELECT count(*)::int AS n, count(DISTINCT id)::int AS d FROM events', url)).toEqual([
        { n: 400_000, d: 400_000 },
      ])
      await close(loader)
    }, 120_000)
  })

  describe('says what is wrong, once and clearly', () => {
    it('of a wrong password', async () => {
      const url = new URL(database.url)
      url.password = ''
      expect(await failing(opened({ url: url.href, password: 'a wrong one' }))).toMatchObject({
        code: 'STORE_DENIED',
        exit: 77,
      })
    })

    it('of a missing table under create: never', async () => {
      expect(await failing(opened({ create: 'never' }))).toMatchObject({
        code: 'STORE_MISMATCH',
        message: expect.stringContaining('public.events does not exist'),
      })
    })

    it('of a missing privilege', async () => {
      const name = `${database.name}_poor`
      await query(`CREATE ROLE ${name} LOGIN PASSWORD 'poor'; CREATE TABLE events (id bigint)`)
      const url = new URL(database.url)
      url.username = name
      url.password = 'poor'
      expect(await failing(opened({ url: url.href }))).toMatchObject({
        code: 'STORE_DENIED',
        hint: expect.stringContaining('grant'),
      })
      await query(`DROP OWNED BY ${name}; DROP ROLE ${name}`)
    })

    it('of a full disk on the server, and takes the batch when there is room again', async () => {
      await using own = await startPrivate('postgres', { diskSize: '80m' })
      const { url } = own.endpoint
      await query('CREATE TABLE filler AS SELECT repeat(md5(i::text), 30) AS v FROM generate_series(1, 30000) i', url)
      const loader = await opened({ url })
      const rows = "SELECT i::BIGINT AS id, repeat('y', 500) AS name, NULL::TIMESTAMP AS at FROM range(80000) t(i)"
      expect(await failing(bench.write(loader, { rows }))).toMatchObject({
        code: 'STORE_UNAVAILABLE',
        hint: expect.stringContaining('disk'),
      })
      expect(await query('SELECT count(*)::int AS n FROM events', url)).toEqual([{ n: 0 }])
      await query('DROP TABLE filler', url)
      await query('TRUNCATE events', url)
      expect(await bench.write(loader, { rows })).toMatchObject({ rows: 80_000, repeated: false })
      await close(loader)
    }, 120_000)

    it('of a read-only replica', async () => {
      await using primary = await startPrivate('postgres')
      await using replica = await startPrivate('postgres', { replicaOf: primary.endpoint.url })
      expect(await failing(opened({ url: replica.endpoint.url }))).toMatchObject({
        hint: expect.stringContaining('read-only replica'),
      })
    }, 120_000)

    it('of an expired certificate', async () => {
      const files = makeFolder('certificates')
      const expired = await makeCertificate(files, { notAfter: new Date(Date.now() - 1000) })
      await using own = await startPrivate('postgres', { tls: expired })
      const options = { url: own.endpoint.url, tls: { mode: 'verify', ca: expired.authorityFile } }
      expect(await failing(opened(options))).toMatchObject({
        code: 'STORE_DENIED',
        message: expect.stringContaining('expired'),
      })
      files.remove()
    }, 120_000)

    it('of a server that is not there', async () => {
      expect(await failing(opened({ url: 'postgres://nobody@127.0.0.1:1/none' }))).toMatchObject({
        code: 'STORE_UNAVAILABLE',
        retryable: true,
      })
    })
  })

  it('names its data set without the password', () => {
    const { namespace, name } = loaderOf().dataset()
    expect(namespace).toMatch(/^postgres:\/\/127\.0\.0\.1:\d+$/)
    expect(name).toBe(`${basename(new URL(database.url).pathname)}.public.events`)
  })
})
