/** What S3, the network and other writers do to whoever reads: real servers, with a relay before them that breaks what it is told to. */
import { gzipSync } from 'node:zlib'
import { DeleteObjectCommand, PutObjectCommand, type S3Client } from '@aws-sdk/client-s3'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import s3 from '../../src/extractors/s3.ts'
import type { RunSummary } from '../../src/runtime/summary.ts'
import { temporaryFolder } from '../harness/cli.ts'
import { diagnosed, statuses } from '../harness/diagnosis.ts'
import { type FileRunOptions, readOnce } from '../harness/file-source.ts'
import { relayTo } from '../harness/http-relay.ts'
import { S3_SERVERS, type S3Endpoint } from '../harness/servers/core/s3.ts'
import { type Fresh, freshBucket, freshName } from '../harness/servers/fresh.ts'
import { s3Client } from '../harness/servers/s3-client.ts'
import { serverSuite } from '../harness/servers/suite.ts'
import { SmallJob } from '../harness/small-job.ts'

const lines = (from: number, to: number) =>
  Array.from({ length: to - from }, (_, n) => `{"id":${from + n},"name":"name ${from + n}"}\n`).join('')
/** About 470 kB: eight ranges. */
const LARGE = lines(0, 15_000)

for (const server of S3_SERVERS)
  await serverSuite(`the extractor of S3, by ${server}`, [server], (servers) => {
    const endpoint: S3Endpoint = servers[server]
    let bucket: Fresh
    let client: S3Client
    let folder: ReturnType<typeof temporaryFolder>
    let prefix: string
    beforeAll(async () => {
      bucket = await freshBucket(endpoint)
      client = s3Client(endpoint)
    })
    afterAll(async () => {
      client.destroy()
      await bucket.remove()
    })
    beforeEach(() => {
      folder = temporaryFolder('s3-source')
      prefix = freshName()
    })
    afterEach(() => folder.remove())

    const put = (key: string, body: string | Buffer) =>
      client.send(new PutObjectCommand({ Bucket: bucket.name, Key: `${prefix}/${key}`, Body: body }))
    const remove = (key: string) =>
      client.send(new DeleteObjectCommand({ Bucket: bucket.name, Key: `${prefix}/${key}` }))
    const place = (options: object = {}) => ({
      bucket: bucket.name,
      prefix,
      endpoint: endpoint.url,
      access_key_id: endpoint.accessKeyId,
      secret_access_key: endpoint.secretAccessKey,
      range: '64KiB',
      timeout: '5s',
      retry: { attempts: 3, initial: '10ms', max: '50ms' },
      ...options,
    })
    const run = (options: object = {}, read: FileRunOptions = {}) => readOnce(s3, place(options), folder.path, read)
    const codes = ({ gaps }: Awaited<ReturnType<typeof run>>) =>
      Object.fromEntries(gaps.map(({ gap, code }) => [gap.lane, code]))

    describe('an object', () => {
      it('is read by ranges under its ETag, on from the position; a range that breaks off is asked for again, alone', async () => {
        await put('large.ndjson', LARGE)
        let broken = 0
        await using relay = await relayTo(endpoint.url, ({ headers }) => {
          const breaks = headers['range'] === 'bytes=131072-196607' && broken < 2
          broken += breaks ? 1 : 0
          return breaks ? 'lose' : undefined
        })
        const options = { endpoint: relay.url }
        const gets = () => relay.asked.filter(({ path }) => path.includes('large.ndjson'))
        const first = await run(options, { chunkBytes: 200_000 })
        expect(first).toMatchObject({ lanes: { 'large.ndjson': LARGE }, gaps: [] })
        expect(broken).toBe(2)
        expect(gets().every(({ headers }) => /^".+"$/.test(String(headers['if-match'])))).toBe(true)
        const ranges = gets().map(({ headers }) => headers['range'])
        expect(ranges.filter((range) => range === 'bytes=131072-196607').length).toBe(3)
        expect(new Set(ranges).size).toBe(ranges.length - 2)
        const before = gets().length
        const [one] = first.ranges
        const rest = await run(options, { from: { 'large.ndjson': { at: one?.to ?? '', mark: one?.mark ?? '' } } })
        expect(`${LARGE.slice(0, Number(one?.to))}${rest.lanes['large.ndjson']}`).toBe(LARGE)
        expect(gets().length - before).toBeLessThan(before - 2)
        const requests = relay.asked.length
        expect(await run(options, { from: rest.positions })).toMatchObject({ lanes: {}, gaps: [] })
        expect(relay.asked.length - requests).toBe(1)
      })

      it('that is replaced while it is read is never mixed: a gap, and the next run has the new one', async () => {
        await put('a.ndjson', LARGE)
        const other = LARGE.replaceAll('name', 'NAME')
        let replaced = false
        const first = await run(
          {},
          {
            chunkBytes: 50_000,
            between: async () => {
              if (!replaced) await put('a.ndjson', other)
              replaced = true
            },
          },
        )
        expect(codes(first)).toEqual({ 'a.ndjson': 'SOURCE_CHANGED' })
        expect(LARGE.startsWith(first.lanes['a.ndjson'] ?? '?')).toBe(true)
        const second = await run({}, { from: first.positions })
        expect(second.lanes).toEqual({ 'a.ndjson#2': other })
        expect(codes(second)).toEqual({ 'a.ndjson': 'SOURCE_CHANGED' })
        expect(second.warnings).toEqual([expect.stringContaining('was replaced since it was last read')])
        expect(await run({}, { from: second.positions })).toMatchObject({ lanes: {}, gaps: [] })
      })

      it('that was uploaded again as it was is not read again', async () => {
        await put('a.ndjson', lines(0, 3))
        const first = await run()
        await put('a.ndjson', lines(0, 3))
        expect(await run({}, { from: first.positions })).toMatchObject({ lanes: {}, gaps: [] })
      })

      it.for([
        ['is removed between listing and reading', 404, 'NoSuchKey', 'SOURCE_MISSING'],
        ['may not be read', 403, 'AccessDenied', 'SOURCE_DENIED'],
        ['is archived', 403, 'InvalidObjectState', 'SOURCE_UNSUPPORTED'],
        ['cannot be read by the server', 500, 'InternalError', 'SOURCE_UNREADABLE'],
      ] as const)('that %s is a gap and costs no other', async ([, status, name, code]) => {
        for (const key of ['a', 'b', 'c']) await put(`${key}.ndjson`, lines(0, 3))
        const body = `<?xml version="1.0"?><Error><Code>${name}</Code><Message>so it is</Message></Error>`
        await using relay = await relayTo(endpoint.url, ({ path }) =>
          path.includes('b.ndjson') ? { status, body, headers: { 'content-type': 'application/xml' } } : undefined,
        )
        const found = await run({ endpoint: relay.url })
        expect(codes(found)).toEqual({ 'b.ndjson': code })
        expect(found.gaps[0]?.message).toContain(`s3://${bucket.name}/${prefix}/b.ndjson`)
        expect(found.lanes).toEqual({ 'a.ndjson': lines(0, 3), 'c.ndjson': lines(0, 3) })
      })

      it('that is cut off, or expands without end, is a gap and costs no other', async () => {
        await put('good.ndjson.gz', gzipSync(lines(0, 3)))
        await put('cut.ndjson.gz', gzipSync(LARGE).subarray(0, 20_000))
        await put('bomb.ndjson.gz', gzipSync(Buffer.alloc(70 << 20, `${'x'.repeat(1023)}\n`)))
        const found = await run({}, { chunkBytes: 100_000 })
        expect(codes(found)).toEqual({ 'cut.ndjson.gz': 'SOURCE_DAMAGED', 'bomb.ndjson.gz': 'SOURCE_BOMB' })
        expect(found.lanes['good.ndjson.gz']).toBe(lines(0, 3))
        expect(LARGE.startsWith(found.lanes['cut.ndjson.gz'] ?? '?')).toBe(true)
      })
    })

    describe('a listing', () => {
      it('by key begins behind what was read, and never passes a gap', async () => {
        for (const n of [1, 2, 3, 4]) await put(`2026/0${n}.ndjson`, lines(n, n + 1))
        await put('2026/empty.ndjson', '')
        await put('2026/', '')
        await put('_adflow/book.json', '{}')
        let denied = true
        await using relay = await relayTo(endpoint.url, ({ path }) =>
          denied && path.includes('03.ndjson') ? { status: 403 } : undefined,
        )
        const options = { endpoint: relay.url, incremental: 'key' }
        const startedAfter = () =>
          relay.asked
            .filter(({ path }) => path.includes('list-type=2'))
            .map(({ path }) => new URL(path, relay.url).searchParams.get('start-after')?.slice(prefix.length + 1))
        const first = await run(options)
        expect(Object.keys(first.lanes).sort()).toEqual(['2026/01.ndjson', '2026/02.ndjson', '2026/04.ndjson'])
        await put('2026/05.ndjson', lines(5, 6))
        const second = await run(options, { from: first.positions })
        expect([second.lanes, codes(second)]).toEqual([
          { '2026/05.ndjson': lines(5, 6) },
          { '2026/03.ndjson': 'SOURCE_DENIED' },
        ])
        denied = false
        const third = await run(options, { from: second.positions })
        expect(third.lanes).toEqual({ '2026/03.ndjson': lines(3, 4) })
        await put('2026/06.ndjson', lines(6, 7))
        const fourth = await run(options, { from: third.positions })
        const fifth = await run(options, { from: fourth.positions })
        expect([fourth.lanes, fifth.lanes, fifth.gaps]).toEqual([{ '2026/06.ndjson': lines(6, 7) }, {}, []])
        // One run late: the floor of a run is what was durable when it began.
        const floors = [undefined, undefined, '2026/02.ndjson', '2026/02.ndjson', '2026/05.ndjson']
        expect(startedAfter()).toEqual(floors)
        // A lane that was rewound stands behind the floor, and so does a range that a killed run had planned.
        const rewound = await run(options, { from: { ...fourth.positions, '2026/01.ndjson': { at: '0' } } })
        const planned = first.ranges.filter(({ lane }) => lane === '2026/02.ndjson')
        const again = await run(options, { from: fourth.positions, planned })
        expect([rewound.lanes, again.lanes, startedAfter().slice(floors.length)]).toEqual([
          { '2026/01.ndjson': lines(1, 2) },
          { '2026/02.ndjson': lines(2, 3) },
          [undefined, undefined],
        ])
      })

      it('by time passes what is older than what was read, and goes on where reading was cut off', async () => {
        await put('new.ndjson', LARGE)
        const options = { incremental: 'time', lag: '0s' }
        const first = await run(options, { chunkBytes: 100_000 })
        // Its last chunk was never acknowledged.
        const [last, ...before] = first.ranges.toReversed()
        const from = { 'new.ndjson': { at: before[0]?.to ?? '', mark: before[0]?.mark ?? '' } }
        const second = await run(options, { from })
        expect(second.lanes['new.ndjson']).toBe(LARGE.slice(Number(last?.from)))
        const mark = JSON.stringify({
          ...JSON.parse(String(second.positions['new.ndjson']?.mark)),
          floor: `time:${Date.now() + 3_600_000}`,
        })
        await put('older.ndjson', lines(0, 3))
        const third = await run(options, { from: { 'new.ndjson': { at: String(LARGE.length), mark } } })
        expect(third.lanes).toEqual({})
      })

      it('takes what the patterns name, of many pages', async () => {
        await Promise.all(Array.from({ length: 30 }, (_, n) => put(`x/part-${n}.ndjson`, lines(n, n + 1))))
        await put('x/.hidden.ndjson', lines(0, 1))
        await put('x/y/deep.ndjson', lines(0, 1))
        await put('z.ndjson', lines(0, 1))
        const found = await run({ files: 'x/*.ndjson', exclude: '**/part-2*.ndjson' })
        expect(Object.keys(found.lanes).length).toBe(19)
        expect((await run({ files: 'none/**' })).gaps).toMatchObject([{ code: 'SOURCE_MISSING' }])
        expect(await run({ files: 'none/**', allow_empty: true })).toMatchObject({ lanes: {}, gaps: [] })
        expect((await run({ max_files: 3 })).gaps).toMatchObject([{ code: 'SOURCE_UNSUPPORTED' }])
      })

      it('that was removed meanwhile: what was read to its end is no gap, what was read in part is', async () => {
        await put('whole.ndjson', lines(0, 3))
        await put('part.ndjson', LARGE)
        const first = await run({}, { chunkBytes: 50_000 })
        const begun = first.ranges.find(({ lane }) => lane === 'part.ndjson')
        await remove('whole.ndjson')
        await remove('part.ndjson')
        await put('other.ndjson', lines(0, 1))
        const from = { ...first.positions, 'part.ndjson': { at: begun?.to ?? '', mark: begun?.mark ?? '' } }
        const second = await run({}, { from })
        expect([codes(second), Object.keys(second.lanes)]).toEqual([
          { 'part.ndjson': 'SOURCE_CHANGED' },
          ['other.ndjson'],
        ])
      })
    })

    describe('a bucket', () => {
      it.for([
        [{ secret_access_key: 'a wrong one' }, 'SOURCE_DENIED', 77],
        [{ bucket: 'nobody-made-this' }, 'SOURCE_MISSING', 69],
        [{ endpoint: 'http://127.0.0.1:1' }, 'SOURCE_UNREADABLE', 69],
      ] as const)('with %j is one gap, and the doctor says so before', async ([wrong, code, exit]) => {
        const job = new SmallJob(
          folder.path,
          `version: 1
name: rows
extract: { input: ${JSON.stringify({ type: 's3', ...place(wrong) })} }
contract: { columns: { id: { type: bigint, required: true } } }
load: { warehouse: { type: duckdb, path: warehouse.duckdb, table: rows } }
`,
        )
        const result = await job.run()
        expect(result.json<RunSummary>()).toMatchObject({ exit, gaps: [{ source: 'input', code }] })
        expect(result.stdout + result.stderr).not.toContain('a wrong one')
        const check = code === 'SOURCE_MISSING' ? 'target' : 'reachable'
        expect(statuses(await diagnosed(s3, place(wrong)))).toMatchObject({ [check]: `failed ${code}` })
      })

      it('is found in order by the doctor', async () => {
        await put('a.ndjson', lines(0, 3))
        expect(statuses(await diagnosed(s3, place()))).toEqual({
          reachable: 'ok',
          tls: 'ok',
          target: 'ok',
          permission: 'ok',
          clock: 'ok',
        })
      })
    })
  })
