import { Redis } from 'ioredis'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import redis from '../../src/loaders/redis.ts'
import { cutAnswer, failing } from '../harness/cut-answer.ts'
import { type BatchSpec, JOB, LoaderBench, newFolder, removeFolder, SOURCE } from '../harness/loader.ts'
import { makeCertificate } from '../harness/servers/core/certificates.ts'
import { makeFolder } from '../harness/servers/core/folder.ts'
import { freshKeys, freshName } from '../harness/servers/fresh.ts'
import { startPrivate } from '../harness/servers/private.ts'
import { serverSuite } from '../harness/servers/suite.ts'
import { proxyFor } from '../harness/servers/toxics.ts'

type Options = Readonly<Record<string, unknown>>

const ROWS = "SELECT i::BIGINT AS id, 'name ' || i AS name FROM range(4) t(i)"
const SPENT =
  "SELECT 'c' || (i % 3) AS campaign, 0.000001::DECIMAL(38,18) * i AS spend, i::BIGINT AS views FROM range(3000) t(i)"
const COUNTED = {
  as: 'counter',
  key: "'sum:' || campaign",
  increments: { rows: '1', spend: { of: 'spend', scale: 6 }, views: 'views' },
}
/** What COUNTED holds of one batch of SPENT, per campaign. */
const SUMS = Object.fromEntries(
  [0, 1, 2].map((c) => {
    const sum = String(Array.from({ length: 1000 }, (_, i) => 3 * i + c).reduce((a, b) => a + b))
    return [`c${c}`, { rows: '1000', spend: sum, views: sum }]
  }),
)

