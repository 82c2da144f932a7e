import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import pino from 'pino'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import kafka from '../../src/extractors/kafka.ts'
import type { RunSummary } from '../../src/runtime/summary.ts'
import { avroBytes, registryValue } from '../harness/avro-values.ts'
import { temporaryFolder } from '../harness/cli.ts'
import { diagnosed } from '../harness/diagnosis.ts'
import { KafkaWriter } from '../harness/kafka-writer.ts'
import { SchemaRegistryServer } from '../harness/schema-registry.ts'
import { freshName } from '../harness/servers/fresh.ts'
import { serverSuite } from '../harness/servers/suite.ts'
import { SmallJob } from '../harness/small-job.ts'

const MONEY = { type: 'bytes', logicalType: 'decimal', precision: 38, scale: 6 }
const PLACE = { type: 'record', name: 'Place', namespace: 'ads', fields: [{ name: 'city', type: 'string' }] }
const FIELDS = [
  { name: 'id', type: 'long' },
  { name: 'cost', type: ['null', MONEY] },
  { name: 'at', type: { type: 'long', logicalType: 'timestamp-micros' } },
  { name: 'day', type: { type: 'int', logicalType: 'date' } },
  { name: 'kind', type: { type: 'enum', name: 'Kind', symbols: ['click', 'view'] } },
  { name: 'raw', type: 'bytes' },
  { name: 'place', type: ['null', 'ads.Place'] },
  { name: 'tags', type: { type: 'array', items: 'string' } },
  { name: 'counts', type: { type: 'map', values: 'long' } },
  { name: 'share', type: 'double' },
]
const EVENT = { type: 'record', name: 'Event', namespace: 'ads', fields: FIELDS }
/** As another implementation needs it: all in one. */
const whole = (event: typeof EVENT) => ({
  ...event,
  fields: event.fields.map((field) => (field.name === 'place' ? { ...field, type: ['null', PLACE] } : field)),
})
const WIDER = { ...EVENT, fields: [...FIELDS, { name: 'campaign', type: ['null', 'string'] }] }
const VALUE = {
  ...{ id: 9_007_199_254_740_993n, cost: { bytes: Buffer.from('4b3b4ca85a86c47a098a223fffffffff', 'hex') } },
  ...{ at: 253_402_300_799_999_999n, day: 20_542, kind: 'view', raw: Buffer.from([0, 0x22, 0xff]) },
  ...{ place: { 'ads.Place': { city: 'Köln "am" Rhein' } }, tags: ['a', ''], counts: { big: (1n << 62n) + 1n } },
  share: 0.1,
}
const EMPTY = {
  ...VALUE,
  id: 2n,
  cost: null,
  place: null,
  tags: [],
  counts: {},
  raw: Buffer.alloc(0),
  at: 0n,
  share: -1e300,
}
const COLUMNS = {
  ...{ id: { type: 'bigint', required: true }, cost: 'decimal(38,6)', at: 'timestamp', day: 'date', kind: 'varchar' },
  ...{ raw: 'blob', place: 'struct(city varchar)', tags: 'varchar[]', counts: 'map(varchar, bigint)', share: 'double' },
  ...{ campaign: 'varchar', event_offset: 'bigint' },
}
const TEXT = `SELECT id::VARCHAR AS id, cost::VARCHAR AS cost, "at"::VARCHAR AS at, day::VARCHAR AS day, kind, raw::VARCHAR AS raw,
  place.city AS city, tags::VARCHAR AS tags, counts::VARCHAR AS counts, share::VARCHAR AS share, campaign, event_offset::INTEGER AS o
  FROM w.rows ORDER BY event_offset`

