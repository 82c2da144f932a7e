/** A master and two replicas, watched by three Sentinels. Only for tests that kill the master, so it is not in the catalog. */
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { defineServer } from './core/kind.ts'
import { programFromDebian } from './core/machine.ts'
import { REDIS_PASSWORD, redisCli, startNode } from './core/redis-node.ts'

export interface RedisSentinelEndpoint extends Record<string, string> {
  /** `redis://host:port` of each Sentinel, separated by commas. Their password is that of the servers. */
  readonly sentinels: string
  /** Name of the master with the Sentinels. */
  readonly master: string
  /** `redis://:password@host:port` of the servers; the first begins as master, and is the first process. */
  readonly servers: string
}

const MASTER = 'ads'
const SENTINELS = 3
const AGREED_MS = 60_000

export default defineServer<RedisSentinelEndpoint>({
  name: 'redis-sentinel',
  summary: 'Redis behind three Sentinels',
  variables: {
    sentinels: 'ADFLOW_TEST_REDIS_SENTINELS',
    master: 'ADFLOW_TEST_REDIS_MASTER',
    servers: 'ADFLOW_TEST_REDIS_SERVERS',
  },

  async install() {
    await programFromDebian('redis-server', ['redis-server', 'redis-tools'])
  },

  async start(context) {
    const disk = context.disk()
    const master = await startNode(context, join(disk, 'first'), {})
    const replicas = [
      await startNode(context, join(disk, 'second'), { replicaof: `127.0.0.1 ${master.port}` }),
      await startNode(context, join(disk, 'third'), { replicaof: `127.0.0.1 ${master.port}` }),
    ]
    const sentinels: number[] = []
    for (let index = 0; index < SENTINELS; index += 1) {
      const port = await context.port()
      const config = context.folder.write(`sentinel-${index}.conf`, sentinelConfig(port, master.port))
      await context.run({
        command: await programFromDebian('redis-server', ['redis-server', 'redis-tools']),
        args: [config, '--sentinel'],
        log: join(context.folder.path, `sentinel-${port}.log`),
        ready: async () => (await redisCli(port, 'ping')) === 'PONG',
      })
      sentinels.push(port)
    }
    await agreed(sentinels)
    const url = (port: number) => `redis://:${REDIS_PASSWORD}@127.0.0.1:${port}`
    return {
      sentinels: sentinels.map((port) => `redis://127.0.0.1:${port}`).join(','),
      master: MASTER,
      servers: [master, ...replicas].map(({ port }) => url(port)).join(','),
    }
  },
})

/** Each Sentinel knows the replicas and both others: before that none of them would take over. */
async function agreed(ports: readonly number[]): Promise<void> {
  const deadline = Date.now() + AGREED_MS
  const knowsAll = async (port: number) => {
    const told = await redisCli(port, 'sentinel', 'master', MASTER)
    const value = (name: string) => told.split('\n')[told.split('\n').indexOf(name) + 1]
    return value('num-slaves') === '2' && value('num-other-sentinels') === String(SENTINELS - 1)
  }
  while (!(await Promise.all(ports.map(knowsAll))).every(Boolean)) {
    if (Date.now() > deadline) throw new Error(`the Sentinels did not agree within ${AGREED_MS} ms`)
    await wait(50)
  }
}

function sentinelConfig(port: number, master: number): string {
  return `port ${port}
bind 127.0.0.1
requirepass ${REDIS_PASSWORD}
sentinel sentinel-pass ${REDIS_PASSWORD}
sentinel monitor ${MASTER} 127.0.0.1 ${master} 2
sentinel auth-pass ${MASTER} ${REDIS_PASSWORD}
sentinel down-after-milliseconds ${MASTER} 1000
sentinel failover-timeout ${MASTER} 5000
`
}