await serverSuite('the loader of Redis', ['redis', 'toxiproxy'], ({ redis: server, toxiproxy }) => {
  let folder: string
  let bench: LoaderBench
  let keys: Awaited<ReturnType<typeof freshKeys>>
  let client: Redis

  beforeEach(async () => {
    folder = newFolder()
    keys = await freshKeys(server)
    client = new Redis(server.url)
    bench = await LoaderBench.open({ definition: redis as never, folder, options: [] })
  })
  afterEach(async () => {
    bench.close()
    client.disconnect()
    removeFolder(folder)
    await keys.remove()
  })

  const loaderOf = (options: Options = {}) =>
    bench.create({ url: server.url, key: "'h:' || id", prefix: keys.prefix, connect_timeout: '5s', ...options })
  const opened = (options: Options = {}, rows = ROWS) => bench.open(loaderOf(options), rows)
  const key = (name: string) => `${keys.prefix}${name}`
  /** Opens, writes, and writes again, which must change nothing. */
  const written = async (options: Options, ...batches: readonly string[]) => {
    const loader = await opened(options, batches[0])
    for (const [at, rows] of batches.entries())
      for (const repeated of [false, true]) expect(await bench.write(loader, { at, rows })).toMatchObject({ repeated })
    await loader.close()
  }
  const sums = async (at = client, prefix = keys.prefix) =>
    Object.fromEntries(
      await Promise.all(['c0', 'c1', 'c2'].map(async (c) => [c, await at.hgetall(`${prefix}sum:${c}`)])),
    ) as Record<string, Record<string, string>>
  const times = (n: number) =>
    Object.fromEntries(
      Object.entries(SUMS).map(([c, fields]) => [
        c,
        Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, String(BigInt(value) * BigInt(n))])),
      ]),
    )

  describe('writes', () => {
    it('hashes: NULL is no field, a field that becomes NULL goes, the fields of others stay', async () => {
      await client.hset(key('h:1'), { other: 'stays', note: 'goes' })
      await written({ ttl: '1h' }, "SELECT 1 AS id, '' AS empty, NULL::VARCHAR AS note, 7 AS n")
      expect(await client.hgetall(key('h:1'))).toEqual({ id: '1', empty: '', n: '7', other: 'stays' })
      expect(await client.pttl(key('h:1'))).toBeGreaterThan(3_500_000)
      await written({ fields: ['n'], key: "'f:' || id" }, 'SELECT 1 AS id, 7 AS n, 8 AS m')
      expect(await client.hgetall(key('f:1'))).toEqual({ n: '7' })
    })

    it('of rows with one key the last, whole', async () => {
      await written({}, "SELECT 1 AS id, 'first' AS a, 'x' AS b UNION ALL SELECT 1, 'last', NULL")
      expect(await client.hgetall(key('h:1'))).toEqual({ id: '1', a: 'last' })
    })

    it('strings: the row as JSON with all its digits, or a value; NULL removes the key', async () => {
      const row =
        'SELECT 1 AS id, 9007199254740993 AS big, 0.1234567890123456789::DECIMAL(38,19) AS money, [1, NULL] AS list, NULL AS none'
      await written({ as: 'string', key: "'s:' || id" }, row)
      expect(await client.get(key('s:1'))).toBe(
        '{"id":1,"big":9007199254740993,"money":0.1234567890123456789,"list":[1,null],"none":null}',
      )
      const named = { as: 'string', key: "'v:' || id", value: 'name', ttl: '10s' }
      await written(
        named,
        "SELECT 1 AS id, 'é😀' AS name",
        'SELECT 1 AS id, NULL::VARCHAR AS name UNION ALL SELECT 2, $$$$',
      )
      expect([await client.get(key('v:1')), await client.get(key('v:2'))]).toEqual([null, ''])
    })

    it('sorted sets, with scores that are exact', async () => {
      const options = { as: 'sorted_set', key: "'z'", member: 'name', score: 'score' }
      await written(
        options,
        "SELECT 'a' AS name, 9007199254740992 AS score UNION ALL SELECT 'b', -1 UNION ALL SELECT 'b', 2",
      )
      expect(await client.zrange(key('z'), '0', '-1', 'WITHSCORES')).toEqual(['b', '2', 'a', '9007199254740992'])
      const loader = await opened(options, "SELECT 'a' AS name, 1::BIGINT AS score")
      expect(
        await failing(bench.write(loader, { at: 9, rows: "SELECT 'a' AS name, 9007199254740993 AS score" })),
      ).toMatchObject({ code: 'STORE_MISMATCH', message: expect.stringContaining('does not hold exactly') })
      await loader.close()
    })

    it('counters: the exact sum of decimals, once whatever is repeated', async () => {
      await written(COUNTED, SPENT)
      expect(await sums()).toEqual(SUMS)
      await written(
        { as: 'counter', key: "'all'", increment: 'views' },
        SPENT,
        "SELECT 'c' AS campaign, 0::DECIMAL(38,18) AS spend, NULL::BIGINT AS views",
      )
      expect(await client.get(key('all'))).toBe(String(2999 * 1500))
    })

    it('streams: all entries of one key in the order of the rows, in many parts', async () => {
      const rows = "SELECT i::BIGINT AS id, CASE WHEN i % 2 = 0 THEN 'even' END AS note FROM range(5000) t(i)"
      await written({ as: 'stream', key: "'log'" }, rows)
      const entries = (await client.xrange(key('log'), '-', '+')).map(([, fields]) => fields)
      expect(entries.map(([, id]) => Number(id))).toEqual(Array.from({ length: 5000 }, (_, i) => i))
      expect(entries.slice(0, 2)).toEqual([
        ['id', '0', 'note', 'even'],
        ['id', '1'],
      ])
      await written({ as: 'stream', key: "'short'", max_length: 100 }, rows)
      expect(await client.xlen(key('short'))).toBeLessThan(400)
    })

    it('values of a size that needs a part of its own', async () => {
      const rows = "SELECT i AS id, repeat('x', 700000) AS name FROM range(6) t(i)"
      await written({}, rows)
      expect(await client.hstrlen(key('h:5'), 'name')).toBe(700_000)
    })

    it('an expression that asks for the time, under the clock of the batch', async () => {
      await written({ as: 'string', key: "'at'", value: "strftime(now(), '%Y-%m-%d')" }, ROWS)
      expect(await client.get(key('at'))).toBe('2026-01-02')
    })
  })

  describe('remembers', () => {
    it('each batch in one place, and of what is complete next to nothing beside the data', async () => {
      const loader = await opened(COUNTED, SPENT)
      for (let at = 0; at < 25; at += 1) await bench.write(loader, { at, rows: SPENT })
      const own = await client.keys(key('_adflow:*'))
      const [batches = ''] = own.filter((name) => name.endsWith(':batches'))
      const [fence = ''] = own.filter((name) => !/:(batches|open|tops)$/.test(name))
      expect(own).toHaveLength(3)
      expect(await client.hlen(batches)).toBe(26)
      expect(await client.hlen(fence)).toBeLessThan(20)
      expect(Number(await client.call('MEMORY', 'USAGE', fence))).toBeLessThan(3000)
      expect(await sums()).toEqual(times(25))
      // An earlier version enters a batch, and says nothing of where it begins.
      const told = async (since: string) =>
        (await loader.history?.(JOB, { engine: bench.session, since: () => since }))?.map(({ range }) => range.from)
      expect(await told('25')).toEqual([])
      const entry = JSON.stringify([JOB, 'store', SOURCE, 'lane', '25', '26', 'digest', 1, 'clock'])
      await client.hset(batches, 'f'.repeat(64), `26 ${entry}`)
      expect(await told('25')).toContain('25')
      expect([await told('25'), await told('26')]).toEqual([expect.arrayContaining(['25']), []])
      await loader.close()
    })

    it('a batch whose script arrives long after: it changes nothing', async () => {
      const late: string[][] = []
      const send = Redis.prototype.sendCommand
      Object.assign(Redis.prototype, {
        sendCommand(this: Redis, ...args: Parameters<Redis['sendCommand']>) {
          const [{ name, args: own }] = args
          if (name === 'eval' || name === 'evalsha') late.push([name, ...own.map(String)])
          return Reflect.apply(send, this, args)
        },
      })
      const loader = await opened(COUNTED, SPENT)
      await bench.write(loader, { rows: SPENT })
      Object.assign(Redis.prototype, { sendCommand: send })
      const repeat = async () => {
        for (const [name = '', ...args] of late) await client.call(name, ...args)
      }
      await repeat()
      expect(await sums()).toEqual(times(1))
      for (let at = 1; at < 25; at += 1) await bench.write(loader, { at, rows: SPENT })
      await repeat()
      expect(await sums()).toEqual(times(25))
      expect(late.length).toBeGreaterThan(3)
      await loader.close()
    })

    it('a batch that waited while later ones of other lanes were written and cleared', async () => {
      const first = await opened(COUNTED, SPENT)
      await failing(bench.write(first, { rows: SPENT.replace('0.000001', '0.0000001') })) // too many digits: never begun
      const slow = bench.write(first, { lane: 'slow', rows: SPENT })
      await slow
      for (let at = 0; at < 24; at += 1) await bench.write(first, { at, lane: `lane ${at % 3}`, rows: SPENT })
      expect(await sums()).toEqual(times(25))
      await first.close()
    })

    it('a range that is loaded anew under another epoch', async () => {
      const loader = await opened(COUNTED, SPENT)
      const batch = await bench.batch({ rows: SPENT })
      const { signal } = new AbortController()
      await loader.write(batch, { signal })
      const anew = { ...batch, token: batch.token.replace(/^./, (c) => (c === '0' ? '1' : '0')) }
      expect(await loader.write(anew, { signal })).toMatchObject({ repeated: false })
      expect(await sums()).toEqual(times(2))
      await loader.close()
    })
  })

  describe('a connection that is cut', () => {
    it('just after a script was sent: the next attempt adds what is missing and nothing else', async () => {
      await using proxy = await proxyFor(toxiproxy, server.url)
      const loader = await opened({ ...COUNTED, url: proxy.url }, SPENT)
      const answers: string[] = []
      // The answer to the last script begins after some 90 bytes.
      for (let bytes = 20; bytes < 102; bytes += bytes < 80 ? 12 : 1) {
        const spec: BatchSpec = { at: bytes, rows: SPENT, lane: 'cut' }
        answers.push(await cutAnswer({ bench, loader, proxy }, bytes, spec, 3000))
      }
      expect(answers).toEqual(expect.arrayContaining(['landed', 'lost']))
      expect(await sums()).toEqual(times(answers.length))
      await loader.close()
    }, 60_000)

    it('by kill -9 of the server in the middle of a batch: what it has stays, what is missing is added', async () => {
      await using own = await startPrivate('redis')
      const { url } = own.endpoint
      const options = { url, as: 'counter', key: 'id', increments: { rows: '1', ids: 'id' }, prefix: '' }
      const rows = 'SELECT i::BIGINT AS id FROM range(200000) t(i)'
      const loader = await opened(options, rows)
      const watcher = new Redis(url)
      const first = failing(bench.write(loader, { rows }))
      while ((await watcher.dbsize()) < 5000);
      watcher.disconnect()
      await own.kill9()
      expect(await first).toMatchObject({ code: 'STORE_UNAVAILABLE' })
      await own.restart()
      const after = new Redis(url)
      const had = await after.dbsize()
      expect(had).toBeLessThan(200_000)
      expect(await bench.write(loader, { rows })).toMatchObject({ rows: 200_000, repeated: false })
      expect(await after.dbsize()).toBe(200_003) // and three of adflow
      for (let id = 0; id < 200_000; id += 9973)
        expect(await after.hgetall(String(id))).toEqual({ rows: '1', ids: String(id) })
      after.disconnect()
      await loader.close()
    }, 120_000)
  })

  describe('says what is wrong, once and clearly', () => {
    const denied = async (options: Options, rows = ROWS) => failing(opened(options, rows))

    it('of a wrong password', async () => {
      const url = new URL(server.url)
      url.password = ''
      expect(await denied({ url: url.href, password: 'a wrong one' })).toMatchObject({ code: 'STORE_DENIED', exit: 77 })
      expect(await denied({ url: url.href })).toMatchObject({ code: 'STORE_DENIED' })
    })

    it.for([
      ['hash', 'hset hdel', {}],
      ['string', 'set del', { value: 'name' }],
      ['sorted_set', 'zadd', { member: 'name', score: 'id' }],
      ['counter', 'hincrby hmget', { increments: { n: 'id' } }],
      ['counter', 'incrby get', { increment: 'id' }],
      ['stream', 'xadd', {}],
    ] as const)('of a missing privilege for %s: %s are what it takes', async ([as, commands, own]) => {
      const user = freshName('user')
      const url = new URL(server.url)
      url.username = user
      const options = { url: url.href, as, ...own, ttl: '1h' }
      const common = 'evalsha eval hget hset hdel hlen hkeys hgetall hscan type pexpire'
      const grant = (list: string) => list.split(' ').map((command) => `+${command}`)
      try {
        await client.call('ACL', 'SETUSER', user, 'on', '>adflow', `~${keys.prefix}*`, '-@all', ...grant(common))
        const loader = await opened(options)
        if (as !== 'hash')
          expect(await failing(bench.write(loader, { rows: ROWS }))).toMatchObject({
            code: 'STORE_DENIED',
            hint: expect.stringContaining('ACL SETUSER'),
          })
        expect(await client.keys(key('h:*'))).toEqual([])
        await client.call('ACL', 'SETUSER', user, ...grant(commands))
        const allowed = await opened(options)
        expect(await bench.write(allowed, { rows: ROWS })).toMatchObject({ rows: 4, repeated: false })
        expect(await bench.write(allowed, { rows: ROWS })).toMatchObject({ rows: 4, repeated: true })
        expect(await allowed.history?.('conformance', { engine: bench.session })).toHaveLength(1)
        expect(await denied({ ...options, prefix: 'not:mine:' })).toMatchObject({ code: 'STORE_DENIED' })
        for (const one of [loader, allowed]) await one.close()
      } finally {
        await client.call('ACL', 'DELUSER', user)
      }
    })

    it('of memory that is full, and takes the batch when there is room again', async () => {
      await using own = await startPrivate('redis', {
        settings: { maxmemory: '6mb', 'maxmemory-policy': 'noeviction' },
      })
      const { url } = own.endpoint
      const loader = await opened({ url, prefix: '', as: 'counter', key: 'id', increments: { name: 'id' } })
      const rows = 'SELECT i::BIGINT AS id FROM range(100000) t(i)'
      expect(await failing(bench.write(loader, { rows }))).toMatchObject({
        code: 'STORE_UNAVAILABLE',
        hint: expect.stringContaining('maxmemory'),
      })
      const admin = new Redis(url)
      expect(await admin.dbsize()).toBeGreaterThan(1)
      await admin.config('SET', 'maxmemory', '100mb')
      expect(await bench.write(loader, { rows })).toMatchObject({ rows: 100_000, repeated: false })
      expect(await admin.dbsize()).toBe(100_003)
      expect(await admin.hgetall('99999')).toEqual({ name: '99999' })
      expect(await admin.hgetall('7')).toEqual({ name: '7' })
      admin.disconnect()
      await loader.close()
    }, 60_000)

    it('of a read-only replica, and of replicas that are not there', async () => {
      await using own = await startPrivate('redis')
      await using replica = await startPrivate('redis', { replicaOf: own.endpoint.url })
      expect(await denied({ url: replica.endpoint.url })).toMatchObject({
        code: 'STORE_UNAVAILABLE',
        hint: expect.stringContaining('read-only replica'),
      })
      const loader = await opened({ url: own.endpoint.url, ...COUNTED, wait: { replicas: 1, timeout: '25s' } }, SPENT)
      expect(await bench.write(loader, { rows: SPENT })).toMatchObject({ repeated: false })
      replica.stop()
      const two = await opened({ url: own.endpoint.url, ...COUNTED, wait: { replicas: 1, timeout: '100ms' } }, SPENT)
      expect(await failing(bench.write(two, { at: 1, rows: SPENT }))).toMatchObject({
        code: 'STORE_UNAVAILABLE',
        message: expect.stringContaining('0 of 1 replicas'),
      })
      expect(await two.probe?.((await bench.batch({ at: 1, rows: SPENT })).token, { engine: bench.session })).toBe(
        undefined,
      )
      replica.cont()
      expect(await bench.write(loader, { at: 1, rows: SPENT })).toMatchObject({ repeated: false })
      const at = new Redis(own.endpoint.url)
      expect(await sums(at)).toEqual(times(2))
      await at.config('SET', 'min-replicas-to-write', '2')
      expect(await failing(bench.write(loader, { at: 2, rows: SPENT }))).toMatchObject({
        code: 'STORE_UNAVAILABLE',
        hint: expect.stringContaining('min-replicas-to-write'),
      })
      at.disconnect()
      for (const one of [loader, two]) await one.close()
    }, 60_000)

    it('of an expired certificate, and takes a good one', async () => {
      const files = makeFolder('certificates')
      const expired = await makeCertificate(files, { notAfter: new Date(Date.now() - 1000) })
      {
        await using own = await startPrivate('redis', { tls: expired })
        const options = { url: own.endpoint.url, tls: { ca: expired.authorityFile } }
        expect(await denied(options)).toMatchObject({
          code: 'STORE_DENIED',
          message: expect.stringContaining('expired'),
        })
      }
      const good = await makeCertificate(files)
      await using own = await startPrivate('redis', { tls: good })
      expect(await denied({ url: own.endpoint.url })).toMatchObject({ code: 'STORE_DENIED' })
      const loader = await opened({ url: own.endpoint.url, tls: { ca: good.authorityFile } })
      expect(await bench.write(loader, { rows: ROWS })).toMatchObject({ rows: 4 })
      await loader.close()
      files.remove()
    }, 60_000)

    it('of a server that is not there', async () => {
      for (const topology of ['single', 'cluster', 'sentinel'])
        expect(
          await denied({ url: 'redis://127.0.0.1:1', topology, ...(topology === 'sentinel' ? { master: 'ads' } : {}) }),
          topology,
        ).toMatchObject({
          code: 'STORE_UNAVAILABLE',
          retryable: true,
          message: expect.stringContaining('ECONNREFUSED'),
        })
    })

    it('of a server that is no cluster, and of a database that it does not have', async () => {
      expect(await denied({ topology: 'cluster' })).toMatchObject({
        code: 'STORE_MISMATCH',
        hint: expect.stringContaining('topology'),
      })
      expect(await denied({ url: `${server.url}/99` })).toMatchObject({
        code: 'STORE_MISMATCH',
        hint: expect.stringContaining('database'),
      })
    })

    it('of what a batch must not have, and then writes nothing of it', async () => {
      const cases: readonly (readonly [Options, string, string])[] = [
        [{}, 'SELECT NULL::INTEGER AS id, 1 AS n UNION ALL SELECT 1, 2', '1 of 2 rows'],
        [{ key: "'_adflow:' || id" }, ROWS, 'begins with'],
        [{ ...COUNTED, increments: { s: { of: 'spend', scale: 5 } } }, SPENT, '5 digits after the point'],
        [{ ...COUNTED, increments: { s: '9223372036854775000' } }, SPENT, 'leaves 64 bits'],
        [{ as: 'sorted_set', member: 'name', score: "'nan'::DOUBLE" }, ROWS, 'have no score'],
        [{ as: 'stream' }, 'SELECT 1 AS id, NULL AS n', ''],
        [{ as: 'stream', fields: ['n'] }, 'SELECT 1 AS id, NULL::INTEGER AS n', 'no value in any field'],
      ]
      for (const [options, rows, message] of cases) {
        const loader = await opened(options, rows)
        if (message !== '')
          expect(await failing(bench.write(loader, { rows })), message).toMatchObject({
            code: 'STORE_MISMATCH',
            message: expect.stringContaining(message),
            hint: expect.any(String),
          })
        expect(await client.keys(`${keys.prefix}*`)).toEqual([])
        await loader.close()
      }
    })

    it('of a key that holds something else, and of a counter at its end, and leaves all as it was', async () => {
      await client.set(key('h:3'), 'a string')
      await client.set(key('sum:c2'), '9223372036854775800')
      const hashes = await opened()
      expect(await failing(bench.write(hashes, { rows: ROWS }))).toMatchObject({
        code: 'STORE_MISMATCH',
        message: expect.stringContaining('holds a string'),
      })
      const counters = await opened({ as: 'counter', key: "'sum:' || campaign", increment: '1' }, SPENT)
      expect(await failing(bench.write(counters, { rows: SPENT }))).toMatchObject({
        code: 'STORE_MISMATCH',
        message: expect.stringContaining('would leave 64 bits'),
      })
      expect(await client.exists(key('h:0'), key('h:1'), key('sum:c0'))).toBe(0)
      await client.del(key('h:3'), key('sum:c2'))
      expect(await bench.write(hashes, { rows: ROWS })).toMatchObject({ repeated: false })
      expect(await bench.write(counters, { rows: SPENT })).toMatchObject({ repeated: false })
      expect(await client.mget(key('sum:c0'), key('sum:c2'))).toEqual(['1000', '1000'])
      for (const one of [hashes, counters]) await one.close()
    })
  })

  it('names its data set without the password', () => {
    const { namespace, name } = loaderOf().dataset()
    expect(namespace).toMatch(/^redis:\/\/127\.0\.0\.1:\d+$/)
    expect(name).toBe(`0.${keys.prefix}hash`)
  })
})
