import { appendFile, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { crc32 } from 'node:zlib'
import pino from 'pino'
import { afterAll, beforeEach, describe, expect, it } from 'vitest'
import type { FetchTask } from '../../../src/clients/staging/fetcher.ts'
import { stagingOptions } from '../../../src/clients/staging/options.ts'
import { laneFolder } from '../../../src/clients/staging/segment.ts'
import { stagedExtractor, stagedIn } from '../../../src/clients/staging/staged-extractor.ts'
import type { Chunk, Gap, LanePosition, Positions, ReadContext } from '../../../src/core/contracts.ts'
import { AdflowError } from '../../../src/core/errors.ts'
import { PagedSource } from '../../conformance/fixtures/staged.ts'

const root = await mkdtemp(join(tmpdir(), 'adflow-staging-'))
let cases = 0
let stageDir: string
let source: PagedSource
let warnings: string[]

const records = (from: number, count: number) =>
  Array.from({ length: count }, (_, n) => `{"id":${String(from + n).padStart(4, '0')}}`)
const RECORD_BYTES = '{"id":0000}\n'.length

beforeEach(() => {
  cases += 1
  stageDir = join(root, String(cases))
  warnings = []
  source = new PagedSource({ l: records(0, 100) }, 10)
})
afterAll(() => rm(root, { recursive: true, force: true }))

function extractor(staging: object = {}) {
  const definition = source.definition
  const log = pino({ level: 'warn' }, { write: (line: string) => warnings.push(JSON.parse(line).msg) })
  const env = { id: 's', job: 'j', baseDir: root, chunkDir: root, stageDir, log }
  return definition.create(definition.options.parse({ staging }), env)
}

interface Result {
  readonly ids: string[]
  readonly gaps: Gap[]
  readonly positions: Positions
  readonly ranges: Chunk['range'][]
}

/** A run as the runtime does it: each chunk is acknowledged, and committed with the positions before it. */
async function run(
  context: Partial<ReadContext> = {},
  { staging = {}, each = () => undefined }: { staging?: object; each?: (chunk: Chunk) => unknown } = {},
): Promise<Result> {
  const read = extractor(staging)
  const result = { ids: [] as string[], gaps: [] as Gap[], ranges: [] as Chunk['range'][] }
  let positions: Positions = context.from ?? {}
  const signal = new AbortController().signal
  const limits = { chunkBytes: 20 * RECORD_BYTES, maxRecordBytes: 1000, parallel: 2 }
  for await (const item of read.read({ from: {}, planned: [], until: 'now', signal, ...limits, ...context })) {
    if ('gap' in item) {
      result.gaps.push(item)
      continue
    }
    const text = await readFile(item.file, 'utf8')
    result.ids.push(...[...text.matchAll(/\d+/g)].map(([id]) => id))
    result.ranges.push(item.range)
    await each(item)
    const before = positions
    const position: LanePosition = { at: item.range.to, ...(item.mark === undefined ? {} : { mark: item.mark }) }
    positions = { ...positions, [item.range.lane]: position }
    await read.commit?.(positions, before)
    await item.release()
  }
  await read.close()
  return { ...result, positions }
}

const all = (count: number) => Array.from({ length: count }, (_, n) => String(n).padStart(4, '0'))
const staged = async () => (await stagedIn(stageDir)).flat().map(({ from, to }) => [from, to])

/** The source is asked on while a chunk is in work: until there is more than that. */
async function onceAhead(): Promise<void> {
  while ((await staged()).length < 2) await delay(1)
}

describe('a staged source', () => {
  it('asks the source once for what it gave, and goes on after it', async () => {
    const first = await run()
    expect(first.ids).toEqual(all(100))
    source.lanes['l']?.push(...records(100, 15))
    const second = await run({ from: first.positions })
    expect([...first.ids, ...second.ids]).toEqual(all(115))
    expect(source.asked).toEqual(['l from the beginning', 'l 100'])
  })

  it('waits only so long for a source to take note of what is loaded, and tells it again', async () => {
    const told: string[] = []
    const deaf = {
      dataset: () => ({ namespace: 'test', name: 'deaf' }),
      lanes: async () => [{ lane: 'l', origin: 'deaf' }],
      fetch: async ({ sink }: FetchTask) => {
        await sink.write(Buffer.from('{"id":1}\n'))
        await sink.page('1')
      },
      confirm: (lane: string, cursor: string) => {
        told.push(`${lane} ${cursor}`)
        return new Promise<void>(() => undefined)
      },
    }
    const log = pino({ level: 'warn' }, { write: (line: string) => warnings.push(JSON.parse(line).msg) })
    const env = { id: 's', job: 'j', baseDir: root, chunkDir: root, stageDir, log }
    const options = { staging: stagingOptions.parse({}), pollMs: 10, confirmMs: 20 }
    const read = stagedExtractor(deaf, env, options)
    const limits = { chunkBytes: 1000, maxRecordBytes: 1000, parallel: 1 }
    const { signal } = new AbortController()
    for await (const item of read.read({ from: {}, planned: [], until: 'now', signal, ...limits })) {
      if ('gap' in item) throw new Error(item.message)
      const positions = { l: { at: item.range.to } }
      await read.commit?.(positions, positions)
      await read.commit?.(positions, positions)
      await item.release()
    }
    expect(told).toEqual(['l 1', 'l 1'])
    expect(warnings).toEqual(Array(2).fill(expect.stringMatching(/^l did not take note within 0.02 s/)))
  })

  it('keeps what the checkpoint before still needs, and nothing older', async () => {
    await run()
    const size = 20 * RECORD_BYTES
    expect(await staged()).toEqual([[4 * size, 5 * size]])
  })

  it('goes on behind what was removed, when nothing is left', async () => {
    const read = extractor()
    const ranges: string[] = []
    const limits = { chunkBytes: 20 * RECORD_BYTES, maxRecordBytes: 1000, parallel: 1 }
    const signal = new AbortController().signal
    for await (const item of read.read({ from: {}, planned: [], until: 'now', signal, ...limits })) {
      if ('gap' in item) throw new Error(item.message)
      ranges.push(`${item.range.from}-${item.range.to}`)
      const positions = { l: { at: item.range.to } }
      await item.release()
      await read.commit?.(positions, positions)
    }
    await read.close()
    const size = 20 * RECORD_BYTES
    expect(ranges).toEqual([0, 1, 2, 3, 4].map((n) => `${n * size}-${(n + 1) * size}`))
    expect(await staged()).toEqual([])
  })

  it('gives the bytes again that a checkpoint of the generation before lacks, without asking for them', async () => {
    let before: Positions = {}
    let last: Positions = {}
    await run({}, { each: ({ range, mark = '' }) => ([before, last] = [last, { l: { at: range.to, mark } }]) })
    source.asked.length = 0
    const again = await run({ from: before })
    expect(again.ids).toEqual(all(100).slice(80))
    expect(source.asked).toEqual(['l 100'])
  })

  it('goes on by the cursor of the checkpoint where the folder is lost', async () => {
    const first = await run()
    await rm(stageDir, { recursive: true })
    source.lanes['l']?.push(...records(100, 3))
    const second = await run({ from: first.positions })
    expect(second).toMatchObject({ ids: ['0100', '0101', '0102'], gaps: [] })
    expect(second.ranges[0]?.from).toBe(first.positions['l']?.at)
  })

  it('says what is gone where the folder is lost with a planned range in it', async () => {
    const half = await run(
      {},
      { each: ({ range }) => range.from === '0' || Promise.reject(new Error('killed')) },
    ).catch(() => undefined)
    expect(half).toBeUndefined()
    const [first = [0, 0], second = [0, 0]] = await staged()
    await rm(stageDir, { recursive: true })
    const planned = [{ lane: 'l', from: String(second[0]), to: String(second[1]) }]
    const { gaps, ids } = await run({ from: { l: { at: String(first[1]) } }, planned })
    expect(ids).toEqual([])
    expect(gaps).toMatchObject([{ code: 'SOURCE_CHANGED', gap: { lane: 'l', from: String(first[1]) } }])
    expect(gaps[0]?.message).toContain('state rewind --reload')
  })

  it('says so where nobody knows the cursor of a position', async () => {
    const { gaps } = await run({ from: { l: { at: '77' } } })
    expect(gaps).toMatchObject([{ code: 'SOURCE_CHANGED', message: expect.stringContaining('nobody knows where l') }])
  })

  it.each([
    ['bytes are flipped', async (path: string) => writeFile(path, (await readFile(path, 'utf8')).replace('2', '3'))],
    ['bytes are missing', async (path: string) => writeFile(path, (await readFile(path)).subarray(0, 50))],
    ['bytes were added', async (path: string) => appendFile(path, '{"id":9999}\n')],
    ['the file is gone', (path: string) => rm(path)],
    ['its description is torn', (path: string) => writeFile(path.replace('ndjson', 'json'), '{"v":1,')],
  ])('fetches a segment again of which %s, and what came after it', async (_, damage) => {
    const stop = new AbortController()
    await run({ signal: stop.signal }, { each: () => onceAhead().then(() => stop.abort()) })
    const before = await staged()
    expect(before.length).toBeGreaterThan(1)
    const folder = laneFolder(stageDir, 'l')
    const from = String(before[1]?.[0]).padStart(16, '0')
    await damage(join(folder, `${from}.ndjson`))
    const { ids, gaps } = await run()
    expect({ ids, gaps }).toEqual({ ids: all(100), gaps: [] })
    expect(warnings.join()).toContain('put aside')
    expect((await readdir(folder)).some((name) => name.endsWith('.aside'))).toBe(true)
  })

  it('hands over a segment that was counted while it was written, and notices when its bytes are others by then', async () => {
    const { ids, ranges } = await run(
      {},
      {
        each: async (chunk) => {
          expect([chunk.records, chunk.digest]).toEqual([
            20,
            `crc32:${crc32(await readFile(chunk.file))
              .toString(16)
              .padStart(8, '0')}`,
          ])
          await expect(chunk.verify?.()).resolves.toBeUndefined()
          const bytes = await readFile(chunk.file)
          await writeFile(chunk.file, Buffer.from(bytes).fill(32, 0, 1))
          await expect(chunk.verify?.()).rejects.toMatchObject({ code: 'SOURCE_CHANGED' })
        },
      },
    )
    expect([ids.length, ranges.length]).toEqual([100, 5])
  })

  it('keeps whole pages of a source that fails, and forgets the page that broke off', async () => {
    source.before = (_, index) => {
      if (index === 50) throw new AdflowError('SOURCE_UNREADABLE', 'the test broke the connection')
    }
    const first = await run()
    expect(first).toMatchObject({ ids: all(50), gaps: [{ code: 'SOURCE_UNREADABLE' }] })
    source.before = () => undefined
    const second = await run({ from: first.positions })
    expect([...first.ids, ...second.ids]).toEqual(all(100))
    expect(source.asked).toEqual(['l from the beginning', 'l 50'])
  })

  it('reads other lanes where one fails', async () => {
    source.lanes['m'] = records(0, 30)
    source.before = (lane) => {
      if (lane === 'l') throw new AdflowError('SOURCE_UNREADABLE', 'the test broke the connection')
    }
    expect(await run()).toMatchObject({ ids: all(30), gaps: [{ gap: { lane: 'l', from: '0' } }] })
  })

  it('fetches the next segment while the engine works on the last one, and no more', async () => {
    source = new PagedSource({ l: records(0, 1000) }, 10)
    let most = 0
    await run(
      {},
      {
        each: async ({ range }) => {
          await delay(5)
          const ahead = (await staged()).filter(([from = 0]) => from >= Number(range.to)).length
          most = Math.max(most, ahead)
        },
      },
    )
    expect(most).toBeGreaterThan(0)
    expect(most).toBeLessThanOrEqual(2)
  })

  it('waits for room, and gives what fits', async () => {
    const { ids, gaps } = await run({}, { staging: { max_bytes: `${30 * RECORD_BYTES}B` }, each: () => delay(2) })
    expect({ ids, gaps }).toEqual({ ids: all(100), gaps: [] })
  })

  it('says so where one page has no room', async () => {
    source = new PagedSource({ l: records(0, 100) }, 100)
    const { ids, gaps } = await run({}, { staging: { max_bytes: `${30 * RECORD_BYTES}B` } })
    expect({ ids, gaps }).toMatchObject({ ids: [], gaps: [{ code: 'STAGE_FULL' }] })
    expect(await staged()).toEqual([])
  })

  it('ends after its time, and keeps what came until then', async () => {
    source.before = (_, index) => (index === 50 ? delay(60_000) : undefined)
    const hang = source.fetch.bind(source)
    source.fetch = async (task) => {
      const { promise, reject } = Promise.withResolvers<never>()
      task.signal.addEventListener('abort', () => reject(task.signal.reason), { once: true })
      await Promise.race([hang(task), promise])
    }
    const { ids, gaps } = await run({}, { staging: { timeout: '300ms' } })
    expect(ids).toEqual(all(50))
    expect(gaps).toMatchObject([{ code: 'SOURCE_TIMEOUT', message: expect.stringContaining('after 300ms') }])
  })

  it('remembers a cursor that went on without bytes, and pages after it', async () => {
    const first = await run()
    const page = source.fetch
    source.fetch = async ({ sink }) => sink.page('new, and nothing in it')
    expect((await run({ from: first.positions })).ids).toEqual([])
    source.fetch = async (task) => {
      source.asked.push(task.cursor ?? '')
      await page.call(source, { ...task, cursor: '90' })
    }
    const third = await run({ from: first.positions })
    expect(source.asked).toContain('new, and nothing in it')
    expect(third.ids).toEqual(all(100).slice(90))
    expect(third.ranges[0]?.from).toBe(first.positions['l']?.at)
  })

  it('starts anew, and keeps what was staged aside, where the lane was put back to its beginning', async () => {
    await run()
    const again = await run()
    expect(again.ids).toEqual(all(100))
    expect(warnings.join()).toContain('put aside')
  })

  it('does not ask the source for ranges of the past, and says that they are gone', async () => {
    const { ranges } = await run()
    source.asked.length = 0
    const before = await staged()
    const { gaps, ids } = await run({ planned: ranges.slice(0, 1), until: {} })
    expect({ ids, asked: source.asked, staged: await staged() }).toEqual({ ids: [], asked: [], staged: before })
    expect(gaps).toMatchObject([{ code: 'SOURCE_CHANGED' }])
  })

  it('reads what is staged of a lane that the source does not name any more', async () => {
    const stop = new AbortController()
    const first = await run({ signal: stop.signal }, { each: () => onceAhead().then(() => stop.abort()) })
    const left = (await staged()).length
    expect(left).toBeGreaterThan(1)
    source.lanes = { other: records(0, 1) }
    const { ids } = await run({ from: first.positions })
    expect(ids).toHaveLength((left - 1) * 20 + 1)
  })

  it('cuts a range again that spans several segments', async () => {
    const stop = new AbortController()
    await run({ signal: stop.signal }, { each: () => onceAhead().then(() => stop.abort()) })
    const to = (await staged()).at(-1)?.[1] ?? 0
    const { ids, ranges } = await run({ planned: [{ lane: 'l', from: '0', to: String(to) }] })
    expect(ranges[0]).toEqual({ lane: 'l', from: '0', to: String(to) })
    expect(ids).toEqual(all(100))
  })
})
