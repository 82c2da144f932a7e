import { createServer, type Socket } from 'node:net'
import { Client } from 'pg'
import { expect, it } from 'vitest'
import { serverSuite } from './suite.ts'
import { proxyFor } from './toxics.ts'

async function ask(url: string): Promise<number> {
  const client = new Client({ connectionString: url })
  client.on('error', () => undefined) // the query fails as well, and says it
  try {
    await client.connect()
    return (await client.query<{ n: number }>('SELECT 1 AS n')).rows[0]?.n ?? 0
  } finally {
    await client.end()
  }
}

await serverSuite('a proxy of the harness', ['postgres', 'toxiproxy'], ({ postgres, toxiproxy }) => {
  it('passes on, refuses while it is down, and passes on again', async () => {
    await using proxy = await proxyFor(toxiproxy, postgres.url)
    expect(await ask(proxy.url)).toBe(1)
    await proxy.down()
    await expect(ask(proxy.url)).rejects.toThrow('ECONNREFUSED')
    await proxy.up()
    expect(await ask(proxy.url)).toBe(1)
  })

  it('resets a connection, cuts an answer short, and lets go when the toxic is taken away', async () => {
    await using proxy = await proxyFor(toxiproxy, postgres.url)
    for (const toxic of [
      { type: 'reset_peer', timeoutMs: 0 },
      { type: 'limit_data', bytes: 20 },
      { type: 'timeout', timeoutMs: 50 },
    ] as const) {
      const remove = await proxy.add(toxic)
      await expect(ask(proxy.url), toxic.type).rejects.toThrow(/ECONNRESET|terminated/)
      await remove()
      expect(await ask(proxy.url)).toBe(1)
    }
  })

  it('slows a connection', async () => {
    await using proxy = await proxyFor(toxiproxy, postgres.url)
    await proxy.add({ type: 'latency', latencyMs: 200 })
    await proxy.add({ type: 'bandwidth', kilobytesPerSecond: 1000 }, 'upstream')
    const started = performance.now()
    expect(await ask(proxy.url)).toBe(1)
    expect(performance.now() - started).toBeGreaterThan(200)
  })

  it('takes an address without a scheme', async () => {
    const sockets: Socket[] = []
    const echo = createServer((socket) => sockets.push(socket.pipe(socket)))
    await new Promise<void>((resolve) => echo.listen(0, '127.0.0.1', resolve))
    try {
      await using proxy = await proxyFor(toxiproxy, `127.0.0.1:${(echo.address() as { port: number }).port}`)
      expect(proxy.url).toBe(`127.0.0.1:${proxy.port}`)
    } finally {
      echo.close()
    }
  })
})
