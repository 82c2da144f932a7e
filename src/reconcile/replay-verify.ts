/**
 * Repeats a run from what it was made of, and compares: the books of each batch, and the rows of each store. Steps with memory
 * begin with none, and see all batches before in their order. Nothing is loaded, and nothing is changed.
 */

import { AdflowError, ERROR_CODES, EXIT } from '../core/errors.ts'
import type { JobLoader } from '../core/job/job.ts'
import type { Registry } from '../core/registry.ts'
import type { BatchComparison } from '../core/store-contract.ts'
import type { Session } from '../engine/session.ts'
import { type RepeatedBatch, Rerun } from '../runtime/rerun.ts'
import { requireThere, tokenIn } from './missing-batches.ts'
import { openPastRun, type PastRun, type PastRunOptions } from './past-run.ts'
import { repeatAll } from './repeat.ts'
import { loadBatchOf } from './repeated-load.ts'

export interface VerifyOptions extends PastRunOptions {
  readonly version: string
  /** Rows that are shown of each kind, batch and store. */
  readonly shown: number
  readonly signal: AbortSignal
}

export interface StoreDifference {
  /** Rows that the repetition gives and the store has not; that the store has of the batch beyond these. */
  readonly missing: number
  readonly extra: number
  /** The first of them; integers beyond 2^53 and decimals as text. */
  readonly rows: readonly { readonly kind: 'missing' | 'extra'; readonly row: unknown }[]
}

export interface BatchDifference {
  readonly token: string
  readonly source: string
  readonly lane: string
  readonly from: string
  readonly to: string
  /** Books that are others now: name → what the ledger says, what the repetition gives. */
  readonly books: Readonly<Record<string, readonly [booked: unknown, found: unknown]>>
  readonly stores: Readonly<Record<string, StoreDifference>>
}

export interface VerifyReport {
  readonly schema_version: 1
  readonly job: string
  readonly run: string
  readonly pin: string
  readonly equal: boolean
  readonly exit: number
  readonly batches: number
  readonly records: number
  /** Store → batches that were compared. */
  readonly stores: Readonly<Record<string, number>>
  readonly differing: readonly BatchDifference[]
  readonly unreadable: readonly {
    token: string
    lane: string
    from: string
    to: string
    code: string
    message: string
  }[]
  /** Store → why it could not be compared. */
  readonly not_compared: Readonly<Record<string, string>>
  readonly changed_secrets: readonly string[]
  /** What has made the run, where it is another one than today. */
  readonly made_by: { readonly adflow?: string; readonly engine?: string }
}

export async function verifyRun(options: VerifyOptions): Promise<VerifyReport> {
  const past = await openPastRun(options)
  return new Verification(options, past).run()
}

class Verification {
  readonly #options: VerifyOptions
  readonly #past: PastRun
  readonly #stores = new Map<string, number>()
  readonly #notCompared = new Map<string, string>()
  readonly #differing: BatchDifference[] = []
  readonly #unreadable: VerifyReport['unreadable'][number][] = []
  #batches = 0
  #records = 0

  constructor(options: VerifyOptions, past: PastRun) {
    this.#options = options
    this.#past = past
  }

