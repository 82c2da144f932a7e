import { Redis } from 'ioredis'
import { afterEach, beforeEach, expect, it } from 'vitest'
import redis from '../../../src/loaders/redis.ts'
import { diagnosed, statuses } from '../../harness/diagnosis.ts'
import { freshKeys, freshName } from '../../harness/servers/fresh.ts'
import { startPrivate } from '../../harness/servers/private.ts'
import { serverSuite } from '../../harness/servers/suite.ts'

type Options = Readonly<Record<string, unknown>>

const HEALTHY = {
  reachable: 'ok',
  version: 'ok',
  tls: 'ok',
  writable: 'ok',
  permission: 'ok',
  target: 'ok',
  durability: 'ok',
  memory: 'ok',
  dedup_window: 'ok',
  connections: 'ok',
  clock: 'ok',
}

await serverSuite('the diagnosis of Redis', ['redis', 'redis-cluster'], (servers) => {
  const { url } = servers.redis
  let keys: Awaited<ReturnType<typeof freshKeys>>
  let client: Redis
  beforeEach(async () => {
    keys = await freshKeys(servers.redis)
    client = new Redis(url)
  })
  afterEach(() => client.disconnect())

  const asked = (options: Options = {}) => diagnosed(redis, { url, prefix: keys.prefix, key: 'id', ...options })
  const found = async (check: string, options: Options = {}) =>
    (await asked(options)).find((finding) => finding.check === check)

  it('finds a healthy server and a healthy cluster well, and changes nothing', async () => {
    const findings = await asked()
    expect(statuses(findings)).toEqual(HEALTHY)
    expect(JSON.stringify(findings)).not.toContain(`:${new URL(url).password}@`)
    expect(await client.keys(`${keys.prefix}*`)).toEqual([])
    const cluster = { url: servers['redis-cluster'].url.split(','), topology: 'cluster', wait: { replicas: 1 } }
    expect(statuses(await asked(cluster))).toEqual(HEALTHY)
  })

  it('finds commands that the user may not run, and what nobody tells the user', async () => {
    const user = freshName('user')
    const own = new URL(url)
    own.username = user
    const common = 'evalsha eval hget hdel hlen ping'.split(' ').map((command) => `+${command}`)
    await client.call('ACL', 'SETUSER', user, 'on', '>adflow', `~${keys.prefix}*`, '-@all', ...common)
    try {
      const findings = await asked({ url: own.href, ttl: '1h' })
      expect(statuses(findings)).toEqual({
        ...HEALTHY,
        permission: 'failed STORE_DENIED',
        ...{ durability: 'unknown', memory: 'unknown', dedup_window: 'unknown', connections: 'unknown' },
        clock: 'unknown',
      })
      expect(findings.find(({ check }) => check === 'permission')).toMatchObject({
        found: 'the user lacks hset, hkeys, hgetall, hscan, type, pexpire on these keys',
      })
    } finally {
      await client.call('ACL', 'DELUSER', user)
    }
  })

  it('finds a wrong password, and a server that is not there', async () => {
    expect(statuses(await asked({ url: url.replace(/:[^:@]*@/, ':wrong@') }))).toEqual({
      reachable: 'failed STORE_DENIED',
    })
    expect(statuses(await asked({ url: 'redis://127.0.0.1:1' }))).toEqual({ reachable: 'failed STORE_UNAVAILABLE' })
  })

  it('finds a log that is synced too late, unless replicas are waited for', async () => {
    await using own = await startPrivate('redis', { settings: { appendfsync: 'everysec' } })
    await using _replica = await startPrivate('redis', { replicaOf: own.endpoint.url })
    expect(await found('durability', { url: own.endpoint.url })).toMatchObject({
      status: 'warning',
      found: expect.stringContaining('appendfsync everysec'),
    })
    await expect
      .poll(() => found('durability', { url: own.endpoint.url, wait: { replicas: 1 } }))
      .toMatchObject({ status: 'ok' })
  })

  it('finds what would lose batches: no log, no replica, eviction, full memory, a replica', async () => {
    await using own = await startPrivate('redis', {
      settings: { appendonly: 'no', maxmemory: '100kb', 'maxmemory-policy': 'allkeys-lru' },
    })
    await using replica = await startPrivate('redis', { replicaOf: own.endpoint.url })
    expect(statuses(await asked({ url: own.endpoint.url }))).toMatchObject({
      durability: 'warning',
      memory: 'failed STORE_UNAVAILABLE',
      dedup_window: 'warning',
    })
    expect(await found('durability', { url: own.endpoint.url, wait: { replicas: 2 } })).toMatchObject({
      status: 'failed',
    })
    expect(await found('writable', { url: replica.endpoint.url })).toMatchObject({
      status: 'failed',
      code: 'STORE_UNAVAILABLE',
      mend: expect.stringContaining('read-only replica'),
    })
  })
})
