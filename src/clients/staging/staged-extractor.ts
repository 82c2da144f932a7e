/** An Extractor of a source that cannot be read again: bytes are staged durably, and read from there. */
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type {
  Chunk,
  Dataset,
  Extractor,
  ExtractorEnv,
  Gap,
  LanePosition,
  Positions,
  ReadContext,
} from '../../core/contracts.ts'
import { localIoError } from '../../core/errors.ts'
import type { LaneSurvey } from '../../core/lane-survey.ts'
import type { SourceWatch } from '../../core/source-watch.ts'
import { interleave } from '../objects/interleave.ts'
import type { Fetcher, FetchLane } from './fetcher.ts'
import { parseStagedMark } from './mark.ts'
import type { StagingOptions } from './options.ts'
import { orGiveUp } from './or-give-up.ts'
import { gapOf, isFault, type LaneOptions, type LaneWork, readStagedLane } from './read-lane.ts'
import { Room } from './room.ts'
import { laneFolder, type Segment } from './segment.ts'
import { type StagedLane, stagedSegments } from './staged-lane.ts'

/** Of what may be staged a segment is at most this part for each lane that is read at the same time. */
const SEGMENTS = 4
const CONFIRM_MS = 30_000

export interface StagedOptions {
  readonly staging: StagingOptions
  /** How often a job that runs for ever asks again. */
  readonly pollMs: number
  /** How long the source may take to note what is loaded. Default: half a minute. */
  readonly confirmMs?: number
}

export function stagedExtractor(fetcher: Fetcher, env: ExtractorEnv, options: StagedOptions): Extractor {
  return new StagedExtractor(fetcher, env, options)
}

class StagedExtractor implements Extractor {
  readonly replayable = false
  readonly #fetcher: Fetcher
  readonly #env: ExtractorEnv
  readonly #options: StagedOptions
  readonly #room: Room
  readonly #lanes = new Map<string, StagedLane>()
  /** Where lanes stand in the checkpoint. */
  readonly #loaded = new Map<string, number>()
  /** Only a run that goes on from the checkpoint may say what is needed no longer. */
  #mayRemove = false

  constructor(fetcher: Fetcher, env: ExtractorEnv, options: StagedOptions) {
    this.#fetcher = fetcher
    this.#env = env
    this.#options = options
    this.#room = new Room(env.id, options.staging.max_bytes)
  }

  dataset(): Dataset {
    return this.#fetcher.dataset()
  }

