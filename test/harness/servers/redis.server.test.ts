import { Cluster, Redis } from 'ioredis'
import { expect, it } from 'vitest'
import { freshName } from './fresh.ts'
import { serverSuite } from './suite.ts'

await serverSuite('Redis of the harness', ['redis', 'redis-cluster'], (servers) => {
  it('keeps what it is given, under a prefix of the test', async () => {
    const redis = new Redis(servers.redis.url)
    const key = `${freshName()}:n`
    try {
      expect(await redis.incrby(key, 7)).toBe(7)
      expect(await redis.del(key)).toBe(1)
    } finally {
      redis.disconnect()
    }
  })

  it('spreads keys over three masters, each with a replica', async () => {
    const nodes = servers['redis-cluster'].url.split(',').map((url) => new URL(url))
    const cluster = new Cluster(
      nodes.map((node) => ({ host: node.hostname, port: Number(node.port) })),
      { redisOptions: { password: nodes[0]?.password ?? '' } },
    )
    const prefix = freshName()
    try {
      for (let i = 0; i < 50; i += 1) await cluster.set(`${prefix}:${i}`, String(i))
      const read = await Promise.all(Array.from({ length: 50 }, (_, i) => cluster.get(`${prefix}:${i}`)))
      expect(read).toEqual(Array.from({ length: 50 }, (_, i) => String(i)))
      expect([cluster.nodes('master').length, cluster.nodes('slave').length]).toEqual([3, 3])
    } finally {
      cluster.disconnect()
    }
  })
})
