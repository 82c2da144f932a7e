/** One Redis of Debian that syncs every write to disk. */
import type { Certificate } from './core/certificates.ts'
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
  /** URL of the server that it copies. */
  readonly replicaOf?: string
  /** It takes TLS as well; the URL is then `rediss://…`. */
  readonly tls?: Certificate
}

export default defineServer<RedisEndpoint, RedisOptions>({
  name: 'redis',
  summary: 'Redis of Debian, appendfsync always',
  variables: { url: 'ADFLOW_TEST_REDIS_URL' },

  async install() {
    await programFromDebian('redis-server', ['redis-server', 'redis-tools'])
  },

  async start(context, options) {
    const { replicaOf, settings, tls } = options
    const master = replicaOf === undefined ? undefined : new URL(replicaOf)
    const secure = tls === undefined ? undefined : await context.port()
    const { port } = await startNode(context, context.disk(), {
      ...(master === undefined ? {} : { replicaof: `${master.hostname} ${master.port}` }),
      ...(tls === undefined
        ? {}
        : {
            'tls-port': String(secure),
            'tls-cert-file': tls.certificateFile,
            'tls-key-file': tls.keyFile,
            'tls-ca-cert-file': tls.authorityFile,
            'tls-auth-clients': 'no',
          }),
      ...settings,
    })
    const scheme = secure === undefined ? 'redis' : 'rediss'
    return { url: `${scheme}://:${REDIS_PASSWORD}@127.0.0.1:${secure ?? port}` }
  },
})