  async *read(context: ReadContext): AsyncGenerator<Chunk | Gap> {
    const positions = new Map(Object.entries(context.from))
    let { planned } = context
    this.#mayRemove = typeof context.until === 'string'
    this.#loaded.clear()
    for (const [lane, { at }] of positions) this.#loaded.set(lane, Number(at))
    this.#room.listener = context.watch?.staged
    const told = new Set<string>()
    const watch = context.watch && forgetful(context.watch, told)
    for (;;) {
      const lookedMs = Date.now()
      let empty = true
      for await (const item of this.#pass({ ...context, planned, ...(watch && { watch }) }, positions)) {
        empty = false
        if ('gap' in item) {
          const news = JSON.stringify([item.gap, item.code, item.message])
          if (told.has(news)) continue
          told.add(news)
        } else positions.set(item.range.lane, positionAfter(item))
        yield item
      }
      if (context.until !== 'forever' || context.signal.aborted) return
      if (empty) context.watch?.empty?.(lookedMs)
      planned = []
      await delay(this.#options.pollMs, undefined, { signal: context.signal }).catch(() => undefined) // aborted: the loop ends
    }
  }

  async survey(from: Positions, modified?: ReadContext['modified']): Promise<readonly LaneSurvey[]> {
    if (modified !== undefined) return [] // what was modified when, no source of this kind can tell
    const lanes = await this.#fetcher.lanes(new AbortController().signal)
    const all = [...lanes, ...(await this.#others(lanes, Object.keys(from)))]
    return Promise.all(all.map((lane) => this.#surveyed(lane, from[lane.lane])))
  }

  async commit(positions: Positions, kept: Positions = {}): Promise<void> {
    if (!this.#mayRemove) return
    for (const [name, { at, mark }] of Object.entries(positions)) {
      const lane = this.#lanes.get(name)
      // Where nothing else is staged the source may have gone on without bytes.
      const cursor = lane?.end.at === Number(at) ? lane.end.cursor : parseStagedMark(mark)?.cursor
      if (typeof cursor === 'string') await this.#confirm(name, cursor)
      this.#loaded.set(name, Math.max(Number(at), this.#loaded.get(name) ?? 0))
      if (lane === undefined) continue
      this.#room.set(name, Math.max(0, lane.end.at - Number(at)))
      await lane.remove(Math.min(Number(at), Number(kept[name]?.at ?? 0)))
    }
  }

  /** A source that does not listen keeps nobody waiting: what comes before the cursor is told it with a later one. */
  async #confirm(lane: string, cursor: string): Promise<void> {
    const telling = this.#fetcher.confirm?.(lane, cursor)
    if (telling === undefined) return
    const { confirmMs = CONFIRM_MS } = this.#options
    const over = new AbortController()
    const late = delay(confirmMs, 'late' as const, { signal: over.signal }).catch(() => undefined)
    try {
      if ((await Promise.race([telling, late])) !== 'late') return
      telling.catch(() => undefined) // what it comes to later is nobody's
      this.#env.log.warn(
        { source: this.#env.id, lane },
        `${lane} did not take note within ${confirmMs / 1000} s that it is loaded: it is told again with the next batch`,
      )
    } finally {
      over.abort()
    }
  }

  async close(): Promise<void> {
    await this.#fetcher.close?.()
  }

  /** Everything that is there now, once. */
  async *#pass(context: ReadContext, positions: ReadonlyMap<string, LanePosition>): AsyncGenerator<Chunk | Gap> {
    const { planned, until, signal, parallel } = context
    const fetches = typeof until === 'string'
    let lanes: readonly FetchLane[] = []
    try {
      lanes = await this.#lanesNow(context)
      context.watch?.ended('*')
    } catch (error) {
      if (!isFault(error)) throw error
      const { namespace, name } = this.dataset()
      yield gapOf({ lane: '*', origin: `${namespace}/${name}` }, '0', error)
    }
    const known = [...positions.keys(), ...planned.map(({ lane }) => lane)]
    const work = [
      ...lanes.map((lane) => ({ ...lane, fetcher: fetches ? this.#fetcher : undefined })),
      ...(await this.#others(lanes, known)).map((lane) => ({ ...lane, fetcher: undefined })),
    ].map((lane): LaneWork => {
      const end = typeof until === 'string' ? undefined : Number(until[lane.lane]?.at ?? 0)
      return {
        ...lane,
        position: positions.get(lane.lane),
        planned: planned.filter((range) => range.lane === lane.lane),
        until: end,
      }
    })
    const options = this.#laneOptions(context)
    const sources = work.map((lane) => () => readStagedLane(lane, options))
    yield* interleave(sources, parallel, signal, async (item) => {
      if (!('gap' in item)) await item.release()
    })
  }

  async #lanesNow({ signal, watch }: ReadContext): Promise<readonly FetchLane[]> {
    if (watch === undefined) return this.#fetcher.lanes(signal)
    const either = AbortSignal.any([signal, watch.givenUp])
    return orGiveUp(this.#fetcher.lanes(either), either).catch((error: unknown) => {
      throw watch.givenUp.aborted && !signal.aborted ? watch.givenUp.reason : error
    })
  }

  /** Lanes that the source does not name any more, or yet, of which something is staged or known. */
  async #others(lanes: readonly FetchLane[], known: readonly string[]): Promise<FetchLane[]> {
    const named = new Set(lanes.map(({ lane }) => lane))
    const staged = (await stagedIn(this.#env.stageDir)).map(([{ lane } = { lane: '' }]) => lane)
    const others = new Set([...known, ...staged].filter((lane) => !named.has(lane)))
    return [...others].map((lane) => ({ lane, origin: lane }))
  }

  async #surveyed({ lane, origin }: FetchLane, position: LanePosition | undefined): Promise<LaneSurvey> {
    const at = Number(position?.at ?? 0)
    const segments = await stagedSegments(laneFolder(this.#env.stageDir, lane))
    const end = Math.max(at, ...segments.map(({ to }) => to))
    const state = end > at ? 'staged' : position === undefined ? 'new' : 'done'
    return { lane, origin, at: String(at), ...(end > at ? { end: String(end) } : {}), bytesLeft: end - at, state }
  }

  #laneOptions({ chunkBytes, maxRecordBytes, parallel, signal, watch }: ReadContext): LaneOptions {
    const { staging } = this.#options
    return {
      ...{ stageDir: this.#env.stageDir, chunkDir: this.#env.chunkDir, chunkBytes, maxRecordBytes, signal },
      segmentBytes: Math.min(chunkBytes, Math.floor(staging.max_bytes / SEGMENTS / parallel)),
      timeoutMs: staging.timeout,
      watch,
      room: this.#room,
      opened: (lane) => this.#lanes.set(lane.lane, lane),
      loadedAt: (lane) => this.#loaded.get(lane) ?? 0,
      warn: (lane, text) => this.#env.log.warn({ source: this.#env.id, lane }, text),
    }
  }
}

/** Of each lane that has some in the folder of a source. Changes nothing. */
export async function stagedIn(stageDir: string): Promise<readonly (readonly Segment[])[]> {
  const folders = await readdir(stageDir, { withFileTypes: true }).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return []
    throw localIoError(error, `list ${stageDir}`)
  })
  const lanes = folders.filter((entry) => entry.isDirectory()).map(({ name }) => stagedSegments(join(stageDir, name)))
  return (await Promise.all(lanes)).filter((segments) => segments.length > 0)
}

/** A lane that was read to its end has no gap: the same one later is another. */
function forgetful(watch: SourceWatch, told: Set<string>): SourceWatch {
  const ended = (lane: string) => {
    for (const news of [...told]) if ((JSON.parse(news) as [Gap['gap']])[0].lane === lane) told.delete(news)
    watch.ended(lane)
  }
  return { ...watch, ended }
}

function positionAfter({ range, mark }: Chunk): LanePosition {
  return { at: range.to, ...(mark === undefined ? {} : { mark }) }
}