await serverSuite('values of Avro in Kafka', ['kafka'], ({ kafka: { brokers } }) => {
  const writer = new KafkaWriter(brokers)
  const registry = new SchemaRegistryServer()
  let place: ReturnType<typeof temporaryFolder>
  let topic: string
  let [first, second, other]: [number, number, number] = [0, 0, 0]
  beforeAll(async () => {
    await registry.start()
    registry.register('place', { schema: JSON.stringify(PLACE) })
    const references = [{ name: 'ads.Place', subject: 'place', version: 1 }]
    first = registry.register('events', { schema: JSON.stringify(EVENT), schemaType: 'AVRO', references })
    second = registry.register('events', { schema: JSON.stringify(WIDER), references })
    other = registry.register('proto', { schema: 'syntax = "proto3";', schemaType: 'PROTOBUF' })
  })
  afterAll(() => registry.stop())
  beforeEach(async () => {
    place = temporaryFolder('kafka-avro')
    topic = freshName('avro')
    await writer.create(topic)
  })
  afterEach(() => place.remove())
  const jobWith = (avro: object, fields: object = { event_offset: 'offset' }) => {
    const input = { type: 'kafka', brokers, topics: topic, format: 'avro', avro, fields }
    return new SmallJob(
      place.path,
      `version: 1
name: rows
extract: { input: ${JSON.stringify(input)} }
contract: { columns: ${JSON.stringify(COLUMNS)} }
load: { warehouse: { type: duckdb, path: warehouse.duckdb, table: rows } }
`,
    )
  }
  const send = (...values: (Buffer | null)[]) =>
    writer.send(
      topic,
      values.map((value) => ({ value, partition: 0 })),
    )
  const summary = async (job: SmallJob) => (await job.run()).json<RunSummary>()

  describe('by a registry', () => {
    const auth = { type: 'basic', user: 'reader', password: 'secret' }
    const reached = () => ({
      registry: { url: `${registry.url}/`, auth, allow_private: true, timeout: '5s', attempts: 2 },
    })

    it('are exact in the store, whichever schema wrote them; what is no value is quarantined with its offset', async () => {
      const wider = { ...EMPTY, id: 3n, campaign: { string: 'spring' } }
      const bytes = avroBytes(whole(EVENT), VALUE)
      await send(
        ...[registryValue(first, bytes), registryValue(first, avroBytes(whole(EVENT), EMPTY))],
        registryValue(second, avroBytes(whole(WIDER), wider)),
        ...[registryValue(first, bytes.subarray(0, -1)), bytes, registryValue(99, bytes), registryValue(other, bytes)],
        ...[Buffer.from('{"id":1}'), Buffer.alloc(0), null, Buffer.from([0, 0])],
        registryValue(first, Buffer.concat([bytes, Buffer.from([0])])),
      )
      const job = jobWith(reached())
      registry.asked.length = 0
      expect(await summary(job)).toMatchObject({ exit: 0, read: 12, quarantined: 9 })
      const empty = { cost: null, raw: '', city: null, tags: '[]', counts: '{}', share: '-1e+300', campaign: null }
      const same = { day: '2026-03-30', kind: 'view' }
      expect(await job.warehouse(TEXT)).toEqual([
        {
          ...{ ...same, id: '9007199254740993', cost: '99999999999999999999999999999999.999999' },
          ...{ at: '9999-12-31 23:59:59.999999', raw: '\\x00\\x22\\xFF', city: 'Köln "am" Rhein', tags: "[a, '']" },
          ...{ counts: '{big=4611686018427387905}', share: '0.1', campaign: null, o: 0 },
        },
        { ...same, ...empty, id: '2', at: '1970-01-01 00:00:00', o: 1 },
        { ...same, ...empty, id: '3', at: '1970-01-01 00:00:00', campaign: 'spring', o: 2 },
      ])
      const reasons = job.quarantine().map(({ line, reason }) => `${line}: ${reason}`)
      expect(reasons.sort()).toEqual([
        expect.stringMatching(/^10: .*does not begin with a zero byte/),
        expect.stringMatching(/^11: .*goes on for 1 bytes behind its end/),
        expect.stringMatching(/^3: .*ends too early/),
        expect.stringMatching(/^4: /),
        expect.stringMatching(/^5: .*schema 99, which the registry does not know/),
        expect.stringMatching(/^6: .*schema 4, which is PROTOBUF, not Avro/),
        expect.stringMatching(/^7: .*does not begin with a zero byte/),
        expect.stringMatching(/^8: .*value is empty/),
        expect.stringMatching(/^9: /),
      ])
      const ids = [first, second, 99, other].map((id) => `/registry/schemas/ids/${id}`)
      expect(registry.asked.filter((path) => path.includes('/ids/'))).toEqual(ids)
      expect(new Set(registry.authorized)).toEqual(
        new Set([`Basic ${Buffer.from('reader:secret').toString('base64')}`]),
      )
    })

    const read = async (avro: object) => {
      const env = { id: 'input', job: 'job', baseDir: place.path, chunkDir: place.path, stageDir: place.path }
      const chosen = kafka.options.parse({ brokers, topics: topic, format: 'avro', avro })
      const extractor = kafka.create(chosen, { ...env, log: pino({ level: 'silent' }) })
      const { signal } = new AbortController()
      const sizes = { chunkBytes: 1 << 20, maxRecordBytes: 1 << 16, parallel: 1 }
      const got = []
      for await (const item of extractor.read({ from: {}, planned: [], until: 'now', ...sizes, signal }))
        got.push('gap' in item ? `${item.gap.from} ${item.code}: ${item.message}` : item.records)
      await extractor.close()
      return got
    }
    const answering = (status: number, body: string) => () => {
      registry.interfere = (_request, response) => {
        response.writeHead(status).end(body)
        return true
      }
    }

    it.each([
      ['is down', () => registry.stop(), /^0 SOURCE_UNREADABLE: http.*ECONNREFUSED/],
      ['is a proxy that knows nothing', answering(404, '<html>'), /^0 SOURCE_UNREADABLE: .* not as a registry does/],
      ['answers 503', answering(503, ''), /^0 SOURCE_UNREADABLE: .* answers 503/],
      ['answers what is no JSON', answering(200, '<html>'), /^0 SOURCE_UNREADABLE: .* no JSON/],
      ['refuses the credentials', answering(401, '{}'), /^0 SOURCE_DENIED: .* answers 401/],
    ] as const)('that %s are a gap, and are read when it is mended', async (_, hurt, told) => {
      await send(registryValue(first, avroBytes(whole(EVENT), VALUE)))
      await hurt()
      try {
        expect(await read(reached())).toEqual([expect.stringMatching(told)])
      } finally {
        registry.interfere = () => undefined
        await registry.stop()
        await registry.start()
      }
      expect(await read(reached())).toEqual([1])
    })

    it('on this machine is not asked unless the job allows it', async () => {
      await send(registryValue(first, avroBytes(whole(EVENT), VALUE)))
      registry.asked.length = 0
      const refused = expect.stringMatching(/^0 SOURCE_DENIED: .* not a public address/)
      expect(await read({ registry: { url: registry.url } })).toEqual([refused])
      expect(registry.asked).toEqual([])
    })

    it('is asked by the doctor', async () => {
      const doctor = async (avro: object) => {
        const chosen = { brokers, topics: topic, format: 'avro', avro }
        return (await diagnosed(kafka, chosen)).filter(({ place: at }) => at.startsWith('http'))
      }
      const { registry: good } = reached()
      expect(await doctor({ registry: good })).toMatchObject([{ check: 'reachable', status: 'ok' }])
      const wrong = { ...good, url: new URL(registry.url).origin }
      expect(await doctor({ registry: wrong })).toMatchObject([{ check: 'reachable', status: 'failed' }])
    })

    it('are read by the schema of the job, in it or in a file', async () => {
      await send(avroBytes(whole(EVENT), VALUE), avroBytes(whole(EVENT), EMPTY))
      expect(await read({ schema: whole(EVENT) })).toEqual([2])
      await expect(read({ schema_file: 'event.avsc' })).rejects.toThrow(/event.avsc/)
      writeFileSync(join(place.path, 'event.avsc'), JSON.stringify(whole(EVENT)))
      expect(await read({ schema_file: 'event.avsc' })).toEqual([2])
      expect(() => kafka.options.parse({ brokers, topics: topic, format: 'avro', avro: { schema: '[]' } })).toThrow(
        /the schema has a union of nothing/,
      )
    })
  })
})
