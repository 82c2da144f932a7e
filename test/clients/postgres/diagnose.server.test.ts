import { Client } from 'pg'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import postgres from '../../../src/loaders/postgres.ts'
import { type DiagnosisOptions, diagnosed, statuses } from '../../harness/diagnosis.ts'
import { makeCertificate } from '../../harness/servers/core/certificates.ts'
import { makeFolder } from '../../harness/servers/core/folder.ts'
import { type FreshUrl, freshDatabase, freshName } from '../../harness/servers/fresh.ts'
import { startPrivate } from '../../harness/servers/private.ts'
import { serverSuite } from '../../harness/servers/suite.ts'

const COLUMNS = [
  { name: 'id', type: 'BIGINT', from: ['id'] },
  { name: 'name', type: 'VARCHAR', from: ['name'] },
]
const HEALTHY = {
  reachable: 'ok',
  version: 'ok',
  tls: 'ok',
  writable: 'ok',
  target: 'ok',
  permission: 'ok',
  durability: 'ok',
  connections: 'ok',
  clock: 'ok',
  disk: 'unknown',
}

await serverSuite('the diagnosis of PostgreSQL', ['postgres'], ({ postgres: server }) => {
  let database: FreshUrl
  beforeEach(async () => {
    database = await freshDatabase(server)
  })
  afterEach(() => database.remove())

  const query = async (sql: string, url = database.url): Promise<Record<string, unknown>[]> => {
    const client = new Client({ connectionString: url })
    await client.connect()
    try {
      return (await client.query<Record<string, unknown>>(sql)).rows
    } finally {
      await client.end()
    }
  }
  const asked = (options: Readonly<Record<string, unknown>> = {}, env: DiagnosisOptions = {}) =>
    diagnosed(postgres, { url: database.url, table: 'events', ...options }, { columns: COLUMNS, ...env })
  const found = async (check: string, ...options: Parameters<typeof asked>) =>
    (await asked(...options)).find((finding) => finding.check === check)

  it('finds a healthy server well, says what would be made, and makes nothing', async () => {
    const findings = await asked()
    expect(statuses(findings)).toEqual(HEALTHY)
    expect(findings.find(({ check }) => check === 'target')?.found).toBe(
      'would be made: table public.events, table public._adflow_batches',
    )
    expect(await query("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace")).toEqual([])
    expect(JSON.stringify(findings)).not.toContain(`:${new URL(server.url).password}@`)
  })

  it('finds a table that is there, and columns that would be added to it', async () => {
    await query('CREATE TABLE events (id bigint)')
    expect((await found('target'))?.found).toBe(
      'would be made: table public._adflow_batches, ADD COLUMN "name" text, ADD COLUMN "_batch" bigint',
    )
    expect(await found('target', { evolve: false })).toMatchObject({ status: 'failed', code: 'STORE_MISMATCH' })
    expect(await found('target', { table: 'others', create: 'never' })).toMatchObject({
      status: 'failed',
      found: 'the table public.others does not exist',
    })
  })

  it('names a wrong password, a missing database and a server that is not there', async () => {
    const wrong = new URL(database.url)
    wrong.password = 'wrong password'
    expect(await asked({ url: wrong.href })).toMatchObject([
      { check: 'reachable', status: 'failed', code: 'STORE_DENIED', place: expect.stringMatching(/^127.+\/adflow_/) },
    ])
    const missing = new URL(database.url)
    missing.pathname = '/no_such_database'
    expect(statuses(await asked({ url: missing.href }))).toEqual({ reachable: 'failed STORE_MISMATCH' })
    expect(statuses(await asked({ url: 'postgres://adflow@127.0.0.1:1/ads' }))).toEqual({
      reachable: 'failed STORE_UNAVAILABLE',
    })
  })

  it('says where the time is over when a server is silent', async () => {
    const began = performance.now()
    const findings = await asked({ url: 'postgres://adflow@192.0.2.1:5432/ads' }, { timeoutMs: 600 })
    expect(statuses(findings)).toEqual({ reachable: 'failed STORE_UNAVAILABLE' })
    expect(performance.now() - began).toBeLessThan(3000)
  })

  it('tells a clock that is an hour away', async () => {
    const behind = await found('clock', {}, { now: () => Date.now() - 3_600_000 })
    expect(behind).toMatchObject({ status: 'warning', found: '60 min ahead of this machine' })
    const ahead = await found('clock', {}, { now: () => Date.now() + 30_000 })
    expect(ahead).toMatchObject({ status: 'warning', found: '30 s behind this machine' })
  })

  describe('for a user with few rights', () => {
    let user: string
    let url: string
    beforeEach(async () => {
      user = freshName('user')
      await query(`CREATE ROLE ${user} LOGIN PASSWORD 'secret of ${user}'`)
      const own = new URL(database.url)
      own.username = user
      own.password = encodeURIComponent(`secret of ${user}`)
      url = own.href
    })
    afterEach(() => query(`DROP OWNED BY ${user}; DROP ROLE ${user}`))

    it('names each privilege that is missing, with the statement that gives it', async () => {
      await query('CREATE SCHEMA ads; CREATE TABLE ads.events (id bigint, name text, _batch bigint)')
      const options = { url, schema: 'ads', write: 'merge', key: ['id'] }
      const finding = await found('permission', options)
      expect(finding).toMatchObject({ status: 'failed', code: 'STORE_DENIED' })
      expect(finding?.found).toBe(
        `${user} lacks USAGE on the schema ads, CREATE on the schema ads, SELECT on "ads"."events", INSERT on "ads"."events", UPDATE on "ads"."events"`,
      )
      await query(finding !== undefined && 'mend' in finding ? finding.mend : '')
      expect(statuses(await asked(options))).toMatchObject({ target: 'ok', permission: 'ok' })
    })

    it('asks for no more than least privilege under `create: never`', async () => {
      await query(
        `CREATE TABLE events (id bigint, name text, _batch bigint); CREATE TABLE _adflow_batches (token text); GRANT INSERT ON events TO ${user}; GRANT SELECT, INSERT ON _adflow_batches TO ${user}`,
      )
      expect(await found('permission', { url, create: 'never' })).toMatchObject({ status: 'ok' })
      expect(await found('permission', { url, schema: 'elsewhere' })).toMatchObject({
        status: 'failed',
        mend: `GRANT CREATE ON DATABASE "${database.name}" TO "${user}"`,
      })
    })

    it('warns of row-level security, of an unlogged table, of commits that are not waited for and of few connections', async () => {
      await query(
        `CREATE UNLOGGED TABLE events (id bigint, name text, _batch bigint); ALTER TABLE events ENABLE ROW LEVEL SECURITY; GRANT INSERT ON events TO ${user}; GRANT CREATE ON SCHEMA public TO ${user}; ALTER ROLE ${user} SET synchronous_commit = off; ALTER ROLE ${user} CONNECTION LIMIT 2`,
      )
      const warnings = (await asked({ url })).filter(({ status }) => status === 'warning')
      expect(warnings.map(({ check }) => check)).toEqual(['durability', 'permission', 'durability', 'connections'])
      expect(warnings.at(-1)?.found).toBe('2 free, 4 wanted: the limit of the user is reached')
    })

    it('says that transactions are read-only', async () => {
      await query(`ALTER ROLE ${user} SET default_transaction_read_only = on`)
      expect(await found('writable', { url })).toMatchObject({ status: 'failed', code: 'STORE_UNAVAILABLE' })
    })
  })

  it('tells how the connection is secured, and when the certificate ends', async () => {
    const folder = makeFolder('adflow-certificate')
    const certificate = await makeCertificate(folder)
    await using own = await startPrivate('postgres', { tls: certificate })
    const options = { url: own.endpoint.url, tls: { mode: 'verify', ca: certificate.authorityFile } }
    expect(await found('tls', options)).toMatchObject({
      status: 'warning',
      found: expect.stringMatching(/^TLSv1\.\d, and the certificate of the server ends in 24 h$/),
    })
    const early = { now: () => Date.now() - 60 * 86_400_000 }
    expect(await found('tls', options, early)).toMatchObject({ status: 'ok' })
    const unknown = { ...options, tls: { mode: 'verify' } }
    expect(await asked(unknown)).toMatchObject([{ check: 'reachable', status: 'failed', code: 'STORE_DENIED' }])
    folder.remove()
  })

  it('knows a replica', async () => {
    await using replica = await startPrivate('postgres', { replicaOf: server.url })
    expect(await found('writable', { url: replica.endpoint.url })).toMatchObject({
      status: 'failed',
      code: 'STORE_UNAVAILABLE',
      mend: 'name the primary in `url`',
    })
  })
})
