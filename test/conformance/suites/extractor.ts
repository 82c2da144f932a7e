/**
 * What every extractor must do, executed. A component brings a source with known contents; a deviation has no switch here.
 * docs/component-contract.md says the same in words.
 */
import { mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import pino from 'pino'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { z } from 'zod'
import type {
  Chunk,
  Extractor,
  Gap,
  LanePosition,
  PlannedRange,
  Positions,
  ReadContext,
} from '../../../src/core/contracts.ts'
import type { ExtractorDefinition } from '../../../src/core/definitions.ts'
import { ERROR_CODES } from '../../../src/core/errors.ts'
import type { SourceWatch } from '../../../src/core/source-watch.ts'
import { DyingProcess } from '../../harness/dying-process.ts'

export interface ExtractorFixture {
  /** As in a job file. */
  readonly options: Readonly<Record<string, unknown>>
  readonly baseDir: string
  /** lane → its records in order, as `recordsOf` gives them. At least two lanes of at least twenty records. */
  readonly lanes: Readonly<Record<string, readonly string[]>>
  /** Records of a chunk as text. Default: the lines of its file. */
  recordsOf?(chunk: Chunk): Promise<string[]>
  /** The bytes that locate() counts in, by lane; absent where records have no byte offsets. */
  readonly sources?: Readonly<Record<string, Buffer>>
  /** Chunk sizes that cut the source into several chunks. */
  readonly chunkBytes: { readonly min: number; readonly max: number }
  /** Options under which nothing can be read. */
  readonly broken: Readonly<Record<string, unknown>>
  close(): Promise<void>
}

/** Of the steps at which a process dies every so many-th is tried. */
const DEATHS_APART = process.env['ADFLOW_TEST_LONG'] === '1' ? 1 : 4

type Read = Partial<Pick<ReadContext, 'from' | 'planned' | 'until' | 'chunkBytes' | 'parallel' | 'signal' | 'watch'>>

export function extractorConformance<Options>(
  name: string,
  definition: ExtractorDefinition<Options>,
  makeFixture: () => Promise<ExtractorFixture>,
): void {
  describe(`the extractor ${name}`, () => {
    let fixture: ExtractorFixture
    let folder: string
    let stageDir: string
    let runs = 0
    beforeAll(async () => {
      fixture = await makeFixture()
      folder = await mkdtemp(join(tmpdir(), 'adflow-extractor-'))
    })
    afterAll(async () => {
      await fixture.close()
      await rm(folder, { recursive: true, force: true })
    })

    beforeEach(() => {
      runs += 1
      stageDir = join(folder, `staged-${runs}`)
    })

    /** An extractor as after a start of the process: nothing is remembered, the chunk folder is empty. What is staged is there. */
    const start = async (options = fixture.options): Promise<{ extractor: Extractor; chunkDir: string }> => {
      runs += 1
      const chunkDir = join(folder, String(runs))
      await mkdir(chunkDir)
      const env = {
        id: 'source',
        job: 'job',
        baseDir: fixture.baseDir,
        chunkDir,
        stageDir,
        log: pino({ level: 'silent' }),
      }
      return { extractor: definition.create(definition.options.parse(options), env), chunkDir }
    }
    const context = (read: Read = {}): ReadContext => ({
      from: {},
      planned: [],
      until: 'now',
      chunkBytes: fixture.chunkBytes.max,
      maxRecordBytes: 1 << 20,
      parallel: 2,
      signal: new AbortController().signal,
      ...read,
    })
    const recordsOf = (chunk: Chunk): Promise<string[]> => (fixture.recordsOf ?? linesOf)(chunk)

    interface Seen {
      readonly range: Chunk['range']
      readonly mark: string | undefined
      readonly digest: string
      readonly records: string[]
    }
    const seen = async (chunk: Chunk): Promise<Seen> => {
      const { range, mark, digest } = chunk
      const records = await recordsOf(chunk)
      expect(chunk.records).toBe(records.length)
      expect(chunk.digest).toMatch(/^(?:sha256:[0-9a-f]{64}|crc32:[0-9a-f]{8})$/)
      await chunk.verify?.()
      await chunk.release()
      return { range, mark, digest, records }
    }
    /** Reads with a fresh extractor; `stop` looks at each chunk before the next one is asked for. */
    const readAll = async (read: Read = {}, stop: (chunk: Seen) => boolean = () => false): Promise<Seen[]> => {
      const { extractor, chunkDir } = await start()
      const chunks: Seen[] = []
      for await (const item of extractor.read(context(read))) {
        expect(item).not.toHaveProperty('gap')
        const chunk = await seen(item as Chunk)
        chunks.push(chunk)
        if (stop(chunk)) break
      }
      await extractor.close()
      expect(await readdir(chunkDir)).toEqual([])
      return chunks
    }
    const byLane = (chunks: readonly Seen[]): Record<string, string[]> => {
      const lanes: Record<string, string[]> = {}
      const ends: Record<string, string> = {}
      for (const { range, records } of chunks) {
        expect(range.from).toBe(ends[range.lane] ?? '0')
        expect(BigInt(range.to)).toBeGreaterThan(BigInt(range.from))
        ends[range.lane] = range.to
        lanes[range.lane] = [...(lanes[range.lane] ?? []), ...records]
      }
      return lanes
    }
    const positionsAfter = (chunks: readonly Seen[], before: Positions = {}): Positions => {
      const positions: Record<string, LanePosition> = { ...before }
      for (const { range, mark } of chunks)
        positions[range.lane] = { at: range.to, ...(mark === undefined ? {} : { mark }) }
      return positions
    }
    const sizes = (): fc.Arbitrary<number> => fc.integer(fixture.chunkBytes)

    it('has an example that its options accept, and describes every option', () => {
      expect(definition.options.safeParse(definition.example).error).toBeUndefined()
      expect(undescribed(z.toJSONSchema(definition.options, { io: 'input', unrepresentable: 'any' }))).toEqual([])
      expect(definition.summary).toMatch(/\.$/)
    })

    it('names its data set', async () => {
      const { extractor } = await start()
      expect(extractor.dataset()).toEqual({ namespace: expect.stringMatching(/./), name: expect.stringMatching(/./) })
      await extractor.close()
    })

    it('reads every record of every lane once and in order, whatever the size of the chunks', async () => {
      await fc.assert(
        fc.asyncProperty(sizes(), fc.integer({ min: 1, max: 3 }), async (chunkBytes, parallel) => {
          expect(byLane(await readAll({ chunkBytes, parallel }))).toEqual(fixture.lanes)
        }),
        { numRuns: 5 },
      )
    })

    it('gives the same edges, bytes and digest for the same range every time', async () => {
      const chunkBytes = fixture.chunkBytes.min
      const order = (chunks: Seen[]) => chunks.map(({ mark: _, ...chunk }) => chunk).sort(byRange)
      expect(order(await readAll({ chunkBytes }))).toEqual(order(await readAll({ chunkBytes, parallel: 1 })))
    })

    it('goes on from any position, each run with chunks of another size', async () => {
      await fc.assert(
        fc.asyncProperty(fc.infiniteStream(sizes()), fc.integer({ min: 1, max: 4 }), async (chunkSizes, perRun) => {
          const chunks: Seen[] = []
          let positions: Positions = {}
          for (const chunkBytes of chunkSizes) {
            let left = perRun
            const read = await readAll({ from: positions, chunkBytes }, () => --left === 0)
            if (read.length === 0) break
            chunks.push(...read)
            positions = positionsAfter(read, positions)
          }
          expect(byLane(chunks)).toEqual(fixture.lanes)
        }),
        { numRuns: 4 },
      )
    })

    it('cuts planned ranges first and exactly again, even without a position, then goes on after them', async () => {
      await fc.assert(
        fc.asyncProperty(sizes(), sizes(), fc.nat(), fc.nat(), async (before, after, start, length) => {
          const first = await readAll({ chunkBytes: before, parallel: 1 })
          const acknowledged = first.slice(0, start % first.length)
          const unacknowledged = first.slice(acknowledged.length, acknowledged.length + 1 + (length % 5))
          const from = positionsAfter(acknowledged)
          const planned: PlannedRange[] = unacknowledged.map(({ range, mark }) => ({
            ...range,
            ...(mark === undefined ? {} : { mark }),
          }))
          const second = await readAll({ from, planned: planned.toReversed(), chunkBytes: after })
          const again = planned.map(({ lane, from, to }) =>
            second.find((chunk) => isRange(chunk.range, lane, from, to)),
          )
          expect(again.map((chunk) => [chunk?.digest, chunk?.records])).toEqual(
            unacknowledged.map((chunk) => [chunk.digest, chunk.records]),
          )
          expect(byLane([...acknowledged, ...second])).toEqual(fixture.lanes)
        }),
        { numRuns: 5 },
      )
    })

    it('has nothing more to give after the end, and says so without reading', async () => {
      const before = await start()
      const there = await before.extractor.survey({})
      expect(there.map((lane) => lane.lane).sort()).toEqual(Object.keys(fixture.lanes).sort())
      // What has to be fetched first has no size yet.
      const least = before.extractor.replayable ? 1 : 0
      for (const lane of there)
        expect(lane).toMatchObject({ at: '0', state: 'new', bytesLeft: expect.toSatisfy((left) => left >= least) })
      await before.extractor.close()
      const from = positionsAfter(await readAll())
      expect(await readAll({ from })).toEqual([])
      const { extractor } = await start()
      for (const lane of await extractor.survey(from)) expect(lane).toMatchObject({ state: 'done', bytesLeft: 0 })
      await extractor.close()
    })

    it('is read to its end once after it died before any of its changes of the disk, whatever was acknowledged', async () => {
      for (let lastStep = 0; ; lastStep += DEATHS_APART) {
        await rm(stageDir, { recursive: true, force: true })
        const { extractor } = await start()
        const dying = new DyingProcess(lastStep)
        const acknowledged: Seen[] = []
        const before: Positions[] = [{}]
        const planned: PlannedRange[] = []
        const lived = await dying.run(async () => {
          for await (const item of extractor.read(context({ chunkBytes: Math.ceil(fixture.chunkBytes.max / 3) }))) {
            if ('gap' in item) break // what could not be read, because the process is dead
            const chunk = item
            planned.push({ ...chunk.range, ...(chunk.mark === undefined ? {} : { mark: chunk.mark }) })
            acknowledged.push(await seen(chunk))
            planned.pop()
            before.push(positionsAfter(acknowledged))
            await extractor.commit?.(before.at(-1) ?? {}, before.at(-2))
          }
        })
        await extractor.close()
        const rest = await readAll({ from: positionsAfter(acknowledged), planned })
        expect(byLane([...acknowledged, ...rest])).toEqual(fixture.lanes)
        if (lived && !dying.dead) break
      }
    })

    it('stops at stated positions', async () => {
      const chunks = await readAll({ chunkBytes: fixture.chunkBytes.min, parallel: 1 })
      const [lane] = Object.keys(fixture.lanes)
      const half = chunks.filter((chunk) => chunk.range.lane === lane).slice(0, 2)
      const until = positionsAfter(half)
      expect(byLane(await readAll({ until }))).toEqual(byLane(half))
    })

    it('cuts no further ahead than the consumer asks', async () => {
      for (const parallel of [1, 2]) {
        const { extractor, chunkDir } = await start()
        const reading = extractor
          .read(context({ chunkBytes: fixture.chunkBytes.min, parallel }))
          [Symbol.asyncIterator]()
        const taken: Chunk[] = []
        for (let n = 0; n < 3; n += 1) {
          const { value } = await reading.next()
          expect(value).not.toHaveProperty('gap')
          await (value as Chunk).release()
          taken.push(value as Chunk)
          await settledFolder(chunkDir)
          expect((await readdir(chunkDir)).length).toBeLessThanOrEqual(parallel + 1)
        }
        await reading.return?.(undefined)
        expect(await readdir(chunkDir)).toEqual([])
        await extractor.close()
      }
    })

    it('ends when it is told to stop, and leaves no file behind', async () => {
      const { extractor, chunkDir } = await start()
      const stop = new AbortController()
      let chunks = 0
      for await (const item of extractor.read(
        context({ chunkBytes: fixture.chunkBytes.min, until: 'forever', signal: stop.signal }),
      )) {
        chunks += 1
        stop.abort()
        if (!('gap' in item)) await item.release()
      }
      expect(chunks).toBe(1)
      await extractor.close()
      expect(await readdir(chunkDir)).toEqual([])
    })

    it('finds records again by their ordinal: their bytes and their place in the source', async () => {
      const { extractor } = await start()
      for await (const item of extractor.read(context({ chunkBytes: fixture.chunkBytes.min }))) {
        const chunk = item as Chunk
        const all = Array.from({ length: chunk.records }, (_, index) => index)
        const places = await chunk.locate(all)
        const raws = await chunk.raw(all)
        expect(places).toHaveLength(chunk.records)
        expect(raws).toHaveLength(chunk.records)
        expect(places.every((place, index) => index === 0 || place.line >= (places[index - 1]?.line ?? 0))).toBe(true)
        const source = fixture.sources?.[chunk.range.lane]
        if (source !== undefined)
          for (const [index, { byteFrom, byteTo, line }] of places.entries()) {
            expect(source.toString('latin1', byteFrom, byteTo)).toBe(raws[index]?.toString('latin1'))
            expect(source.toString('latin1', 0, byteFrom).split('\n')).toHaveLength(line)
          }
        const some = all.filter((ordinal) => ordinal % 3 === 1)
        expect(await chunk.locate(some)).toEqual(some.map((ordinal) => places[ordinal]))
        expect(await chunk.raw(some)).toEqual(some.map((ordinal) => raws[ordinal]))
        await chunk.release()
      }
      await extractor.close()
    })

    it('can be asked twice to release, to commit and to close', async () => {
      const { extractor } = await start()
      const positions: Record<string, LanePosition> = {}
      for await (const item of extractor.read(context())) {
        const { range, release } = item as Chunk
        positions[range.lane] = { at: range.to }
        await release()
        await release()
      }
      await extractor.commit?.(positions)
      await extractor.commit?.(positions)
      await extractor.close()
      await extractor.close()
    })

    it('says which lanes it has read to their end, also where nothing is new, and of none that it has not', async () => {
      const lanes = Object.keys(fixture.lanes).sort()
      const whole = listener()
      const chunks = await readAll({ watch: whole.watch })
      expect([...whole.ended].sort()).toEqual(expect.arrayContaining(['*', ...lanes]))
      const again = listener()
      await readAll({ from: positionsAfter(chunks), watch: again.watch })
      expect([...again.ended].sort()).toEqual(expect.arrayContaining(lanes))
      const cut = listener()
      const [first] = await readAll({ chunkBytes: fixture.chunkBytes.min, watch: cut.watch }, () => true)
      expect(cut.ended).not.toContain(first?.range.lane)
    })

    it('books a gap for what it cannot read instead of failing', async () => {
      const { extractor } = await start(fixture.broken)
      const gaps: Gap[] = []
      const { ended, watch } = listener()
      for await (const item of extractor.read(context({ watch }))) if ('gap' in item) gaps.push(item)
      for (const { gap } of gaps) expect(ended).not.toContain(gap.lane)
      expect(gaps.length).toBeGreaterThan(0)
      for (const { code, message, gap } of gaps) {
        expect(Object.keys(ERROR_CODES)).toContain(code)
        expect(message.length).toBeGreaterThan(20)
        expect(gap.from).toMatch(/^\d+$/)
      }
      await extractor.close()
    })
  })
}

/** A watch without limits, and the lanes that it heard of. */
function listener(): { readonly ended: Set<string>; readonly watch: SourceWatch } {
  const ended = new Set<string>()
  const watch: SourceWatch = {
    silenceMs: Number.POSITIVE_INFINITY,
    givenUp: new AbortController().signal,
    moved: () => undefined,
    hold: (work) => work(),
    ended: (lane) => ended.add(lane),
    staged: () => undefined,
  }
  return { ended, watch }
}

function isRange(range: Chunk['range'], lane: string, from: string, to: string): boolean {
  return range.lane === lane && range.from === from && range.to === to
}

function byRange(a: { range: Chunk['range'] }, b: { range: Chunk['range'] }): number {
  return a.range.lane.localeCompare(b.range.lane) || Number(a.range.from) - Number(b.range.from)
}

async function linesOf(chunk: Chunk): Promise<string[]> {
  const text = await readFile(chunk.file, 'latin1')
  return text.split('\n').filter((line) => line.trim() !== '')
}

/** Two turns of the event loop after the last change of the folder: work that was under way has come to rest. */
async function settledFolder(folder: string): Promise<void> {
  let before = ''
  for (;;) {
    for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve))
    const now = (await readdir(folder)).sort().join()
    if (now === before) return
    before = now
  }
}

/** Paths of options without a description. */
function undescribed(schema: unknown, path = ''): string[] {
  if (typeof schema !== 'object' || schema === null) return []
  const { properties, items, anyOf } = schema as {
    properties?: Record<string, { description?: string }>
    items?: unknown
    anyOf?: unknown[]
  }
  return [
    ...Object.entries(properties ?? {}).flatMap(([key, option]) => [
      ...(option.description === undefined ? [`${path}${key}`] : []),
      ...undescribed(option, `${path}${key}.`),
    ]),
    ...[items, ...(anyOf ?? [])].flatMap((inner) => undescribed(inner, path)),
  ]
}
