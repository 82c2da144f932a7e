/** What a backfill has to do: batches that stores have lost, and ranges that no run has read. Nothing is loaded here. */
import type { Logger } from 'pino'
import type { Chunk, Extractor, Positions } from '../core/contracts.ts'
import { AdflowError } from '../core/errors.ts'
import type { Job, JobLoader } from '../core/job/job.ts'
import type { LaneSurvey } from '../core/lane-survey.ts'
import { comparePositions } from '../core/positions.ts'
import type { Registry } from '../core/registry.ts'
import { tokenOf } from '../core/token.ts'
import { openBrowser } from '../runtime/browse.ts'
import type { Checkpoint } from '../runtime/checkpoint-slot.ts'
import { type Checkpoints, openCheckpoints } from '../runtime/checkpoints.ts'
import { type PastBatch, pastBatches } from '../runtime/past-batches.ts'
import { Rerun } from '../runtime/rerun.ts'
import { Spool } from '../runtime/spool.ts'
import type { StateDir } from '../runtime/state-dir.ts'
import type { BackfillItem } from './backfill-file.ts'
import { type Rates, ratesOf } from './backfill-rates.ts'
import { holes, laneOf, type Span } from './lane-ranges.ts'
import { lastLoadings, missingIn, requireThere } from './missing-batches.ts'

export interface Selection {
  /** Source files modified in [from, to), milliseconds since the epoch. */
  readonly modified?: { readonly from?: number; readonly to?: number }
  readonly sources?: readonly string[]
  /** Names of lanes; `*` stands for anything. */
  readonly lanes?: readonly string[]
  /** Stores that are to get what they miss; undefined: all. */
  readonly stores?: readonly string[]
  /** Only what runs have passed: files that no run has begun are left to the next run. */
  readonly missing: boolean
}

export interface PlanOptions {
  readonly job: Job
  readonly registry: Registry
  readonly stateDir: string
  readonly state: StateDir
  readonly log: Logger
  readonly selection: Selection
  /** A store that is gone is loaded anew. */
  readonly recreate: boolean
  /** Only an estimate: ranges that no run has read are not cut. */
  readonly dryRun: boolean
  readonly signal: AbortSignal
}

export interface BackfillPlan {
  readonly items: readonly BackfillItem[]
  /** Ranges of sources that could not be read, and why. */
  readonly unreadable: readonly { source: string; lane: string; from: string; code: string; message: string }[]
  /** Stores that have no place for batches of the past. */
  readonly without: readonly string[]
  readonly rates: Rates
}

/** A range that no run has read. `to` undefined: to the end of the lane. */
interface Unread {
  readonly source: string
  readonly lane: string
  readonly from: string
  readonly to?: string
  readonly mark?: string
  readonly bytes: number
  /** A store has it already under these edges: a backfill was cut off before its books were closed. */
  readonly exact?: true
}

const END = String(Number.MAX_SAFE_INTEGER)

export async function planBackfill(options: PlanOptions): Promise<BackfillPlan> {
  const { job, state, stateDir, registry, log } = options
  const checkpoints = await openCheckpoints(state.path, job.name)
  const browser = await openBrowser(job, stateDir, registry, log, { stores: false })
  let ledger: readonly PastBatch[]
  let rates: Rates
  try {
    ledger = await pastBatches(browser.session)
    rates = await ratesOf(browser.session)
  } finally {
    browser.close()
  }
  if (checkpoints.fresh && ledger.length === 0 && options.selection.missing)
    throw new AdflowError('USAGE', `job ${job.name} has not run yet in ${state.path}: nothing is known to be missing`, {
      hint: 'is --state-dir right? Run the job, or choose files with --from and --to',
    })
  return new Planner(options, checkpoints, ledger, rates).plan()
}

class Planner {
  readonly #options: PlanOptions
  readonly #checkpoint: Checkpoint
  readonly #fresh: boolean
  readonly #ledger: readonly PastBatch[]
  readonly #rates: Rates
  readonly #unreadable: BackfillPlan['unreadable'][number][] = []
  #sequence: bigint

