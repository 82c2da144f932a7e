/** The files of one place as a source: each is a lane, read from where its checkpoint stands. */
import { setTimeout as delay } from 'node:timers/promises'
import type {
  AheadContext,
  Chunk,
  Dataset,
  Extractor,
  ExtractorEnv,
  Gap,
  LanePosition,
  PlannedRange,
  Positions,
  ReadContext,
} from '../../core/contracts.ts'
import type { AdflowError } from '../../core/errors.ts'
import type { LaneSurvey } from '../../core/lane-survey.ts'
import type { SourceWatch } from '../../core/source-watch.ts'
import { ParquetFooters } from '../../records/parquet.ts'
import type { CountAhead } from './count-ahead.ts'
import { interleave } from './interleave.ts'
import { type FileLane, type KnownLane, type Resolution, resolveLanes } from './lanes.ts'
import type { FilePlace, Found } from './place.ts'
import { gapOf, isSourceFault, readLane } from './read-file.ts'
import type { LaneTask, ReadingOptions } from './reading.ts'
import type { FileSetOptions } from './reading-options.ts'
import { surveyed } from './survey.ts'
import { knownLanes, lossOf, taskOf, taskUntil } from './tasks.ts'

export interface FileSetSource {
  readonly place: FilePlace
  readonly dataset: Dataset
  /** As access() names them: what appears later is out of the engine's reach. */
  readonly folders: readonly string[]
  /** What is looked for; gaps go by these where nothing matches. */
  readonly patterns: readonly string[]
  /** Where counts can be begun before the run is open. */
  readonly ahead?: CountAhead
}

export class FileSet implements Extractor {
  readonly replayable = true
  readonly #options: FileSetOptions
  readonly #env: ExtractorEnv
  readonly #source: FileSetSource
  readonly #footers = new ParquetFooters()
  readonly #toldGaps = new Set<string>()
  /** As the checkpoint has them: what was handed out in this run may still get lost. */
  #durable: Positions = {}

  constructor(options: FileSetOptions, env: ExtractorEnv, source: FileSetSource) {
    this.#options = options
    this.#env = env
    this.#source = source
  }

  dataset(): Dataset {
    return this.#source.dataset
  }

  ahead({ from, planned, ...limits }: AheadContext): void {
    // What was planned before a crash is asked of the stores first.
    if (planned.length > 0) return
    const { chunkDir } = this.#env
    const { folders } = this.#source
    const integers = limits.integers ?? []
    this.#source.ahead?.begin({ ...this.#choices, ...limits, integers, chunkDir, folders, known: knownLanes(from, []) })
  }

