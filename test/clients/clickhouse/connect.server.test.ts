/** What is wrong between adflow and a server is said once and clearly. */
import { readFileSync } from 'node:fs'
import { type AddressInfo, connect, createServer as createTcp } from 'node:net'
import { createServer } from 'node:tls'
import { afterEach, beforeEach, expect, it } from 'vitest'
import clickhouse from '../../../src/loaders/clickhouse.ts'
import { onClickHouse } from '../../harness/clickhouse.ts'
import { LoaderBench, newFolder, removeFolder } from '../../harness/loader.ts'
import { type Certificate, makeCertificate } from '../../harness/servers/core/certificates.ts'
import { makeFolder } from '../../harness/servers/core/folder.ts'
import { type FreshUrl, freshClickHouseDatabase } from '../../harness/servers/fresh.ts'
import { startPrivate } from '../../harness/servers/private.ts'
import { serverSuite } from '../../harness/servers/suite.ts'

const ROWS = "SELECT i::BIGINT AS id, 'name ' || i AS name FROM range(4) t(i)"

await serverSuite('a connection to ClickHouse', ['clickhouse'], ({ clickhouse: server }) => {
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

  const loaderOf = (options: Readonly<Record<string, unknown>> = {}) =>
    bench.create({ url: database.url, table: 'events', connect_timeout: '5s', ...options })
  const failure = async (options: Readonly<Record<string, unknown>> = {}, rows = ROWS) => {
    const loader = loaderOf(options)
    try {
      await bench.open(loader, rows)
      await bench.write(loader, { rows })
      return undefined
    } catch (error) {
      return error
    } finally {
      await loader.close()
    }
  }
  const urlWith = (change: (url: URL) => void) => {
    const url = new URL(database.url)
    change(url)
    return url.href
  }

  it('with a wrong password is denied', async () => {
    expect(await failure({ password: 'a wrong one' })).toMatchObject({
      code: 'STORE_DENIED',
      exit: 77,
      message: expect.not.stringContaining('a wrong one'),
    })
  })

  it('of a user who may only read is denied, also in the middle of a large batch', async () => {
    const reader = urlWith((url) => {
      url.username = 'reader'
      url.password = 'reader'
    })
    expect(await failure({ url: reader })).toMatchObject({
      code: 'STORE_DENIED',
      hint: expect.stringContaining('grant'),
    })
    const rows = 'SELECT i::BIGINT AS id, md5(i::VARCHAR) AS name FROM range(300000) t(i)'
    const loader = await bench.open(loaderOf(), rows)
    await loader.close()
    expect(await failure({ url: reader, create: 'never' }, rows)).toMatchObject({ code: 'STORE_DENIED' })
  })

  it('of a user who may only insert and read is enough with `create: never`', async () => {
    await using own = await startPrivate('clickhouse')
    await (await bench.open(loaderOf({ url: own.endpoint.url }), ROWS)).close()
    const writer = new URL(own.endpoint.url)
    writer.username = 'writer'
    writer.password = 'writer'
    expect(await failure({ url: writer.href, create: 'never' })).toBeUndefined()
    expect(await onClickHouse(own.endpoint.url, 'SELECT count() AS n FROM events')).toEqual([{ n: '4' }])
    expect(await failure({ url: writer.href, table: 'others' })).toMatchObject({
      code: 'STORE_DENIED',
      message: expect.stringContaining('CREATE TABLE'),
    })
  })

  it('to a database or a table that is not there is a mismatch under `create: never`', async () => {
    expect(await failure({ create: 'never', url: urlWith((url) => (url.pathname = '/nowhere')) })).toMatchObject({
      code: 'STORE_MISMATCH',
      hint: expect.stringContaining('database'),
    })
    expect(await failure({ create: 'never' })).toMatchObject({ code: 'STORE_MISMATCH' })
    await (await bench.open(loaderOf({ table: 'other' }), ROWS)).close()
    expect(await failure({ create: 'never' })).toMatchObject({
      code: 'STORE_MISMATCH',
      message: expect.stringContaining(`${database.name}.events does not exist`),
    })
  })

  it('to a server that is not there, or that says nothing, is tried again', async () => {
    expect(await failure({ url: 'http://nobody@127.0.0.1:1/none' })).toMatchObject({
      code: 'STORE_UNAVAILABLE',
      retryable: true,
    })
    const silent = createServerThatSaysNothing()
    const { port } = await silent.listening
    expect(await failure({ url: `http://nobody@127.0.0.1:${port}/none`, connect_timeout: '300ms' })).toMatchObject({
      code: 'STORE_UNAVAILABLE',
      retryable: true,
    })
    silent.close()
  })

  it.for([
    ['good', {}, undefined],
    ['expired', { notAfter: new Date(Date.now() - 1000) }, 'expired'],
    ['for another name', { names: ['elsewhere.example'] }, 'altnames'],
  ] as const)('by TLS with a certificate that is %s', async ([, options, message]) => {
    const files = makeFolder('certificates')
    const certificate = await makeCertificate(files, options)
    await using proxy = await tlsBefore(database.url, certificate)
    const url = urlWith((own) => {
      own.port = String(proxy.port)
      own.protocol = 'https:'
    }).replace(/^http:/, 'https:')
    const found = await failure({ url, tls: { ca: certificate.authorityFile } })
    if (message === undefined) expect(found).toBeUndefined()
    else expect(found).toMatchObject({ code: 'STORE_DENIED', message: expect.stringContaining(message) })
    // Of an authority that nobody has named.
    expect(await failure({ url })).toMatchObject({ code: 'STORE_DENIED' })
    expect(await failure({ url, tls: { ca: 'missing.pem' } })).toMatchObject({ code: 'SECRET_UNREADABLE' })
    files.remove()
  })

  it('refuses a NULL where the table knows none, and a batch of too many partitions, and leaves nothing there', async () => {
    const holes = 'SELECT CASE WHEN i <> 2 THEN i END::BIGINT AS id FROM range(4) t(i)'
    expect(await failure({ not_null: ['id'] }, holes)).toMatchObject({
      code: 'STORE_MISMATCH',
      message: expect.stringContaining('id'),
      hint: expect.stringContaining('Nullable'),
    })
    expect(await failure({ table: 'fine', partition_by: 'id' }, ROWS.replace('range(4)', 'range(1001)'))).toMatchObject(
      {
        code: 'STORE_MISMATCH',
        hint: expect.stringContaining('coarser'),
      },
    )
    for (const table of ['events', 'fine'])
      expect(await onClickHouse(database.url, `SELECT count() AS n FROM ${table}`)).toEqual([{ n: '0' }])
  })
})

function createServerThatSaysNothing() {
  const server = createTcp()
  const listening = new Promise<AddressInfo>((resolve) => {
    server.listen(0, '127.0.0.1', () => resolve(server.address() as AddressInfo))
  })
  return { listening, close: () => server.close() }
}

/** Ends TLS before a server that has none. */
async function tlsBefore(target: string, { certificateFile, keyFile }: Certificate) {
  const { hostname, port } = new URL(target)
  const server = createServer({ cert: readFileSync(certificateFile), key: readFileSync(keyFile) }, (socket) => {
    const behind = connect(Number(port), hostname)
    for (const one of [socket, behind]) one.on('error', () => socket.destroy())
    socket.pipe(behind).pipe(socket)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    port: (server.address() as AddressInfo).port,
    [Symbol.asyncDispose]: () => new Promise<void>((resolve) => server.close(() => resolve())),
  }
}
