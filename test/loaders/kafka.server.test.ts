import { appendFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { Connection } from '@platformatic/kafka'
import kafkajs from 'kafkajs'
import pino from 'pino'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import type { LoadBatch, Loader, Receipt } from '../../src/core/contracts.ts'
import type { LoaderDefinition } from '../../src/core/definitions.ts'
import kafka from '../../src/loaders/kafka.ts'
import { cutAnswer, failing } from '../harness/cut-answer.ts'
import { kafkaClient, readTopic } from '../harness/kafka-reader.ts'
import { createTopic } from '../harness/kafka-topic.ts'
import { KafkaWriter } from '../harness/kafka-writer.ts'
import { LoaderBench, newFolder, removeFolder } from '../harness/loader.ts'
import { makeCertificate } from '../harness/servers/core/certificates.ts'
import { makeFolder } from '../harness/servers/core/folder.ts'
import { freePort } from '../harness/servers/core/ports.ts'
import { freshName } from '../harness/servers/fresh.ts'
import { startPrivate } from '../harness/servers/private.ts'
import { serverSuite } from '../harness/servers/suite.ts'
import { proxyFor } from '../harness/servers/toxics.ts'

type Options = Readonly<Record<string, unknown>>

const ROWS = "SELECT i::BIGINT AS id, 'name ' || i AS name FROM range(4) t(i)"
const PRODUCE = 0
const END_TRANSACTION = 26

await serverSuite('the loader of Kafka', ['kafka', 'toxiproxy'], ({ kafka: { brokers }, toxiproxy }) => {
  let folder: string
  let bench: LoaderBench
  let topic: string
  let loaders: Loader[]

  beforeEach(async () => {
    folder = newFolder()
    topic = freshName('events')
    loaders = []
    bench = await LoaderBench.open({ definition: kafka as never, folder, options: [] })
  })
  afterEach(async () => {
    for (const loader of loaders) await loader.close()
    bench.close()
    removeFolder(folder)
  })

  const loaderOf = (options: Options = {}, { definition = kafka as LoaderDefinition, job = 'conformance' } = {}) => {
    const parsed = definition.options.parse({ brokers, topic, partitions: 1, connect_timeout: '5s', ...options })
    const env = { id: 'store', job, baseDir: folder, log: pino({ level: 'silent' }), workDir: join(folder, 'spill') }
    const loader = definition.create(parsed, env)
    loaders.push(loader)
    return loader
  }
  const opened = (options: Options = {}, rows = ROWS) => bench.open(loaderOf(options), rows)
  /** A loader that knows nothing of the other loaders of this process. */
  const elsewhere = async (options: Options = {}, job?: string) => {
    vi.resetModules()
    const { default: definition } = (await import('../../src/loaders/kafka.ts')) as { default: LoaderDefinition }
    return loaderOf(options, { definition, ...(job === undefined ? {} : { job }) })
  }
  const values = async (at = brokers) => (await readTopic(at, topic)).map(({ value }) => String(value))
  const admin = async <T>(work: (own: kafkajs.Admin) => Promise<T>, at = brokers): Promise<T> => {
    const own = kafkaClient(at).admin()
    await own.connect()
    try {
      return await work(own)
    } finally {
      await own.disconnect()
    }
  }
  const create = (name: string, settings: Readonly<Record<string, string>> = {}, at = brokers) => {
    const configEntries = Object.entries(settings).map(([key, value]) => ({ name: key, value }))
    return admin((own) => createTopic(own, { topic: name, numPartitions: 1, configEntries }), at)
  }
  const setting = (name: string, key: string) =>
    admin(async (own) => {
      const resources = [{ type: kafkajs.ConfigResourceTypes.TOPIC, name, configNames: [key] }]
      return (await own.describeConfigs({ resources, includeSynonyms: false })).resources[0]?.configEntries[0]
        ?.configValue
    })

  describe('what it makes', () => {
    it('the topic with partitions and settings, and a compacted one for its batches', async () => {
      await opened({ partitions: 3, replication_factor: 1, topic_config: { 'retention.ms': '3600000' } })
      const { topics } = await admin((own) => own.fetchTopicMetadata({ topics: [topic, `_adflow_batches.${topic}`] }))
      expect(Object.fromEntries(topics.map(({ name, partitions }) => [name, partitions.length]))).toEqual({
        [topic]: 3,
        [`_adflow_batches.${topic}`]: 1,
      })
      expect(await setting(topic, 'retention.ms')).toBe('3600000')
      expect(await setting(`_adflow_batches.${topic}`, 'cleanup.policy')).toBe('compact')
    })

    it('records with key, headers and timestamp, a tombstone where the value is NULL', async () => {
      const rows =
        "SELECT i::BIGINT AS id, ['a', NULL, ''][1 + i % 3] AS kind, TIMESTAMPTZ '2026-03-30 12:00:00.123+02' AS at FROM range(3) t(i)"
      const options = {
        ...{ key: 'id', headers: { kind: 'kind', raw: "'\\xFF'::BLOB" }, timestamp: '"at" -- when it was' },
        value: "CASE WHEN id < 2 THEN {'id': id, 'kind': kind} END",
      }
      const loader = await opened(options, rows)
      await bench.write(loader, { rows })
      expect(
        (await readTopic(brokers, topic)).map(({ key, value, headers, timestamp }) => ({
          ...{ key: String(key), value: value === null ? null : String(value), headers, timestamp },
        })),
      ).toEqual([
        { key: '0', value: '{"id":0,"kind":"a"}', headers: { kind: 'a', raw: '\uFFFD' }, timestamp: '1774864800123' },
        { key: '1', value: '{"id":1,"kind":null}', headers: { raw: '\uFFFD' }, timestamp: '1774864800123' },
        { key: '2', value: null, headers: { kind: '', raw: '\uFFFD' }, timestamp: '1774864800123' },
      ])
    })

    it('CloudEvents in binary mode, whose ids repeat when the batch does', async () => {
      const rows = "SELECT 1 AS id, TIMESTAMP '2026-03-30 12:00:00.5' AS at UNION ALL SELECT 2, NULL"
      const cloudevents = { type: 'com.example.click', subject: "'row ' || id", time: '"at"' }
      const loader = await opened({ cloudevents }, rows)
      const { token } = await bench.batch({ rows })
      await bench.write(loader, { rows })
      const common = {
        ...{ 'content-type': 'application/json', ce_specversion: '1.0', ce_type: 'com.example.click' },
        ce_source: '/adflow/conformance/made_up',
      }
      expect((await readTopic(brokers, topic)).map(({ headers }) => headers)).toEqual([
        { ...common, ce_id: `${token}-0`, ce_subject: 'row 1', ce_time: '2026-03-30T12:00:00.500000Z' },
        { ...common, ce_id: `${token}-1`, ce_subject: 'row 2' },
      ])
    })

    it.for(['none', 'gzip', 'snappy', 'lz4', 'zstd'])(
      'records compressed by %s, which the broker can read',
      async (compression) => {
        const loader = await opened({ compression })
        await bench.write(loader, { rows: ROWS })
        expect(await values()).toEqual([0, 1, 2, 3].map((id) => `{"id":${id},"name":"name ${id}"}`))
      },
    )

    it('large batches in pieces: each key in one partition and in its order, the others spread', async () => {
      const rows =
        "SELECT i::BIGINT AS id, CASE WHEN i % 2 = 0 THEN (i % 14)::VARCHAR END AS part, repeat('x', 200) AS text FROM range(60000) t(i)"
      const loader = await opened({ partitions: 3, key: 'part', value: 'id', max_message: '200kB' }, rows)
      expect(await bench.write(loader, { rows })).toMatchObject({ rows: 60_000 })
      const found = await readTopic(brokers, topic)
      expect(new Set(found.map(({ value }) => String(value))).size).toBe(60_000)
      const places = new Map<string, Set<number>>()
      const last = new Map<string, number>()
      for (const { key, value, partition } of found) {
        const name = key === null ? 'none' : String(key)
        places.set(name, (places.get(name) ?? new Set()).add(partition))
        if (key === null) continue
        expect(Number(value)).toBeGreaterThan(last.get(name) ?? -1)
        last.set(name, Number(value))
      }
      expect([...places].filter(([, { size }]) => size > 1).map(([name]) => name)).toEqual(['none'])
      expect(places.size).toBe(8)
    })
  })

  describe('several at once', () => {
    it('two jobs write to one topic and do not disturb each other', async () => {
      const [one, two] = [await opened(), await bench.open(loaderOf({}, { job: 'other' }), ROWS)]
      for (let at = 0; at < 5; at += 1)
        await Promise.all([
          bench.write(one, { rows: ROWS, at, lane: 'one', session: await bench.connect() }),
          bench.write(two, { rows: ROWS, at, lane: 'two', session: await bench.connect() }),
        ])
      expect(await values()).toHaveLength(40)
    })

    it('two loaders of one job write the same batch, and it is there once', async () => {
      const [one, two] = [await opened(), await opened()]
      const batches = await Promise.all(
        [one, two].map(async () => bench.batch({ rows: ROWS, session: await bench.connect() })),
      )
      const { signal } = new AbortController()
      const receipts = await Promise.all([one, two].map((loader, at) => loader.write(batches[at] as never, { signal })))
      expect(receipts.map(({ repeated }) => repeated).sort()).toEqual([false, true])
      expect(await values()).toHaveLength(4)
    })

    it('batches that wait together share a transaction, and one that is refused takes no other along', async () => {
      const loader = await opened({ max_message: '2kB', value: 'name' })
      const held = holdCommits()
      const first = bench.write(loader, { rows: ROWS })
      await held.reached
      const [large, ...good] = await Promise.all(
        ["repeat('x', 3000)", "'one'", "'two'", "'three'"].map(async (name, index) => {
          const rows = `SELECT 1::BIGINT AS id, ${name} AS name`
          return bench.batch({ rows, at: index + 1, session: await bench.connect() })
        }),
      )
      const { signal } = new AbortController()
      const encoded: Promise<number>[] = []
      const write = (batch: LoadBatch) =>
        new Promise<{ readonly written: Promise<Receipt> }>((resolve) => {
          const written = loader.write(
            {
              ...batch,
              encode: (format, options) => {
                const rows = batch.encode(format, options)
                encoded.push(rows)
                resolve({ written })
                return rows
              },
            },
            { signal },
          )
          written.catch(() => undefined)
        })
      const waiting = await Promise.all(good.map(write))
      await Promise.all(encoded)
      held.release()
      const commits = countCommits()
      expect(await Promise.all(waiting.map(({ written }) => written))).toMatchObject([
        { rows: 1 },
        { rows: 1 },
        { rows: 1 },
      ])
      await first
      expect(commits.stop()).toBe(1)
      expect(await values()).toEqual(expect.arrayContaining(['name 0', 'one', 'two', 'three']))

      const again = holdCommits()
      const second = bench.write(loader, { rows: ROWS, at: 10 })
      await again.reached
      const others = await Promise.all(
        ["'four'", "'five'"].map(async (name, index) => {
          const rows = `SELECT 1::BIGINT AS id, ${name} AS name`
          return bench.batch({ rows, at: 11 + index, session: await bench.connect() })
        }),
      )
      const mixed = await Promise.all([others[0], large, others[1]].map((batch) => write(batch as LoadBatch)))
      await Promise.all(encoded)
      again.release()
      await second
      expect(await Promise.allSettled(mixed.map(({ written }) => written))).toMatchObject([
        { status: 'fulfilled', value: { repeated: false } },
        { status: 'rejected', reason: { code: 'STORE_MISMATCH', message: expect.stringMatching(/^row 1 of batch/) } },
        { status: 'fulfilled', value: { repeated: false } },
      ])
      expect((await values()).sort()).toEqual(
        [...[0, 1, 2, 3, 0, 1, 2, 3].map((id) => `name ${id}`), 'one', 'two', 'three', 'four', 'five'].sort(),
      )
    })

    it('a process that was thought dead is fenced off, also between its last record and its commit', async () => {
      const old = await bench.open(await elsewhere(), ROWS)
      const held = holdCommits()
      const late = failing(bench.write(old, { rows: ROWS }))
      await held.reached
      const heir = await bench.open(await elsewhere(), ROWS)
      held.release()
      expect(await late).toMatchObject({
        code: 'STORE_DENIED',
        exit: 77,
        message: expect.stringContaining('fenced off'),
      })
      expect(await bench.write(heir, { rows: ROWS })).toMatchObject({ repeated: false })
      // It comes back, and finds the batch.
      expect(await bench.write(old, { rows: ROWS })).toMatchObject({ rows: 4, repeated: true })
      expect(await values()).toHaveLength(4)
    })

    it('what a dead process left open holds readers up only until the job starts again', async () => {
      const dead = await bench.open(await elsewhere(), ROWS)
      const held = holdCommits()
      const never = failing(bench.write(dead, { rows: ROWS }))
      await held.reached
      await bench.open(await elsewhere(), ROWS)
      expect(await values()).toEqual([])
      held.release()
      await never
    })

    it('a batch is found behind the entry of another job that was left open', async () => {
      const other = await bench.open(await elsewhere({}, 'other'), ROWS)
      const held = holdCommits()
      const never = failing(bench.write(other, { rows: ROWS, lane: 'other' }))
      await held.reached
      const own = await bench.open(await elsewhere(), ROWS)
      held.release({ keepFirst: true })
      await bench.write(own, { rows: ROWS })
      const heir = await bench.open(await elsewhere(), ROWS)
      const { token } = await bench.batch({ rows: ROWS })
      expect(await heir.probe?.(token, { engine: bench.session })).toMatchObject({ rows: 4 })
      expect(await heir.history?.('conformance', { engine: bench.session })).toHaveLength(1)
      expect(await bench.write(heir, { rows: ROWS })).toMatchObject({ repeated: true })
      held.release()
      await never
    })
  })

  describe('says what is wrong, once and clearly', () => {
    it('of a missing topic, and of a missing topic of batches, under create: never', async () => {
      expect(await failing(opened({ create: 'never' }))).toMatchObject({
        code: 'STORE_MISMATCH',
        message: expect.stringContaining(`the topic ${topic} does not exist`),
        hint: expect.stringContaining('kafka-topics.sh --create'),
      })
      await create(topic)
      expect(await failing(opened({ create: 'never' }))).toMatchObject({
        hint: expect.stringContaining(
          `--topic _adflow_batches.${topic} --partitions 1 --config cleanup.policy=compact`,
        ),
      })
      await create(`_adflow_batches.${topic}`, { 'cleanup.policy': 'compact' })
      await bench.write(await opened({ create: 'never' }), { rows: ROWS })
      expect(await values()).toHaveLength(4)
    })

    it('of a topic of batches that forgets them, or that others write to', async () => {
      await create(`_adflow_batches.${topic}`)
      expect(await failing(opened())).toMatchObject({
        code: 'STORE_MISMATCH',
        message: expect.stringContaining('cleanup.policy=delete'),
      })
      const ledger = freshName('ledger')
      await create(ledger, { 'cleanup.policy': 'compact' })
      await new KafkaWriter(brokers).send(ledger, [{ key: 'x', value: 'y' }])
      expect(await failing(opened({ ledger_topic: ledger }))).toMatchObject({
        code: 'STORE_DAMAGED',
        message: `record 0 of ${ledger} is no entry of a batch`,
      })
    })

    it('of a record that is too large: for the job, and for the topic', async () => {
      const rows = "SELECT repeat('x', CASE i WHEN 2 THEN 3000 ELSE 10 END) AS text FROM range(4) t(i)"
      const loader = await opened({ max_message: '2kB', topic_config: { 'max.message.bytes': '1000' } }, rows)
      expect(await failing(bench.write(loader, { rows }))).toMatchObject({
        code: 'STORE_MISMATCH',
        message: expect.stringMatching(/^row 3 of batch \w+ .* makes a record of 30\d\d bytes .*max_message` is 2000$/),
      })
      const larger = await opened({ max_message: '10kB', compression: 'none' }, rows)
      expect(await failing(bench.write(larger, { rows }))).toMatchObject({
        code: 'STORE_MISMATCH',
        message: expect.stringContaining('MESSAGE_TOO_LARGE'),
        hint: expect.stringContaining('max.message.bytes'),
      })
      expect(await values()).toEqual([])
    })

    it.for([
      [
        'a timestamp before 1970',
        { timestamp: "TIMESTAMP '1969-12-31'" },
        /row 1 of batch \w+ has a `timestamp` before 1970/,
      ],
      ['a compacted topic without a key', { topic_config: { 'cleanup.policy': 'compact' } }, /INVALID_RECORD/],
    ] as const)('of %s', async ([, options, message]) => {
      const loader = await opened(options)
      expect(await failing(bench.write(loader, { rows: ROWS }))).toMatchObject({
        code: expect.stringMatching(/^STORE_/),
        message: expect.stringMatching(message),
        hint: expect.any(String),
      })
    })

    it('of a timeout that the brokers do not allow, and of too many replicas', async () => {
      expect(await failing(opened({ transaction_timeout: '1h' }))).toMatchObject({
        code: 'STORE_MISMATCH',
        hint: expect.stringContaining('transaction.max.timeout.ms'),
      })
      topic = freshName('events')
      expect(await failing(opened({ replication_factor: 3 }))).toMatchObject({
        code: 'STORE_MISMATCH',
        message: expect.stringContaining('INVALID_REPLICATION_FACTOR'),
      })
    })

    it('of brokers that are not there', async () => {
      expect(await failing(opened({ brokers: '127.0.0.1:1,127.0.0.1:2' }))).toMatchObject({
        code: 'STORE_UNAVAILABLE',
        retryable: true,
        message: expect.stringContaining('ECONNREFUSED'),
      })
    })
  })

  describe('with a broker of its own', () => {
    const files = makeFolder('kafka-certificates')
    let own: Awaited<ReturnType<typeof startPrivate<'kafka'>>>
    let port: number
    let ca: string
    beforeAll(async () => {
      const tls = await makeCertificate(files)
      ca = tls.authorityFile
      port = await freePort()
      own = await startPrivate('kafka', {
        ...{ advertisedPort: port, diskSize: '250m', secured: { tls, users: { alice: 'right', bob: 'poor' } } },
        settings: { 'broker.session.timeout.ms': '3000', 'broker.heartbeat.interval.ms': '500' },
      })
      await grant(own.endpoint.brokers)
    }, 60_000)
    afterAll(async () => {
      await own.end()
      files.remove()
    })
    const as = (username: string, password: string, mechanism = 'scram-sha-512') => ({
      ...{ brokers: own.endpoint.secured, tls: { mode: 'verify', ca } },
      sasl: { mechanism, username, password },
    })

    it('whose answers are cut off at any byte: the next attempt finds the batch there, once', async () => {
      await using proxy = await proxyFor(toxiproxy, own.endpoint.behindProxy, { port })
      const loader = await opened({ brokers: proxy.url })
      const answers: string[] = []
      const cutAfter = async (bytes: number) => {
        const spec = { at: bytes, rows: ROWS, lane: 'cut' }
        answers.push(await cutAnswer({ bench, loader, proxy }, bytes, spec, 4))
      }
      let whole = 20
      for (; answers.at(-1) !== 'whole'; whole += 40) await cutAfter(whole)
      // The answer to the commit is the last one; how many bytes came before it is not the same each time.
      for (let back = 41; back < 80 || (!answers.includes('landed') && back < 240); back += 6)
        await cutAfter(whole - back)
      expect([...new Set(answers)].sort()).toEqual(['landed', 'lost', 'whole'])
      expect(await values(own.endpoint.brokers)).toHaveLength(4 * answers.length)
    }, 120_000)

    it('by kill -9 of it in the middle of a batch: nothing of it can be read, then all of it, once', async () => {
      const at = own.endpoint.brokers
      const loader = await opened({ brokers: at, compression: 'none' })
      const rows = "SELECT i::BIGINT AS id, repeat('x', 200) AS name FROM range(200000) t(i)"
      const undo = atRequest(PRODUCE, 5, () => own.kill9())
      const first = await failing(bench.write(loader, { rows }))
      undo()
      expect(first).toMatchObject({ code: 'STORE_UNAVAILABLE' })
      await own.restart()
      expect(await bench.write(loader, { rows })).toMatchObject({ rows: 200_000, repeated: false })
      const ids = (await values(at)).map((value) => value.slice(0, 14))
      expect(ids).toHaveLength(200_000)
      expect(new Set(ids).size).toBe(200_000)
    }, 120_000)

    it('that falls silent: a run that is ended does not wait for it', async () => {
      const loader = await opened({ brokers: own.endpoint.brokers })
      const controller = new AbortController()
      const undo = atRequest(PRODUCE, 1, () => {
        own.stop()
        setTimeout(() => controller.abort(), 100)
      })
      const began = performance.now()
      const { signal } = controller
      expect(await failing(loader.write(await bench.batch({ rows: ROWS }), { signal }))).toBeInstanceOf(Error)
      expect(performance.now() - began).toBeLessThan(10_000)
      undo()
      own.cont()
      expect(await bench.write(loader, { rows: ROWS })).toMatchObject({ rows: 4, repeated: false })
      expect(await values(own.endpoint.brokers)).toHaveLength(4)
    }, 60_000)

    it('whose disk is full, and takes the batch when there is room again', async () => {
      const at = own.endpoint.brokers
      const loader = await opened({ brokers: at, compression: 'none' })
      const filler = join(own.folder.path, 'disk', 'filler')
      fill(filler)
      const rows = "SELECT i::BIGINT AS id, repeat('y', 500) AS name FROM range(40000) t(i)"
      expect(await failing(bench.write(loader, { rows }))).toMatchObject({ code: 'STORE_UNAVAILABLE' })
      rmSync(filler)
      await own.kill9()
      await own.restart()
      expect(await bench.write(loader, { rows })).toMatchObject({ rows: 40_000, repeated: false })
      expect(await values(at)).toHaveLength(40_000)
    }, 120_000)

    it.for(['plain', 'scram-sha-256', 'scram-sha-512'])(
      'loads by TLS and %s, with least privilege',
      async (mechanism) => {
        for (const [name, settings] of [
          [topic, {}],
          [`_adflow_batches.${topic}`, { 'cleanup.policy': 'compact' }],
        ] as const)
          await create(name, settings, own.endpoint.brokers)
        await bench.write(await opened({ ...as('alice', 'right', mechanism), create: 'never' }), { rows: ROWS })
        expect(await values(own.endpoint.brokers)).toHaveLength(4)
      },
    )

    it('that does not take the password', async () => {
      for (const mechanism of ['plain', 'scram-sha-512'])
        expect(await failing(opened(as('alice', 'wrong', mechanism)))).toMatchObject({
          code: 'STORE_DENIED',
          exit: 77,
          hint: expect.stringContaining('sasl'),
        })
    })

    it('that says which privilege is missing', async () => {
      await create(topic, {}, own.endpoint.brokers)
      await create(`_adflow_batches.${topic}`, { 'cleanup.policy': 'compact' }, own.endpoint.brokers)
      expect(await failing(opened({ ...as('bob', 'poor'), create: 'never' }))).toMatchObject({
        code: 'STORE_DENIED',
        message: expect.stringContaining('AUTHORIZATION_FAILED'),
        hint: expect.stringContaining('grant'),
      })
    })

    it('whose certificate is of an unknown authority, or has expired', async () => {
      expect(await failing(opened({ ...as('alice', 'right'), tls: { mode: 'verify' } }))).toMatchObject({
        code: 'STORE_DENIED',
        hint: expect.stringContaining('tls.ca'),
      })
      expect(await failing(opened({ ...as('alice', 'right'), tls: { mode: 'off' } }))).toMatchObject({
        code: 'STORE_UNAVAILABLE',
        hint: expect.stringContaining('TLS'),
      })
      const old = makeFolder('kafka-expired')
      const expired = await makeCertificate(old, { notAfter: new Date(Date.now() - 1000) })
      await using late = await startPrivate('kafka', { secured: { tls: expired } })
      const tls = { mode: 'verify', ca: expired.authorityFile }
      expect(await failing(opened({ brokers: late.endpoint.secured, tls }))).toMatchObject({
        code: 'STORE_DENIED',
        message: expect.stringContaining('expired'),
      })
      old.remove()
    }, 60_000)
  })

  const inLongTests = process.env['ADFLOW_TEST_LONG'] === '1' ? describe : () => undefined
  inLongTests('with three brokers', () => {
    it('of which two die: one may, then the topic asks for more copies; all is there once when they are back', async () => {
      await using own = await startPrivate('kafka', {
        nodes: 3,
        settings: {
          ...{ 'broker.session.timeout.ms': '3000', 'broker.heartbeat.interval.ms': '500' },
          ...{ 'transaction.state.log.replication.factor': '3', 'offsets.topic.replication.factor': '3' },
        },
      })
      const at = own.endpoint.brokers
      const options = { brokers: at, partitions: 6, replication_factor: 3, request_timeout: '10s', key: 'id' }
      const loader = await opened({ ...options, topic_config: { 'min.insync.replicas': '2' } })
      const rows = "SELECT i::BIGINT AS id, repeat('x', 200) AS name FROM range(100000) t(i)"
      const spec = { rows, lane: 'one' }
      const undo = atRequest(PRODUCE, 3, () => own.processes[2]?.kill9())
      const landed = async (own: typeof spec) => {
        const error = await failing(bench.write(loader, own))
        if (error !== undefined) expect(error).toMatchObject({ code: 'STORE_UNAVAILABLE' })
        return error === undefined
      }
      await vi.waitUntil(() => landed(spec), 60_000)
      undo()
      expect(await bench.write(loader, spec)).toMatchObject({ rows: 100_000, repeated: true })
      await own.processes[1]?.kill9()
      const second = { rows: ROWS, lane: 'two' }
      // Where the transaction before could not even be completed, that is what is said.
      const few = /NOT_ENOUGH_REPLICAS|CONCURRENT_TRANSACTIONS/
      const refused = async () => failing(bench.write(loader, second)) as Promise<{ hint?: string } | undefined>
      await vi.waitUntil(async () => {
        const error = await refused()
        if (error !== undefined && few.test(String(error))) expect(error.hint).toContain('min.insync.replicas')
        return few.test(String(error))
      }, 90_000)
      await Promise.all([own.processes[1]?.restart(), own.processes[2]?.restart()])
      await vi.waitUntil(() => landed(second), 60_000)
      expect(await values(at)).toHaveLength(100_004)
    }, 300_000)
  })
})

/** Until nothing more goes onto the disk. */
function fill(file: string): void {
  for (let size = 1 << 20; size >= 1 << 12; )
    try {
      appendFileSync(file, Buffer.alloc(size))
    } catch {
      size >>= 1
    }
}

/** Runs `work` just before the nth request of a kind is sent. Returns how to undo that. */
function atRequest(request: number, nth: number, work: () => void | Promise<void>): () => void {
  const send = Connection.prototype.send as (...args: unknown[]) => unknown
  let seen = 0
  Object.assign(Connection.prototype, {
    send(this: Connection, ...args: unknown[]) {
      if (args[0] === request) seen += 1
      const sent = () => void Reflect.apply(send, this, args)
      if (args[0] === request && seen === nth) void Promise.resolve(work()).then(sent)
      else sent()
    },
  })
  return () => Object.assign(Connection.prototype, { send })
}

/** Every commit waits just before it is sent, until it is released. */
function holdCommits() {
  const { promise: reached, resolve: reach } = Promise.withResolvers<void>()
  const waiting: (() => void)[] = []
  const send = Connection.prototype.send as (...args: unknown[]) => unknown
  Object.assign(Connection.prototype, {
    send(this: Connection, ...args: unknown[]) {
      if (args[0] !== END_TRANSACTION) return Reflect.apply(send, this, args)
      waiting.push(() => void Reflect.apply(send, this, args))
      reach()
    },
  })
  return {
    reached,
    /** `keepFirst`: those that come later pass, and the first still waits. */
    release({ keepFirst = false } = {}) {
      Object.assign(Connection.prototype, { send })
      if (!keepFirst) for (const go of waiting.splice(0)) go()
    },
  }
}

/** Of all producers of this process, from now on. */
function countCommits() {
  let commits = 0
  const send = Connection.prototype.send as (...args: unknown[]) => unknown
  const counting = {
    send(this: Connection, ...args: unknown[]) {
      if (args[0] === END_TRANSACTION) commits += 1
      return Reflect.apply(send, this, args)
    },
  }
  Object.assign(Connection.prototype, counting)
  return {
    stop() {
      Object.assign(Connection.prototype, { send })
      return commits
    },
  }
}

/** What docs/components says a user needs. */
async function grant(brokers: string): Promise<void> {
  const { AclOperationTypes, AclPermissionTypes, AclResourceTypes, ResourcePatternTypes } = kafkajs
  const may = (resourceType: number, resourceName: string, operations: readonly number[]) =>
    operations.map((operation) => ({
      ...{ principal: 'User:alice', host: '*', permissionType: AclPermissionTypes.ALLOW },
      ...{ resourceType, resourceName, resourcePatternType: ResourcePatternTypes.PREFIXED, operation },
    }))
  const { DESCRIBE, DESCRIBE_CONFIGS, READ, WRITE } = AclOperationTypes
  const own = kafkaClient(brokers).admin()
  await own.connect()
  await own.createAcls({
    acl: [
      ...may(AclResourceTypes.TOPIC, 'events', [WRITE, DESCRIBE]),
      ...may(AclResourceTypes.TOPIC, '_adflow_batches.', [WRITE, DESCRIBE, READ, DESCRIBE_CONFIGS]),
      ...may(AclResourceTypes.TRANSACTIONAL_ID, 'adflow-', [WRITE, DESCRIBE]),
    ],
  })
  await own.disconnect()
}