  async run(): Promise<VerifyReport> {
    const { pinned, own, before, run, pin } = this.#past
    const { registry, log, signal, version } = this.#options
    const { job, evolved, locate, copies } = pinned
    for (const config of job.load) requireThere(config, await placesOf(config, job, registry, log), own)
    const outputs = [...new Set(job.load.map(({ input }) => input ?? 'main'))]
    const rerun = await Rerun.open({ job, registry, log, outputs, evolved, locate, copies, readOnly: true }, job.load)
    let engine: string
    try {
      engine = rerun.workshop.engine.version
      const wanted = new Set(own.map(({ token }) => token))
      for await (const item of repeatAll(rerun, rerun.pipeline.stateful ? before : own, signal)) {
        if ('unreadable' in item) {
          const { token, lane, from, to } = item.unreadable.past
          const { code, message } = item.unreadable
          this.#unreadable.push({ token, lane, from, to, code, message })
        } else if (wanted.has(item.past.token)) await this.#compare(item, rerun)
        signal.throwIfAborted()
      }
    } finally {
      await rerun.close()
    }
    const [lost] = this.#unreadable
    const equal = this.#differing.length === 0 && lost === undefined
    const lostExit = ERROR_CODES[(lost?.code ?? 'SOURCE_CHANGED') as keyof typeof ERROR_CODES]?.exit ?? EXIT.rejected
    return {
      schema_version: 1,
      job: job.name,
      run,
      pin,
      equal,
      exit: equal ? EXIT.done : this.#differing.length > 0 ? EXIT.differences : lostExit,
      batches: this.#batches,
      records: this.#records,
      stores: Object.fromEntries(this.#stores),
      differing: this.#differing,
      unreadable: this.#unreadable,
      not_compared: Object.fromEntries(this.#notCompared),
      changed_secrets: pinned.changed,
      made_by: {
        ...(pinned.adflow === version ? {} : { adflow: pinned.adflow }),
        ...(pinned.engine === engine ? {} : { engine: pinned.engine }),
      },
    }
  }

  async #compare(item: RepeatedBatch, rerun: Rerun): Promise<void> {
    const { past } = item
    const { job } = this.#past.pinned
    this.#batches += 1
    this.#records += past.read
    const stores: Record<string, StoreDifference> = {}
    for (const config of job.load) {
      if (past.stores[config.id] === undefined) continue
      const found = await this.#compareStore(item, rerun, config)
      if (found === undefined) continue
      this.#stores.set(config.id, (this.#stores.get(config.id) ?? 0) + 1)
      if (found.missing + found.extra > 0) stores[config.id] = found
    }
    const books = differingBooks(item)
    if (Object.keys(books).length + Object.keys(stores).length === 0) return
    const { token, source, lane, from, to } = past
    this.#differing.push({ token, source, lane, from, to, books, stores })
  }

  async #compareStore(item: RepeatedBatch, rerun: Rerun, config: JobLoader): Promise<StoreDifference | undefined> {
    const { job } = this.#past.pinned
    const { id, input = 'main' } = config
    const opened = rerun.workshop.loaders.find((own) => own.config.id === id)
    if (opened?.unavailable !== undefined) throw opened.unavailable
    if (this.#past.owed.has(`${item.past.token} ${id}`)) return this.#pass(id, 'it is owed batches of the run still')
    if (opened?.loader.compare === undefined) return this.#pass(id, 'its loader cannot compare')
    const batch = loadBatchOf(item, rerun, job.name, { id, input, token: tokenIn(item.past, job.name, config) })
    try {
      const comparison = await opened.loader.compare(batch, { scratch: rerun.state.chunks })
      return await differenceOf(rerun.session, comparison, this.#options.shown)
    } catch (error) {
      if (!(error instanceof AdflowError) || error.code !== 'STORE_MISMATCH') throw error
      return this.#pass(id, error.message)
    }
  }

  #pass(id: string, why: string): undefined {
    this.#notCompared.set(id, why)
  }
}

async function placesOf(
  config: JobLoader,
  job: PastRun['pinned']['job'],
  registry: Registry,
  log: VerifyOptions['log'],
) {
  const { access } = await registry.get('loader', config.type)
  const wanted = access?.(config.options, { id: config.id, job: job.name, baseDir: job.baseDir, log }) ?? {}
  return [...(wanted.attach ?? []).map(({ file }) => file), ...(wanted.folders ?? [])]
}

/** What goes to quarantine or leaves the chain must be the same too, by count and by sum. */
function differingBooks({ past, refined }: RepeatedBatch): BatchDifference['books'] {
  const [then, now] = [past.counts, refined.counts]
  const pairs: Record<string, readonly [unknown, unknown]> = {
    read: [then.read, now.read],
    quarantined: [then.quarantined, now.quarantined],
    filtered: [then.filtered, now.filtered],
    deduplicated: [then.deduplicated, now.deduplicated],
    rows: [past.rows, refined.rows],
    which_rows: [past.sums.out, refined.sums.out],
  }
  return Object.fromEntries(Object.entries(pairs).filter(([, [one, other]]) => sorted(one) !== sorted(other)))
}

function sorted(value: unknown): string {
  if (value === null || typeof value !== 'object') return JSON.stringify(value)
  return JSON.stringify(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
}

async function differenceOf(session: Session, comparison: BatchComparison, shown: number): Promise<StoreDifference> {
  if ((await session.value(comparison.same)) === true) return { missing: 0, extra: 0, rows: [] }
  const counts = { missing: 0, extra: 0 }
  const rows: StoreDifference['rows'][number][] = []
  for (const kind of ['missing', 'extra'] as const) {
    await session.run(`CREATE OR REPLACE TEMP TABLE replay_${kind} AS ${comparison[kind]}`)
    counts[kind] = Number(await session.value(`SELECT count(*) FROM replay_${kind}`))
    if (counts[kind] === 0) continue
    const found = await session.jsonRows(`SELECT * FROM replay_${kind} ORDER BY ALL LIMIT ${shown}`)
    for (const values of found.rows)
      rows.push({ kind, row: Object.fromEntries(found.columns.map((name, index) => [name, values[index]])) })
  }
  return { ...counts, rows }
}