  async *read(context: ReadContext): AsyncGenerator<Chunk | Gap> {
    if (context.wholeBytes === undefined) await this.#source.ahead?.stop()
    const positions = new Map(Object.entries(context.from))
    let planned = context.planned
    this.#durable = context.from
    this.#source.place.watch = context.watch
    while (!context.signal.aborted) {
      const lookedMs = Date.now()
      let empty = true
      for await (const item of this.#pass(context, positions, planned)) {
        empty = false
        if ('gap' in item && !this.#isNews(item, context)) continue
        if (!('gap' in item)) positions.set(item.range.lane, positionAfter(item))
        yield item
      }
      if (context.until !== 'forever') return
      if (empty) context.watch?.empty?.(lookedMs)
      planned = []
      await delay(this.#options.poll, undefined, { signal: context.signal }).catch(() => undefined) // aborted: the loop ends
    }
  }

  async survey(from: Positions, modified?: ReadContext['modified']): Promise<readonly LaneSurvey[]> {
    const { place } = this.#source
    const known = knownLanes(from, [])
    const found = await place.discover(modified === undefined ? known : [])
    const { lanes, missing } = await resolveLanes(place, found, known)
    const gone = missing.filter(({ lane, mark }) => mark?.ended !== true && !isTold(mark?.path ?? lane, found))
    return [
      ...lanes
        .filter((lane) => (modified === undefined ? this.#isWanted(lane, modified) : wasModified(lane, modified)))
        .map(surveyed),
      ...(modified === undefined ? gone : []).map(({ lane, at, mark }) => {
        const origin = place.nameOf(mark?.path ?? lane)
        return { lane, origin, at: String(at), bytesLeft: 0, state: 'missing' }
      }),
    ]
  }

  async commit(positions: Positions): Promise<void> {
    this.#durable = positions
  }

  async close(): Promise<void> {
    await this.#source.ahead?.stop()
    await this.#footers.close()
    await this.#source.place.close()
  }

  /** Everything that is there now, once. */
  async *#pass(
    context: ReadContext,
    positions: ReadonlyMap<string, LanePosition>,
    planned: readonly PlannedRange[],
  ): AsyncGenerator<Chunk | Gap> {
    const { place } = this.#source
    const known = knownLanes(Object.fromEntries(positions), planned)
    // What is asked for by its place may lie before all that is new.
    const past = planned.length > 0 || typeof context.until === 'object'
    const found = await this.#found(known, past ? [] : knownLanes(this.#durable, []), context)
    if ('gap' in found) {
      yield found
      return
    }
    for (const { path, origin, code, message } of found.problems)
      yield { gap: { lane: path, from: positions.get(path)?.at ?? '0' }, origin, code, message }
    const { lanes, missing } = found
    for (const lane of missing.filter(({ lane, mark }) => !isTold(mark?.path ?? lane, found))) {
      const absolute = place.nameOf(lane.mark?.path ?? lane.lane)
      const task = taskOf({ ...lane, file: { absolute } }, planned)
      const loss = lossOf(lane, absolute, known, task.planned)
      if (loss !== undefined) yield gapOf(task, task.at, loss)
    }
    this.#tellEnded(context, found, lanes)
    this.#warnOfNewBytes(lanes)
    const tasks = lanes
      .map((lane) => taskOf(lane, planned))
      .filter((task) => task.planned.length > 0 || this.#isWanted(task, context.modified))
      .flatMap((task) => taskUntil(task, context.until))
    place.expect?.(tasks.map(({ file }) => file))
    const reading = this.#reading(context, found.floor)
    const begun = { lanes: 0 }
    yield* interleave(this.#lanes(tasks, reading, begun), context.parallel, context.signal, async (item) => {
      if (!('gap' in item)) await item.release()
    })
    if (place.outage !== undefined && begun.lanes < tasks.length)
      yield this.#wholeGap(place.outage, ` (${tasks.length - begun.lanes} files were not begun)`)
  }

  /** Of what is not read now, because it was read to its end, or is no file. What could not be looked at has a gap of its own. */
  #tellEnded({ watch }: ReadContext, found: Found, lanes: readonly FileLane[]): void {
    if (watch === undefined) return
    const told = ['*', this.#source.dataset.name, ...this.#source.patterns].filter((name) => !isTold(name, found))
    const read = lanes.filter(({ state }) => state === 'done').map(({ lane }) => lane)
    for (const lane of [...told, ...read]) this.#ended(watch, lane)
  }

  /** It has no gap: the same one later is another. */
  #ended(watch: SourceWatch | undefined, lane: string): void {
    for (const news of [...this.#toldGaps]) if ((JSON.parse(news) as [string])[0] === lane) this.#toldGaps.delete(news)
    watch?.ended(lane)
  }

  /** While the place answers: thousands of files need not fail one by one. */
  *#lanes(
    tasks: readonly LaneTask[],
    reading: ReadingOptions,
    begun: { lanes: number },
  ): Generator<() => AsyncIterable<Chunk | Gap>> {
    for (const task of tasks) {
      if (this.#source.place.outage !== undefined) return
      begun.lanes += 1
      yield () => readLane(task, reading)
    }
  }

  /** A place that cannot be looked into is one gap, however many lanes are known of it. */
  async #found(
    known: readonly KnownLane[],
    durable: readonly KnownLane[],
    { signal }: ReadContext,
  ): Promise<(Found & Resolution) | Gap> {
    const { place } = this.#source
    try {
      const found = await place.discover(durable, signal)
      const { lanes, missing } = await resolveLanes(place, found, known)
      return { ...found, lanes, missing }
    } catch (error) {
      if (!isSourceFault(error)) throw error
      return this.#wholeGap(error)
    }
  }

  #wholeGap(error: AdflowError, more = ''): Gap {
    const { place, dataset } = this.#source
    const gap = gapOf({ lane: dataset.name, planned: [], file: { absolute: place.nameOf('') } }, 0, error)
    return { ...gap, message: `${gap.message}${more}` }
  }

  #isWanted(lane: FileLane, modified: ReadContext['modified']): boolean {
    const { file, at, state } = lane
    if (!wasModified(lane, modified)) return false
    const oldest = this.#options.ignore_older_than
    return oldest === undefined || at > 0 || state === 'continue' || file.facts.modifiedMs >= Date.now() - oldest
  }

  #warnOfNewBytes(lanes: readonly FileLane[]): void {
    for (const { lane, file, state } of lanes)
      if (state === 'rotated' || state === 'truncated' || state === 'replaced')
        this.#env.log.warn(
          { source: this.#env.id, lane, file: file.absolute, state },
          `${file.path} was ${state} since it was last read: what it holds now is read from its start, as lane ${lane}`,
        )
  }

  get #choices(): Pick<ReadingOptions, 'format' | 'compression' | 'settleMs' | 'unterminated'> {
    const { format, compression, settle, unterminated } = this.#options
    return { format: format === 'auto' ? undefined : format, compression, settleMs: settle, unterminated }
  }

  #reading(context: ReadContext, floor: string | undefined): ReadingOptions {
    const { csv, max_ratio } = this.#options
    return {
      place: this.#source.place,
      ...this.#choices,
      csv,
      maxRatio: max_ratio,
      chunkDir: this.#env.chunkDir,
      folders: this.#source.folders,
      chunkBytes: context.chunkBytes,
      wholeBytes: context.wholeBytes?.bind(context),
      ahead: this.#source.ahead,
      maxRecordBytes: context.maxRecordBytes,
      integers: context.integers ?? [],
      keepLines: context.keepLines === true,
      signal: context.signal,
      ended: (lane) => this.#ended(context.watch, lane),
      footers: this.#footers,
      floor,
    }
  }

  /** A job that runs for ever looks again and again: each gap is told once, until it changes. */
  #isNews({ gap, code, message }: Gap, context: ReadContext): boolean {
    const key = JSON.stringify([gap.lane, gap.from, code, message])
    if (context.until === 'forever' && this.#toldGaps.has(key)) return false
    this.#toldGaps.add(key)
    return true
  }
}

function wasModified({ file: { facts } }: FileLane, { from, to }: NonNullable<ReadContext['modified']> = {}): boolean {
  return (from === undefined || facts.modifiedMs >= from) && (to === undefined || facts.modifiedMs < to)
}

/** What is wrong with the file, or with a folder around it, was said; or it is there and waits. */
function isTold(path: string, { problems, waiting = [] }: Found): boolean {
  return waiting.includes(path) || problems.some((found) => path === found.path || path.startsWith(`${found.path}/`))
}

function positionAfter({ range, mark }: Chunk): LanePosition {
  return { at: range.to, ...(mark === undefined ? {} : { mark }) }
}
