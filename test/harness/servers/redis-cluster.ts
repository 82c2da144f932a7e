/** A Redis Cluster of Debian: three masters, each with a replica. */
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { defineServer } from './core/kind.ts'
import { command, programFromDebian } from './core/machine.ts'
import { REDIS_PASSWORD, redisCli, startNode } from './core/redis-node.ts'

export interface RedisClusterEndpoint extends Record<string, string> {
  /** `redis://:password@host:port` of each node, separated by commas. */
  readonly url: string
}

const NODES = 6
const AGREED_MS = 60_000

export default defineServer<RedisClusterEndpoint>({
  name: 'redis-cluster',
  summary: 'Redis Cluster: 3 masters, 3 replicas',
  variables: { url: 'ADFLOW_TEST_REDIS_CLUSTER_URL' },

  async install() {
    await programFromDebian('redis-server', ['redis-server', 'redis-tools'])
  },

  async start(context) {
    const disk = context.disk()
    const ports: number[] = []
    for (let index = 0; index < NODES; index += 1) {
      const node = await startNode(context, join(disk, `node-${index}`), {
        'cluster-enabled': 'yes',
        'cluster-port': String(await context.port()),
        'cluster-node-timeout': '2000',
      })
      ports.push(node.port)
    }
    const addresses = ports.map((port) => `127.0.0.1:${port}`)
    await command('redis-cli', ['--cluster', 'create', ...addresses, '--cluster-replicas', '1', '--cluster-yes'], {
      env: { REDISCLI_AUTH: REDIS_PASSWORD },
    })
    await agreed(ports)
    context.onRestart(() => agreed(ports))
    return { url: addresses.map((address) => `redis://:${REDIS_PASSWORD}@${address}`).join(',') }
  },
})

/**
 * Every node has the slots of all masters and tells of all replicas, which it does once they have a copy: before that a
 * client is sent in circles.
 */
async function agreed(ports: readonly number[]): Promise<void> {
  const deadline = Date.now() + AGREED_MS
  const isWhole = async (port: number) => {
    const slots = (await redisCli(port, 'cluster', 'slots')).split('\n')
    const state = await redisCli(port, 'cluster', 'info')
    return state.includes('cluster_state:ok') && ports.every((other) => slots.includes(String(other)))
  }
  while (!(await Promise.all(ports.map(isWhole))).every(Boolean)) {
    if (Date.now() > deadline) throw new Error(`the Redis nodes did not become a cluster within ${AGREED_MS} ms`)
    await wait(50)
  }
}
