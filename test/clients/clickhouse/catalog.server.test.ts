/** What is asked of a server about its tables, and how often. */
import { createServer, request } from 'node:http'
import type { AddressInfo } from 'node:net'
import { buffer } from 'node:stream/consumers'
import { setTimeout as delay } from 'node:timers/promises'
import { expect, it } from 'vitest'
import { z } from 'zod'
import { findTables } from '../../../src/clients/clickhouse/catalog.ts'
import { ClickHouse } from '../../../src/clients/clickhouse/connect.ts'
import { connectionShape } from '../../../src/clients/clickhouse/options.ts'
import clickhouse from '../../../src/loaders/clickhouse.ts'
import { onClickHouse } from '../../harness/clickhouse.ts'
import { LoaderBench, newFolder, removeFolder } from '../../harness/loader.ts'
import { freshClickHouseDatabase } from '../../harness/servers/fresh.ts'
import { serverSuite } from '../../harness/servers/suite.ts'

const ROWS = 'SELECT i::BIGINT AS id FROM range(4) t(i)'

await serverSuite('tables of ClickHouse', ['clickhouse'], ({ clickhouse: server }) => {
  it('of several databases are found in the order in which they are asked for, and no others', async () => {
    await using one = await freshClickHouseDatabase(server)
    await using two = await freshClickHouseDatabase(server)
    await onClickHouse(one.url, 'CREATE TABLE a (x Int8) ENGINE = MergeTree ORDER BY x')
    await onClickHouse(one.url, 'CREATE TABLE b (x Int8) ENGINE = ReplacingMergeTree ORDER BY x')
    await onClickHouse(two.url, 'CREATE TABLE a (x Int8) ENGINE = SummingMergeTree ORDER BY x')
    const [first, second] = [databaseOf(one.url), databaseOf(two.url)]
    const client = new ClickHouse(z.object(connectionShape).parse({ url: one.url }), '.')
    const names = [
      { database: second, table: 'b' },
      { database: second, table: 'a' },
      { database: first, table: 'b' },
    ] as const
    const found = await findTables(client, names)
    await client.close()
    expect(found.map((table) => table?.engine)).toEqual([undefined, 'SummingMergeTree', 'ReplacingMergeTree'])
    expect(found[2]).toMatchObject(names[2])
  })

  it('that are there and fit are opened with three ways to the server and back', async () => {
    await using database = await freshClickHouseDatabase(server)
    await using asked = await askedThrough(database.url)
    const folder = newFolder()
    const bench = await LoaderBench.open({ definition: clickhouse as never, folder, options: [] })
    const open = async () => {
      const loader = bench.create({ url: asked.url, table: 'events' })
      await bench.open(loader, ROWS)
      await loader.close()
    }
    await open()
    asked.waves.length = 0
    await open()
    bench.close()
    removeFolder(folder)
    expect(asked.waves.map((wave) => wave.sort())).toEqual([
      [expect.stringMatching('^SELECT 1\\s')],
      [
        expect.stringContaining('FROM system.databases'),
        expect.stringMatching('^SELECT 1 FROM system.tables'),
        expect.stringMatching('^SELECT database, name.* FROM system.tables'),
        expect.stringContaining('FROM system.settings'),
      ],
      [expect.stringContaining('FROM system.columns')],
    ])
  })
})

function databaseOf(url: string): string {
  return new URL(url).pathname.slice(1)
}

/** Notes the questions that are under way at the same time: each waits here, so that those that are asked at once are seen together. */
async function askedThrough(url: string) {
  const { hostname, port } = new URL(url)
  const waves: string[][] = []
  let underWay = 0
  const proxy = createServer(async (question, reply) => {
    if (underWay === 0) waves.push([])
    underWay += 1
    const body = await buffer(question)
    waves.at(-1)?.push(body.toString())
    await delay(200)
    const { method, url: path, headers } = question
    const passed = request({ hostname, port, method, path, headers }, async (answer) => {
      const all = await buffer(answer)
      underWay -= 1
      reply.writeHead(answer.statusCode ?? 500, answer.headers).end(all)
    })
    passed.end(body)
  })
  await new Promise<void>((listening) => proxy.listen(0, '127.0.0.1', listening))
  const through = new URL(url)
  through.port = String((proxy.address() as AddressInfo).port)
  return {
    url: through.href,
    waves,
    [Symbol.asyncDispose]: async () => {
      proxy.closeAllConnections()
      await new Promise((closed) => proxy.close(closed))
    },
  }
}
