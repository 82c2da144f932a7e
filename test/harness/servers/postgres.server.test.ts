import { readFileSync } from 'node:fs'
import { Client } from 'pg'
import { expect, it } from 'vitest'
import { makeCertificate } from './core/certificates.ts'
import { makeFolder } from './core/folder.ts'
import { freshDatabase } from './fresh.ts'
import { startPrivate } from './private.ts'
import { serverSuite } from './suite.ts'

async function query(url: string, sql: string, ssl?: { ca: string }): Promise<unknown[]> {
  const client = new Client({ connectionString: url, ...(ssl === undefined ? {} : { ssl }) })
  await client.connect()
  try {
    return (await client.query<Record<string, unknown>>(sql)).rows
  } finally {
    await client.end()
  }
}

await serverSuite('PostgreSQL of the harness', ['postgres'], ({ postgres }) => {
  it('gives each test a database, and decodes changes logically', async () => {
    await using database = await freshDatabase(postgres)
    expect(await query(database.url, 'SELECT current_database() AS name')).toEqual([{ name: database.name }])
    expect(await query(database.url, 'SHOW wal_level')).toEqual([{ wal_level: 'logical' }])
  })

  it('refuses a wrong password', async () => {
    const url = new URL(postgres.url)
    url.password = 'wrong'
    await expect(query(url.href, 'SELECT 1')).rejects.toThrow('password authentication failed')
  })

  it('keeps what was committed when it is killed', async () => {
    await using server = await startPrivate('postgres')
    const { url } = server.endpoint
    await query(url, 'CREATE TABLE t AS SELECT 1 AS n')
    await server.kill9()
    await expect(query(url, 'SELECT 1')).rejects.toThrow('ECONNREFUSED')
    await server.restart()
    expect(await query(url, 'SELECT n FROM t')).toEqual([{ n: 1 }])
  })

  it('says nothing while it is held still', async () => {
    await using server = await startPrivate('postgres')
    const client = new Client({ connectionString: server.endpoint.url })
    await client.connect()
    server.stop()
    let answered = false
    const asking = client.query('SELECT 1').then(() => {
      answered = true
    })
    await new Promise((resolve) => setTimeout(resolve, 100))
    expect(answered).toBe(false)
    server.cont()
    await asking
    await client.end()
  })

  it('has a read-only replica on demand', async () => {
    await using primary = await startPrivate('postgres')
    await query(primary.endpoint.url, 'CREATE TABLE t AS SELECT 1 AS n')
    await using replica = await startPrivate('postgres', { replicaOf: primary.endpoint.url })
    expect(await query(replica.endpoint.url, 'SELECT n FROM t')).toEqual([{ n: 1 }])
    await expect(query(replica.endpoint.url, 'INSERT INTO t VALUES (2)')).rejects.toThrow('read-only transaction')
  })

  it('shows a certificate that its authority vouches for, until it expires', async () => {
    const folder = makeFolder('certificates')
    try {
      const good = await makeCertificate(folder)
      await using server = await startPrivate('postgres', { tls: good })
      const ca = readFileSync(good.authorityFile, 'utf8')
      const encrypted = 'SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()'
      expect(await query(server.endpoint.url, encrypted, { ca })).toEqual([{ ssl: true }])
      await expect(query(server.endpoint.url, encrypted, { ca: '' })).rejects.toThrow(/certificate/)
    } finally {
      folder.remove()
    }
    const old = makeFolder('certificates')
    try {
      const expired = await makeCertificate(old, { notAfter: new Date(Date.now() - 1000) })
      await using server = await startPrivate('postgres', { tls: expired })
      const ca = readFileSync(expired.authorityFile, 'utf8')
      await expect(query(server.endpoint.url, 'SELECT 1', { ca })).rejects.toThrow('certificate has expired')
    } finally {
      old.remove()
    }
  })

  it('fills up a small disk', async () => {
    await using server = await startPrivate('postgres', { diskSize: '80m' })
    await query(server.endpoint.url, 'CREATE TABLE t (v text)')
    const fill = "INSERT INTO t SELECT repeat('x', 1000) FROM generate_series(1, 200000)"
    await expect(query(server.endpoint.url, fill)).rejects.toThrow('No space left on device')
    expect(await query(server.endpoint.url, 'SELECT count(*)::int AS n FROM t')).toEqual([{ n: 0 }])
  })
})
