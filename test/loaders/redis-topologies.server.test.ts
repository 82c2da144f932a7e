/** Counters, which a script that is run twice would show, while the servers behind them change their places. */
import { Cluster, Redis } from 'ioredis'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import redis from '../../src/loaders/redis.ts'
import { LoaderBench, newFolder, removeFolder } from '../harness/loader.ts'
import { type ServerInstance, startInstance } from '../harness/servers/core/instance.ts'
import { command } from '../harness/servers/core/machine.ts'
import { REDIS_PASSWORD, redisCli } from '../harness/servers/core/redis-node.ts'
import { freshName } from '../harness/servers/fresh.ts'
import { startPrivate } from '../harness/servers/private.ts'
import redisSentinel, { type RedisSentinelEndpoint } from '../harness/servers/redis-sentinel.ts'
import { serverSuite } from '../harness/servers/suite.ts'

type Options = Readonly<Record<string, unknown>>

const KEYS = 500
/** Each counter gets two rows of each batch. */
const ROWS = `SELECT i % ${KEYS} AS id FROM range(${2 * KEYS}) t(i)`
const BATCHES = process.env['ADFLOW_TEST_LONG'] === '1' ? 100 : 12

async function mastersAmong(urls: readonly string[]): Promise<readonly string[]> {
  const roles = await Promise.all(urls.map((url) => redisCli(Number(new URL(url).port), 'role')))
  return urls.filter((_, index) => roles[index]?.startsWith('master'))
}