  constructor(options: PlanOptions, { current, fresh }: Checkpoints, ledger: readonly PastBatch[], rates: Rates) {
    this.#options = options
    this.#checkpoint = current
    this.#fresh = fresh
    this.#ledger = ledger
    this.#rates = rates
    this.#sequence = BigInt(current.sequence)
  }

  async plan(): Promise<BackfillPlan> {
    const { job, registry, log } = this.#options
    const stores = this.#stores()
    const past = lastLoadings(this.#ledger)
    for (const config of stores) {
      const { access } = await registry.get('loader', config.type)
      const env = { id: config.id, job: job.name, baseDir: job.baseDir, log }
      const { attach = [], folders = [] } = access?.(config.options, env) ?? {}
      if (!this.#options.recreate) requireThere(config, [...attach.map(({ file }) => file), ...folders], past)
    }
    const { evolved } = this.#checkpoint
    const rerun = await Rerun.open(
      { job, registry, log, outputs: [], readOnly: true, ...(evolved === undefined ? {} : { evolved }) },
      stores,
    )
    try {
      const wanted = await this.#wanted(rerun)
      const { items, without } = await this.#restorable(rerun, past.filter(wanted.has))
      const unread = await this.#unread(rerun, wanted)
      const first = this.#options.dryRun
        ? unread.flatMap((range) => this.#estimated(range))
        : await this.#cut(rerun, unread)
      return { items: [...first, ...items], unreadable: this.#unreadable, without, rates: this.#rates }
    } finally {
      await rerun.close()
    }
  }

  #stores(): readonly JobLoader[] {
    const { job, selection } = this.#options
    const unknown = selection.stores?.find((id) => !job.load.some((config) => config.id === id))
    if (unknown !== undefined)
      throw new AdflowError('USAGE', `the job has no store ${unknown}`, {
        hint: `stores: ${job.load.map(({ id }) => id).join(', ')}`,
      })
    return job.load.filter(({ id }) => selection.stores?.includes(id) !== false)
  }

  /** Lanes that are meant; and those of them that are there now. */
  async #wanted({ workshop }: Rerun): Promise<Wanted> {
    const { sources, lanes, modified } = this.#options.selection
    const patterns = lanes?.map(patternOf)
    const named = ({ source, lane }: { source: string; lane: string }) =>
      sources?.includes(source) !== false && patterns?.some((pattern) => pattern.test(lane)) !== false
    const there = new Map<string, LaneSurvey & { source: string }>()
    for (const { config, extractor } of workshop.extractors) {
      const found = await extractor.survey(this.#checkpoint.sources[config.id] ?? {}, modified ?? {})
      for (const lane of found) {
        const own = { ...lane, source: config.id }
        if (named(own)) there.set(laneOf(own), own)
      }
    }
    const all = [...there.values(), ...this.#ledger]
    if (lanes !== undefined && !all.some(named))
      throw new AdflowError('USAGE', `no lane of the job is called ${lanes.join(' or ')}`, {
        hint: `lanes: ${[...new Set(this.#ledger.map(({ lane }) => lane))].slice(0, 10).join(', ') || 'none that a run has read'}; * stands for anything`,
      })
    const known = new Set(workshop.extractors.map(({ config }) => config.id))
    const has = (range: { source: string; lane: string }) =>
      known.has(range.source) && named(range) && (modified === undefined || there.has(laneOf(range)))
    return { has, there }
  }

  async #restorable(rerun: Rerun, past: readonly PastBatch[]): Promise<{ items: BackfillItem[]; without: string[] }> {
    const { job, state } = this.#options
    const lost = new Map<string, string[]>()
    const without: string[] = []
    for (const { config, loader, unavailable } of rerun.workshop.loaders) {
      // A file that is not there yet has nothing: whether that may be was asked before.
      if (unavailable !== undefined && unavailable.code !== 'STORE_UNAVAILABLE') throw unavailable
      const spool = new Spool(state.spoolOf(config.id))
      await spool.open()
      const owed = new Set(spool.owed.map(({ token }) => token))
      const { session, pipeline } = rerun
      const missing = await missingIn({ config, loader }, past, { job, session, pipeline, owed })
      if (missing === undefined) without.push(config.id)
      for (const token of missing ?? []) lost.set(token, [...(lost.get(token) ?? []), config.id])
    }
    const items = past.flatMap((batch): BackfillItem[] => {
      const stores = lost.get(batch.token)
      if (stores === undefined) return []
      const { source, lane, from, to, mark, markFrom, token, sequence, clock, bytes, read } = batch
      return [
        {
          kind: 'restore',
          source,
          lane,
          from,
          to,
          ...marks(mark, markFrom),
          token,
          sequence,
          clock,
          bytes,
          records: read,
          stores,
        },
      ]
    })
    return { items, without }
  }

  /** Below where lanes stand nothing may be left out; whole lanes only where somebody asks for them. */
  async #unread(rerun: Rerun, { there }: Wanted): Promise<readonly Unread[]> {
    const { missing } = this.#options.selection
    const [ranges, unbooked] = await this.#knownRanges(rerun)
    const known = Map.groupBy(ranges, laneOf)
    const found: Unread[] = []
    for (const { source, lane, end, bytesLeft, at } of there.values()) {
      const position = this.#checkpoint.sources[source]?.[lane]
      for (const { from, to } of unbooked.filter((place) => place.source === source && place.lane === lane))
        if (position === undefined || comparePositions(to, position.at) <= 0)
          found.push({ source, lane, from, to, bytes: Number(BigInt(to) - BigInt(from)), exact: true })
      if (position === undefined && missing) continue
      const own = known.get(laneOf({ source, lane })) ?? []
      const to = position?.at ?? end ?? END
      for (const hole of holes({ from: '0', to }, own)) {
        const mark = this.#ledger.find(
          (batch) => batch.source === source && batch.lane === lane && batch.to === hole.from,
        )?.mark
        const size = hole.to === END ? bytesLeft : Number(BigInt(hole.to) - BigInt(hole.from))
        found.push({
          source,
          lane,
          from: hole.from,
          // Lanes that runs have not begun grow still: they are read to where their records end now.
          ...(position === undefined && hole.to === to ? {} : { to: hole.to }),
          ...(mark === undefined && position?.mark === undefined ? {} : { mark: mark ?? position?.mark ?? '' }),
          bytes: at === '0' || hole.to !== END ? size : bytesLeft,
        })
      }
    }
    return found
  }

  /** Closed in the ledger, under way, or known to a store alone; of the last those that nobody has booked or planned. */
  async #knownRanges({
    workshop,
    session,
  }: Rerun): Promise<readonly [known: readonly Placed[], unbooked: readonly Placed[]]> {
    const { name } = this.#options.job
    const known: Placed[] = [...this.#ledger, ...this.#checkpoint.planned]
    const booked = new Set(known.map(placeOf))
    const unbooked = new Map<string, Placed>()
    for (const { config, loader, unavailable } of workshop.loaders) {
      if (unavailable !== undefined || loader.history === undefined) continue
      for (const { source, range, token } of await loader.history(name, { engine: session })) {
        const place = { source, ...range }
        known.push(place)
        const { input = 'main' } = config
        const parts = { job: name, source, range, epoch: this.#checkpoint.epoch }
        const own = tokenOf(input === 'main' ? parts : { ...parts, output: input })
        if (own === token && !booked.has(placeOf(place))) unbooked.set(placeOf(place), place)
      }
    }
    if (this.#fresh && unbooked.size > 0)
      throw new AdflowError(
        'STATE_MISSING',
        `the stores hold batches of job ${name}, but its state has no checkpoint`,
        {
          hint: 'point --state-dir at the state of this job, or run `adflow recover`; nothing was loaded',
        },
      )
    return [known, [...unbooked.values()]]
  }

  #estimated({ source, lane, from, to = from, bytes }: Unread): BackfillItem[] {
    const length = Math.max(1, Math.ceil(bytes / this.#options.job.resources.chunkBytes))
    const records = Math.round((bytes * this.#rates.recordsPerByte) / length)
    const item = { ...this.#firstItem({ source, lane, from, to }), bytes: Math.round(bytes / length), records }
    return Array.from({ length }, () => item)
  }

  /** Fixes the edges, as a run would: by reading the bytes once. */
  async #cut(rerun: Rerun, unread: readonly Unread[]): Promise<readonly BackfillItem[]> {
    const items: BackfillItem[] = []
    const { chunkBytes, maxRecordBytes, parallel } = this.#options.job.resources
    const { signal } = this.#options
    let left = [...unread]
    while (left.length > 0) {
      // One range of a lane at a time: an extractor reads a lane from one place on.
      const turn = [...Map.groupBy(left, laneOf).values()].flatMap(([range]) => range ?? [])
      left = left.filter((range) => !turn.includes(range))
      for (const { config, extractor } of rerun.workshop.extractors) {
        const own = turn.filter(({ source }) => source === config.id)
        if (own.length === 0) continue
        const from: Positions = Object.fromEntries(
          own.map((range) => [
            range.lane,
            { at: range.from, ...(range.mark === undefined ? {} : { mark: range.mark }) },
          ]),
        )
        const free = own.filter(({ exact }) => exact !== true)
        const until: Positions = Object.fromEntries(free.map(({ lane, to = END }) => [lane, { at: to }]))
        const planned = own.flatMap(({ lane, from: at, to = END, exact }) => (exact ? [{ lane, from: at, to }] : []))
        const context = { from, planned, until, chunkBytes, maxRecordBytes, parallel, signal }
        await this.#read(extractor, config.id, context, own, items)
      }
    }
    return items
  }

  async #read(
    extractor: Extractor,
    source: string,
    context: Parameters<Extractor['read']>[0],
    own: readonly Unread[],
    items: BackfillItem[],
  ): Promise<void> {
    const before = new Map(own.map(({ lane, from, mark }) => [lane, { at: from, mark }]))
    for await (const piece of extractor.read(context)) {
      if ('gap' in piece) {
        const { lane, from } = piece.gap
        if (before.has(lane)) this.#unreadable.push({ source, lane, from, code: piece.code, message: piece.message })
        continue
      }
      const { range, mark, bytes } = piece
      const records = piece.records + piece.refused.length
      const entered = before.get(range.lane)
      const markFrom = entered?.at === range.from ? entered.mark : undefined
      items.push({ ...this.#firstItem({ source, ...range }), ...marks(mark, markFrom), bytes, records })
      before.set(range.lane, { at: range.to, mark })
      await piece.release()
    }
    if (this.#options.signal.aborted)
      throw new AdflowError('INTERRUPTED', 'the backfill was stopped before its plan was made', {
        hint: 'nothing was loaded; run the command again',
      })
  }

  #firstItem({ source, lane, from, to }: Pick<Chunk['range'], 'lane' | 'from' | 'to'> & { source: string }) {
    const { job } = this.#options
    const sequence = String(this.#sequence)
    this.#sequence += 1n
    const { epoch } = this.#checkpoint
    const token = tokenOf({ job: job.name, source, range: { lane, from, to }, epoch })
    const clock = new Date().toISOString()
    return { kind: 'first' as const, source, lane, from, to, token, sequence, clock, stores: [], bytes: 0, records: 0 }
  }
}

type Placed = Span & { readonly source: string; readonly lane: string }

function placeOf({ source, lane, from, to }: Placed): string {
  return JSON.stringify([source, lane, from, to])
}

interface Wanted {
  has(range: { source: string; lane: string }): boolean
  readonly there: ReadonlyMap<string, LaneSurvey & { readonly source: string }>
}

function marks(mark: string | undefined, markFrom: string | undefined): { mark?: string; markFrom?: string } {
  return { ...(mark === undefined ? {} : { mark }), ...(markFrom === undefined ? {} : { markFrom }) }
}

function patternOf(lane: string): RegExp {
  return new RegExp(
    `^${lane
      .split('*')
      .map((part) => part.replace(/[.+?^$|{}()[\]\\]/g, '\\$&'))
      .join('.*')}$`,
    's',
  )
}
