import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Message } from 'kafkajs'
import pino from 'pino'
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Chunk, Gap, PlannedRange, Positions, ReadContext } from '../../src/core/contracts.ts'
import kafka from '../../src/extractors/kafka.ts'
import type { RunSummary } from '../../src/runtime/summary.ts'
import { temporaryFolder } from '../harness/cli.ts'
import { CompressionTypes, KafkaWriter } from '../harness/kafka-writer.ts'
import { freshName } from '../harness/servers/fresh.ts'
import { startPrivate } from '../harness/servers/private.ts'
import { serverSuite } from '../harness/servers/suite.ts'
import { SmallJob } from '../harness/small-job.ts'

const LONG = process.env['ADFLOW_TEST_LONG'] === '1'
const MANY = LONG ? 100_000 : 3000
const FIRST_ID = 9_007_199_254_740_993n

type Options = Readonly<Record<string, unknown>>

interface Got {
  readonly lines: string[]
  readonly gaps: Gap[]
  readonly positions: Positions
  readonly planned: PlannedRange[]
  readonly refused: string[]
  /** Of each record that was taken: its offset, and its bytes as they came. */
  readonly records: { readonly offset: number; readonly raw: string }[]
}

await serverSuite('the extractor of Kafka', ['kafka'], ({ kafka: { brokers } }) => {
  const writer = new KafkaWriter(brokers)
  const folder = mkdtempSync(join(tmpdir(), 'adflow-kafka-source-'))
  let topic: string
  afterAll(() => rmSync(folder, { recursive: true }))
  beforeEach(() => {
    topic = freshName('events')
  })

  const read = async (
    options: Options = {},
    context: Partial<ReadContext> = {},
    enough = (_: Got) => false,
  ): Promise<Got> => {
    const env = { id: 'input', job: 'job', baseDir: folder, chunkDir: folder, stageDir: folder }
    const chosen = kafka.options.parse({ brokers, topics: topic, patience: '5s', ...options })
    const extractor = kafka.create(chosen, { ...env, log: pino({ level: 'silent' }) })
    const got: Got = { lines: [], gaps: [], positions: {}, planned: [], refused: [], records: [] }
    const { signal } = new AbortController()
    const reading: ReadContext = {
      ...{ from: {}, planned: [], until: 'now', chunkBytes: 1 << 20, maxRecordBytes: 1000, parallel: 2, signal },
      ...context,
    }
    const positions: Record<string, { at: string; mark: string }> = {}
    for await (const item of extractor.read(reading)) {
      if ('gap' in item) {
        got.gaps.push(item)
        continue
      }
      await take(item, got)
      positions[item.range.lane] = { at: item.range.to, mark: item.mark ?? '' }
      await item.release()
      if (enough(got)) break
    }
    await extractor.close()
    return { ...got, positions }
  }
  const take = async (chunk: Chunk, got: Got): Promise<void> => {
    const all = Array.from({ length: chunk.records }, (_, ordinal) => ordinal)
    const lines = readFileSync(chunk.file, 'utf8').split('\n').slice(0, -1)
    const [raws, places] = [await chunk.raw(all), await chunk.locate(all)]
    got.lines.push(...lines)
    got.planned.push({ ...chunk.range, mark: chunk.mark ?? '' })
    got.refused.push(...chunk.refused.map(({ message, line }) => `${line}: ${message}`))
    got.records.push(...raws.map((raw, ordinal) => ({ offset: places[ordinal]?.line ?? -1, raw: raw.toString() })))
  }
  const filled = async (messages: readonly Message[], settings: Parameters<KafkaWriter['create']>[1] = {}) => {
    await writer.create(topic, settings)
    await writer.send(topic, messages)
  }
  const numbered = (count: number, from = 0): Message[] =>
    Array.from({ length: count }, (_, index) => ({ value: `{"id":${from + index}}`, partition: 0 }))
  const ids = ({ lines }: Got) => lines.map((line) => Number(/\d+/.exec(line)?.[0]))
  const range = (from: number, to: number) => Array.from({ length: to - from }, (_, index) => from + index)

  describe('values', () => {
    it.each(['None', 'GZIP', 'Snappy', 'LZ4', 'ZSTD'] as const)('in batches compressed by %s', async (name) => {
      await writer.create(topic)
      const values = range(0, MANY).map(
        (n) => `{"id":${FIRST_ID + BigInt(n)},"text":"ü 🎺 \\u0000 ${'x'.repeat(n % 50)}"}`,
      )
      const messages = values.map((value) => ({ value, partition: 0 }))
      await writer.send(topic, messages, { batch: 700, compression: CompressionTypes[name] })
      const got = await read({}, { chunkBytes: 50_000 })
      expect(got.lines).toEqual(values)
      expect(got.records.map(({ offset }) => offset)).toEqual(range(0, MANY))
      expect(got.planned.length).toBeGreaterThan(1)
    })

    it('on several lines are put on one, and their own bytes are kept; what is no value is refused with its offset', async () => {
      const pretty = '\r\n{\n  "id": 1,\r\n  "text": "a"\n}\n'
      await filled(
        [pretty, '', ' \n', '{"id":2}', null, '[3]', `{"id":4,"text":"${'x'.repeat(1000)}"}`, '{"id":5}\r'].map(
          (value) => ({
            ...{ value, partition: 0 },
          }),
        ),
      )
      const got = await read()
      expect(got.lines).toEqual(['\r {   "id": 1,\r   "text": "a" } ', '{"id":2}', 'null', '[3]', '{"id":5} '])
      expect(got.records).toEqual([
        { offset: 0, raw: pretty },
        { offset: 3, raw: '{"id":2}' },
        { offset: 4, raw: 'null' },
        { offset: 5, raw: '[3]' },
        { offset: 7, raw: '{"id":5}\r' },
      ])
      expect(got.refused).toEqual([
        `1: the value is empty (offset 1 of ${topic}/0)`,
        `2: the value is empty (offset 2 of ${topic}/0)`,
        `6: a record is larger than 1000 bytes (offset 6 of ${topic}/0)`,
      ])
      expect((await read({ tombstones: 'skip' })).lines).not.toContain('null')
    })

    it('with key, headers, timestamp, partition and offset before their own fields', async () => {
      const [one, two] = [Buffer.from([0xff]), Buffer.from('zwei "ü"')]
      await filled([
        { key: 'k"1', value: '{"id":1}', headers: { a: ['1', 'ü'], b: '' }, timestamp: '1774864800123', partition: 0 },
        { key: null, value: ' { } ', timestamp: '1774864800124', partition: 0 },
        { key: two, value: null, timestamp: '1774864800124', partition: 0 },
        { key: one, value: '{"id":4}', timestamp: '1774864800124', partition: 0 },
      ])
      const fields = {
        ...{ o: 'offset', p: 'partition', t: 'topic', at: 'timestamp', ms: 'timestamp_ms', k: 'key', h: 'headers' },
        ...{ a: 'header:a', x: 'header:x', gone: 'tombstone' },
      }
      const got = await read({ fields })
      const same = { p: 0, t: topic, at: '2026-03-30T10:00:00.124Z', ms: 1774864800124, h: [], a: null, x: null }
      const h = [
        { key: 'a', value: '1' },
        { key: 'a', value: 'ü' },
        { key: 'b', value: '' },
      ]
      expect(got.lines.map((line) => JSON.parse(line) as unknown)).toEqual([
        { ...same, o: 0, at: '2026-03-30T10:00:00.123Z', ms: 1774864800123, k: 'k"1', h, a: 'ü', gone: false, id: 1 },
        { ...same, o: 1, k: null, gone: false },
        { ...same, o: 2, k: 'zwei "ü"', gone: true },
      ])
      expect(got.records.map(({ raw }) => raw)).toEqual(['{"id":1}', ' { } ', '{}'])
      expect(got.refused).toEqual([`3: the key is not valid UTF-8: it can be had as base64 (offset 3 of ${topic}/0)`])
      expect((await read({ fields: { k: 'key_base64' } })).lines.at(-1)).toBe('{"k":"/w==","id":4}')
    })

    it('of CSV, one line each', async () => {
      const values = ['1,"a\nb"\r\n', '2,"open', '3,c\n4,d', '5,e', null]
      await filled(values.map((value) => ({ key: 'k"', value, partition: 0 })))
      const got = await read({ format: 'csv', csv: { header: ['id', 'text'] }, fields: { o: 'offset', k: 'key' } })
      expect(got.refused.map((text) => text.replace(/ \(.*/, ''))).toEqual([
        '1: the value is not one line of CSV',
        '2: the value is not one line of CSV',
      ])
      expect(got.lines.join('\n')).toBe('0,"k""",1,"a\nb"\n3,"k""",5,e\n4,"k""",,')
    })
  })

  describe('transactions', () => {
    it('count when they are committed, however the range is cut', async () => {
      await writer.create(topic)
      await writer.send(topic, numbered(3))
      await writer.transaction(topic, numbered(3, 100), 'abort')
      await writer.transaction(topic, numbered(3, 3), 'commit')
      const end = await writer.transaction(topic, numbered(2, 200), 'open')
      await writer.send(topic, numbered(3, 6))
      const first = await read({}, { chunkBytes: 1 })
      expect(ids(first)).toEqual(range(0, 6))
      expect(ids(await read({ isolation: 'read_uncommitted' }))).toEqual([
        0, 1, 2, 100, 101, 102, 3, 4, 5, 200, 201, 6, 7, 8,
      ])
      await end('abort')
      // The broker has answered before its marker stands in the partition.
      await expect.poll(async () => ids(await read({}, { from: first.positions })), { timeout: 20_000 }).toHaveLength(3)
      const second = await read({}, { from: first.positions })
      expect(ids(second)).toEqual([6, 7, 8])
      expect(ids(await read({}, { planned: first.planned }))).toEqual(range(0, 9))
      const third = await read({}, { from: second.positions })
      expect([third.lines, third.planned]).toEqual([[], []])
    })

    it('that are aborted to the end leave a range without records, and nothing to read again', async () => {
      await writer.create(topic)
      await writer.transaction(topic, numbered(3), 'abort')
      const got = await read()
      expect(got.lines).toEqual([])
      expect(got.planned).toMatchObject([{ from: '0', to: '4' }])
      expect((await read({}, { from: got.positions })).planned).toEqual([])
    })
  })

  it('tells a consumer group how far it has come, when that is durable', async () => {
    await filled(numbered(5))
    const job = new SmallJob(
      join(folder, 'watched'),
      `version: 1
name: watched
extract: { input: { type: kafka, brokers: "${brokers}", topics: ${topic}, group: ${topic}-watched } }
contract: { columns: { id: { type: bigint, required: true } } }
load: { out: { type: files, path: out, format: ndjson } }
`,
    )
    const told = () =>
      writer.admin(async (own) => {
        const [found] = await own.fetchOffsets({ groupId: `${topic}-watched`, topics: [topic] })
        return found?.partitions
      })
    expect(await job.summary()).toMatchObject({ exit: 0, read: 5, warnings: [] })
    expect(await told()).toMatchObject([{ partition: 0, offset: '5' }])
    await writer.send(topic, numbered(3, 5))
    expect(await job.summary()).toMatchObject({ exit: 0, read: 3 })
    expect(await told()).toMatchObject([{ partition: 0, offset: '8' }])
  })

  describe('where it begins and stops', () => {
    it('by offsets, by times, and at the latest, from where nothing is passed over later', async () => {
      await writer.create(topic)
      for (const n of [0, 1, 2, 3])
        await writer.send(topic, [
          { value: `{"id":${n}}`, partition: 0, timestamp: String(1_774_864_800_000 + n * 1000) },
        ])
      const time = (seconds: number) => new Date(1_774_864_800_000 + seconds * 1000).toISOString()
      expect(ids(await read({ start: { [`${topic}/0`]: 1 }, end: { [`${topic}/0`]: '3' } }))).toEqual([1, 2])
      expect(ids(await read({ start: time(1), end: time(3) }))).toEqual([1, 2])
      const latest = await read({ start: 'latest' })
      expect([latest.lines, latest.positions]).toMatchObject([[], { [`${topic}/0`]: { at: '4' } }])
      await writer.send(topic, numbered(2, 4))
      await writer.admin((own) => own.createPartitions({ topicPartitions: [{ topic, count: 2 }] }))
      await writer.send(topic, [{ value: '{"id":6}', partition: 1 }])
      // The broker lists a partition some time after it was made.
      await expect.poll(async () => ids(await read()).length, { timeout: 20_000 }).toBe(7)
      const later = await read({ start: 'latest' }, { from: latest.positions })
      expect(ids(later).sort()).toEqual([4, 5, 6])
    })

    it('at the latest of an empty partition, where records come between two looks at it', async () => {
      await writer.create(topic)
      const env = { id: 'input', job: 'job', baseDir: folder, chunkDir: folder, stageDir: folder }
      const chosen = kafka.options.parse({ brokers, topics: topic, start: 'latest' })
      const extractor = kafka.create(chosen, { ...env, log: pino({ level: 'silent' }) })
      const { signal } = new AbortController()
      const context: ReadContext = {
        ...{ from: {}, planned: [], until: 'now', chunkBytes: 1 << 20, maxRecordBytes: 1000, parallel: 1, signal },
      }
      const look = async () => {
        const ranges: object[] = []
        for await (const item of extractor.read(context)) if (!('gap' in item)) ranges.push(item.range)
        return ranges
      }
      expect(await look()).toEqual([])
      await writer.send(topic, numbered(2))
      expect(await look()).toEqual([{ lane: `${topic}/0`, from: '0', to: '2' }])
      await extractor.close()
    })

    it('at topics that match a pattern, which are all that the user sees and not those of the cluster', async () => {
      for (const name of ['a', 'b']) {
        await writer.create(`${topic}.${name}`)
        await writer.send(`${topic}.${name}`, numbered(1))
      }
      const got = await read({ topics: undefined, pattern: `${topic}\\.[ab]` })
      expect(Object.keys(got.positions).sort()).toEqual([`${topic}.a/0`, `${topic}.b/0`])
      const nothing = await read({ topics: undefined, pattern: 'no-such' })
      expect(nothing.gaps).toMatchObject([
        { code: 'SOURCE_MISSING', message: expect.stringMatching(/no topic .* matches/) },
      ])
    })

    it('never, where the job has no end: what comes later is read too', async () => {
      await filled(numbered(3))
      const reading = read({ poll: '20ms' }, { until: 'forever', chunkBytes: 1 }, ({ lines }) => lines.length >= 6)
      await writer.send(topic, numbered(3, 3))
      expect(ids(await reading)).toEqual(range(0, 6))
    })
  })

  describe('what is gone', () => {
    let place: ReturnType<typeof temporaryFolder>
    let job: SmallJob
    beforeEach(() => {
      place = temporaryFolder('kafka-source')
    })
    afterEach(() => place.remove())
    const start = (more: Options = {}) => {
      const input = { type: 'kafka', brokers, topics: topic, patience: '5s', ...more }
      job = new SmallJob(
        place.path,
        `version: 1
name: rows
extract: { input: ${JSON.stringify(input)} }
contract: { columns: { id: { type: bigint, required: true } } }
load: { warehouse: { type: duckdb, path: warehouse.duckdb, table: rows } }
`,
      )
    }
    const summary = async () => (await job.run()).json<RunSummary>()
    const held = async () => {
      const rows = await job.warehouse('SELECT id::INTEGER AS id FROM w.rows ORDER BY id')
      return rows.map(({ id }) => id)
    }

    it('by retention: exit 65 and the exact range, until a hand or `on_lost` moves on; then nothing more is missed', async () => {
      await filled(numbered(10))
      start()
      expect(await summary()).toMatchObject({ exit: 0, read: 10 })
      await writer.send(topic, numbered(10, 10))
      await writer.deleteBefore(topic, { 0: 15 })
      const lost = { lane: `${topic}/0`, from: '10', to: '15', code: 'SOURCE_CHANGED' }
      expect(await summary()).toMatchObject({
        ...{ exit: 65, status: 'gaps', read: 0 },
        gaps: [{ ...lost, message: expect.stringContaining(`offsets [10, 15) of ${topic}/0 are lost`) }],
      })
      start({ on_lost: 'continue' })
      expect(await summary()).toMatchObject({ exit: 65, read: 5, gaps: [lost] })
      expect(await summary()).toMatchObject({ exit: 0, read: 0 })
      expect(await held()).toEqual([...range(0, 10), ...range(15, 20)])
      await writer.send(topic, numbered(10, 20))
      await writer.deleteBefore(topic, { 0: 25 })
      start()
      expect((await summary()).exit).toBe(65)
      const moved = await job.command([
        'state',
        'set',
        job.file,
        'input',
        `${topic}/0`,
        '25',
        '--force',
        '--reason',
        'lost',
      ])
      expect(moved.code, moved.stderr).toBe(0)
      expect(await summary()).toMatchObject({ exit: 0, read: 5 })
      expect(await held()).toEqual([...range(0, 10), ...range(15, 20), ...range(25, 30)])
    })

    it('with its topic: one that was made anew is not taken for it, and is read when it is asked for', async () => {
      await filled(numbered(5))
      start()
      expect(await summary()).toMatchObject({ exit: 0, read: 5 })
      await writer.recreate(topic)
      await writer.send(topic, numbered(8, 50))
      expect(await summary()).toMatchObject({
        ...{ exit: 65, read: 0 },
        gaps: [{ code: 'SOURCE_CHANGED', message: expect.stringMatching(/deleted and made anew/) }],
      })
      const rewound = await job.command(['state', 'rewind', job.file, 'input', '--reload', '--reason', 'a new topic'])
      expect(rewound.code, rewound.stderr).toBe(0)
      expect(await summary()).toMatchObject({ exit: 0, read: 8 })
    })

    it('a range that was planned and has other records now, by compaction say', async () => {
      await filled(numbered(6))
      const got = await read({}, { chunkBytes: 20 })
      const [first] = got.planned
      const other = { ...first, mark: (first?.mark ?? '').replace(/crc32:\w+/, 'crc32:00000000') } as PlannedRange
      const again = await read({}, { planned: [other] })
      expect(again.gaps).toMatchObject([
        {
          gap: { from: '0' },
          code: 'SOURCE_CHANGED',
          message: expect.stringMatching(/had \d+ records .* when they were planned/),
        },
      ])
      expect(again.lines).toEqual([])
      await writer.deleteBefore(topic, { 0: 1 })
      const short = await read({}, { planned: got.planned })
      expect(short.gaps).toMatchObject([{ gap: { from: '0', to: '1' }, code: 'SOURCE_CHANGED' }])
    })

    it('of a position behind the end, after an unclean election say', async () => {
      await filled(numbered(2))
      const got = await read({}, { from: { [`${topic}/0`]: { at: '5' } } })
      expect(got.gaps).toMatchObject([{ code: 'SOURCE_CHANGED', message: expect.stringMatching(/ends at offset 2/) }])
    })
  })

  const onlyLong = LONG ? it : undefined // a test that is skipped counts as failed
  onlyLong?.(
    'reads a topic of which the broker has cleaned records away: what is left, and nothing is called lost',
    async () => {
      // Segments are closed after a tenth of a second, and cleaned at once.
      const server = await startPrivate('kafka', { settings: { 'log.cleaner.backoff.ms': '100' } })
      const place = temporaryFolder('kafka-compacted')
      try {
        const own = { brokers: server.endpoint.brokers }
        const writing = new KafkaWriter(own.brokers)
        const config = {
          ...{
            'cleanup.policy': 'compact,delete',
            'retention.ms': '-1',
            'segment.ms': '100',
            'min.cleanable.dirty.ratio': '0.01',
          },
          ...{ 'min.compaction.lag.ms': '0', 'delete.retention.ms': '0' },
        }
        await writing.create(topic, { config })
        const keyed = (count: number, from: number): Message[] =>
          range(from, from + count).map((id) => ({ key: `k${id % 50}`, value: `{"id":${id}}`, partition: 0 }))
        for (let from = 0; from < 1000; from += 100) {
          await writing.send(topic, keyed(100, from), { batch: 10 })
          await delay(120) // the next record closes the segment
        }
        const input = { type: 'kafka', ...own, topics: topic }
        const job = new SmallJob(
          place.path,
          `version: 1
name: rows
extract: { input: ${JSON.stringify(input)} }
contract: { columns: { id: { type: bigint, required: true } } }
load: { warehouse: { type: duckdb, path: warehouse.duckdb, table: rows } }
`,
        )
        const before = await read(own, {}, ({ records }) => records.length >= 450)
        expect(await job.summary()).toMatchObject({ exit: 0, gaps: [] })
        for (let from = 1000; from < 3000; from += 100) {
          await writing.send(topic, keyed(100, from), { batch: 10 })
          await delay(120)
        }
        const left = async () => (await read(own)).records.map(({ offset }) => offset)
        let offsets = await left()
        while (offsets.length > 500) {
          await delay(200)
          await writing.send(topic, keyed(1, 2950))
          offsets = await left()
        }
        expect(offsets[0]).toBeGreaterThan(0)
        expect(offsets.length).toBeLessThan((offsets.at(-1) ?? 0) / 2)

        // The newest record of each key is there; a position whose offset is gone goes on behind it.
        const got = await read(own)
        expect(got.gaps).toEqual([])
        expect(new Set(ids(got).map((id) => id % 50)).size).toBe(50)
        expect(ids(got)).toEqual(expect.arrayContaining(range(2951, 3000)))
        const hole = range(1, offsets.at(-1) ?? 0).find((offset) => !offsets.includes(offset)) ?? -1
        const behind = await read(own, { from: { [`${topic}/0`]: { at: String(hole) } } })
        expect(behind.gaps).toEqual([])
        expect(behind.records.map(({ offset }) => offset)).toEqual((await left()).filter((offset) => offset >= hole))
        expect(await job.summary()).toMatchObject({ exit: 0, gaps: [] })
        expect(await job.summary()).toMatchObject({ exit: 0, read: 0, gaps: [] })

        // A range that was planned before has other records now.
        const again = await read(own, { planned: before.planned })
        expect(again.gaps).toMatchObject([{ gap: { from: '0' }, code: 'SOURCE_CHANGED' }])
        // Below the first offset of the log is a loss.
        const known = { from: { [`${topic}/0`]: { at: '100' } } }
        await writing.deleteBefore(topic, { 0: 2000 })
        expect((await read(own, known)).gaps).toMatchObject([
          { gap: { from: '100', to: '2000' }, code: 'SOURCE_CHANGED', message: expect.stringMatching(/are lost/) },
        ])
      } finally {
        place.remove()
        await server.end()
      }
    },
  )

  onlyLong?.(
    'goes on when the broker is killed and comes back in the middle: no gap, no loss, nothing twice',
    async () => {
      const server = await startPrivate('kafka')
      try {
        const own = new KafkaWriter(server.endpoint.brokers)
        await own.create(topic)
        await own.send(topic, numbered(MANY), { batch: 100 })
        let chunks = 0
        let back: Promise<void> | undefined
        const { signal } = new AbortController()
        const dying = {
          get chunkBytes() {
            chunks += 1
            return 1000
          },
        }
        const options = { patience: '60s', connect_timeout: '2s', fetch_bytes: '2kB' }
        const extractor = kafka.create(
          kafka.options.parse({ brokers: server.endpoint.brokers, topics: topic, ...options }),
          {
            ...{ id: 'input', job: 'job', baseDir: folder, chunkDir: folder, stageDir: folder },
            log: pino({ level: 'silent' }),
          },
        )
        const lines: string[] = []
        const reading = {
          from: {},
          planned: [],
          until: 'now',
          maxRecordBytes: 1000,
          parallel: 1,
          signal,
          ...dying,
        } as const
        for await (const item of extractor.read(reading)) {
          expect(item).not.toHaveProperty('gap')
          const chunk = item as Chunk
          lines.push(...readFileSync(chunk.file, 'utf8').split('\n').slice(0, -1))
          await chunk.release()
          if (back !== undefined || lines.length < MANY / 10) continue
          back = server.kill9().then(() => server.restart())
        }
        await back
        await extractor.close()
        expect(lines).toEqual(numbered(MANY).map(({ value }) => value))
        expect(chunks).toBeGreaterThan(0)
      } finally {
        await server.end()
      }
    },
  )
})
