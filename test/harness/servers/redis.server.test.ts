import { Cluster, Redis } from 'ioredis'
import { expect, it } from 'vitest'
import { freshKeys } from './fresh.ts'
import { serverSuite } from './suite.ts'

await serverSuite('Redis of the harness', ['redis', 'redis-cluster'], (servers) => {
  it('keeps what it is given, under a prefix of the test', async () => {
    const redis = new Redis(servers.redis.url)
    try {
      const keys = await freshKeys(servers.redis)
      expect(await redis.incrby(`${keys.prefix}n`, 7)).toBe(7)
      await keys.remove()
      expect(await redis.exists(`${keys.prefix}n`)).toBe(0)
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
    const numbers = Array.from({ length: 50 }, (_, i) => String(i))
    try {
      const { prefix, remove } = await freshKeys(servers['redis-cluster'])
      const read = () => Promise.all(numbers.map((n) => cluster.get(prefix + n)))
      for (const n of numbers) await cluster.set(prefix + n, n)
      expect(await read()).toEqual(numbers)
      await remove()
      expect(await read()).toEqual(numbers.map(() => null))
      expect([cluster.nodes('master').length, cluster.nodes('slave').length]).toEqual([3, 3])
    } finally {
      cluster.disconnect()
    }
  })
})
