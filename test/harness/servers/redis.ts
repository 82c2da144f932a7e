/** One Redis of Debian that syncs every write to disk. */
import { defineServer } from './core/kind.ts'
import { programFromDebian } from './core/machine.ts'
import { REDIS_PASSWORD, startNode } from './core/redis-node.ts'

export interface RedisEndpoint extends Record<string, string> {
  /** `redis://:password@host:port` */
  readonly url: string
}

export interface RedisOptions {
  /** Directives of redis.conf, such as `maxmemory: '2mb'`. */
  readonly settings?: Readonly<Record<string, string>>
}

export default defineServer<RedisEndpoint, RedisOptions>({
  name: 'redis',
  summary: 'Redis of Debian, appendfsync always',
  variables: { url: 'ADFLOW_TEST_REDIS_URL' },

  async install() {
    await programFromDebian('redis-server', ['redis-server', 'redis-tools'])
  },

  async start(context, options) {
    const { port } = await startNode(context, context.disk(), options.settings ?? {})
    return { url: `redis://:${REDIS_PASSWORD}@127.0.0.1:${port}` }
  },
})