describe('counters', () => {
  let folder: string
  let bench: LoaderBench
  let prefix: string
  beforeEach(async () => {
    folder = newFolder()
    prefix = `${freshName()}:`
    bench = await LoaderBench.open({ definition: redis as never, folder, options: [] })
  })
  afterEach(() => {
    bench.close()
    removeFolder(folder)
  })

  const opened = (options: Options) =>
    bench.open(
      bench.create({ as: 'counter', prefix, key: 'id', increment: '1', connect_timeout: '2s', ...options }),
      ROWS,
    )
  /** Writes a batch as the runtime does: again while the store cannot be reached. Says how often it could not. */
  const persisted = async (loader: Awaited<ReturnType<typeof opened>>, at: number): Promise<number> => {
    for (let failed = 0; ; failed += 1) {
      try {
        await bench.write(loader, { at, rows: ROWS })
        return failed
      } catch (error) {
        if ((error as { retryable?: boolean }).retryable !== true || failed > 300) throw error
        await new Promise((resolve) => setTimeout(resolve, 100))
      }
    }
  }
  const counters = Array.from({ length: KEYS }, (_, id) => String(id))
  const expectExact = async (client: Redis | Cluster, batches: number) => {
    const counts = await Promise.all(counters.map((id) => client.get(prefix + id)))
    expect([...Map.groupBy(counts, Number)].map(([count, { length }]) => [count, length])).toEqual([
      [2 * batches, KEYS],
    ])
  }

  describe('in a cluster', async () => {
    await serverSuite('of their own', ['redis-cluster'], () => {
      let server: Awaited<ReturnType<typeof startPrivate<'redis-cluster'>>>
      let urls: readonly string[]
      let client: Cluster
      beforeAll(async () => {
        server = await startPrivate('redis-cluster')
        urls = server.endpoint.url.split(',')
        client = new Cluster(
          urls.map((url) => ({ host: new URL(url).hostname, port: Number(new URL(url).port) })),
          { redisOptions: { password: REDIS_PASSWORD } },
        )
      }, 120_000)
      afterAll(async () => {
        client.disconnect()
        await server.end()
      })
      const portOf = (url: string) => Number(new URL(url).port)
      const masters = async () => (await mastersAmong(urls)).map(portOf)
      const errors = async (name: string) => {
        const told = await Promise.all(urls.map((url) => redisCli(portOf(url), 'info', 'errorstats')))
        return told.map((text) => Number(new RegExp(`errorstat_${name}:count=(\\d+)`).exec(text)?.[1] ?? 0))
      }

      it('whose slots are moved: each batch is counted once', async () => {
        const loader = await opened({ url: urls, topology: 'cluster' })
        await bench.write(loader, { rows: ROWS })
        const [from, to] = await masters()
        const [source, target] = await Promise.all([from, to].map((port) => redisCli(port ?? 0, 'cluster', 'myid')))
        let moving = true
        const move = command(
          'redis-cli',
          [
            '--cluster',
            'reshard',
            `127.0.0.1:${from}`,
            '--cluster-from',
            String(source),
            '--cluster-to',
            String(target),
            '--cluster-slots',
            '1500',
            '--cluster-yes',
          ],
          { env: { REDISCLI_AUTH: REDIS_PASSWORD } },
        ).finally(() => {
          moving = false
        })
        let batches = 1
        while (moving || batches < BATCHES) {
          await persisted(loader, batches)
          batches += 1
        }
        await move
        await expectExact(client, batches)
        expect(Math.max(...(await errors('MOVED')), ...(await errors('ASK')))).toBeGreaterThan(0)
        await loader.close()
      }, 120_000)

      it('whose master is killed: its replica goes on with what it had', async () => {
        const loader = await opened({ url: urls, topology: 'cluster', wait: { replicas: 1, timeout: '2s' } })
        const [master] = await masters()
        const process = server.processes[urls.map(portOf).indexOf(master ?? 0)]
        let killed: Promise<void> | undefined
        let failed = 0
        for (let at = 0; at < BATCHES; at += 1) {
          const writing = persisted(loader, at)
          if (at === 2)
            killed = process?.kill9().then(async () => {
              // A replica takes over; then the old master comes back, as its replica, and confirms again.
              while ((await masters()).length < 3) await new Promise((resolve) => setTimeout(resolve, 100))
              await process.restart()
            })
          failed += await writing
        }
        await killed
        expect(await masters()).not.toContain(master)
        await expectExact(client, BATCHES)
        expect(failed).toBeGreaterThan(0)
        await loader.close()
      }, 120_000)

      it('and keys that share a tag of the job lie in one slot, beside their mark', async () => {
        const loader = await opened({ url: urls, topology: 'cluster', key: "'{c' || id % 2 || '}:' || id" })
        await bench.write(loader, { rows: ROWS })
        expect(await client.get(`${prefix}{c1}:1`)).toBe('2')
        const found = await Promise.all(client.nodes('master').map((node) => node.keys(`${prefix}_adflow:*`)))
        // Two fences, the batches, and where the last of each lane begins.
        expect(found.flat()).toHaveLength(4)
        await loader.close()
      })
    })
  })

  describe('behind Sentinels', async () => {
    await serverSuite('of their own', ['redis'], () => {
      let server: ServerInstance<RedisSentinelEndpoint>
      beforeAll(async () => {
        server = await startInstance(redisSentinel, {})
      }, 120_000)
      afterAll(() => server.end())

      it('whose master is killed: the Sentinels name the next', async () => {
        const { sentinels, master, servers } = server.endpoint
        const loader = await opened({
          url: sentinels.split(','),
          topology: 'sentinel',
          master,
          password: REDIS_PASSWORD,
          sentinel_password: REDIS_PASSWORD,
          wait: { replicas: 1, timeout: '2s' },
        })
        const [first] = server.processes
        let killed: Promise<void> | undefined
        let failed = 0
        for (let at = 0; at < BATCHES; at += 1) {
          const writing = persisted(loader, at)
          if (at === 2) killed = first?.kill9()
          failed += await writing
        }
        await killed
        const [next = ''] = await mastersAmong(servers.split(',').slice(1))
        const client = new Redis(next)
        await expectExact(client, BATCHES)
        expect(failed).toBeGreaterThan(0)
        client.disconnect()
        await loader.close()
      }, 120_000)
    })
  })
})
