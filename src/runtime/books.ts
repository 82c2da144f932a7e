/** What is written of a batch when it is over: ledger, position, summary; and what a run could not read. */
import type { Gap, Positions } from '../core/contracts.ts'
import { AdflowError } from '../core/errors.ts'
import { IDLE_SOURCE } from '../core/idle.ts'
import type { JobExtractor } from '../core/job/job.ts'
import { redact } from '../core/job/secrets.ts'
import { tokenOf } from '../core/token.ts'
import type { LedgerEvent, StoreOutcome } from '../lineage/events.ts'
import { headText } from '../lineage/ledger-line.ts'
import type { Batch, BatchesOptions } from './batch.ts'
import type { Budgets } from './budgets.ts'
import type { Pipeline } from './pipeline.ts'
import type { Refined } from './refine.ts'
import type { Store } from './store.ts'
import { addBatch } from './summary.ts'
import type { Tracker } from './tracker.ts'

export interface BooksOptions extends BatchesOptions {
  readonly trackers: ReadonlyMap<string, Tracker>
  readonly budgets: Budgets
  /** The compiled job, as an evolving contract has it by now. */
  readonly pipeline: () => Pipeline
}

export class Books {
  readonly #options: BatchesOptions
  readonly #trackers: ReadonlyMap<string, Tracker>
  readonly #budgets: Budgets
  readonly #pipeline: () => Pipeline

  constructor(options: BooksOptions) {
    this.#options = options
    this.#trackers = options.trackers
    this.#budgets = options.budgets
    this.#pipeline = options.pipeline
  }

  /** Books closed and durable, then the position, then the source. */
  async close(batch: Batch, refined: Refined, stores: Record<string, StoreOutcome>): Promise<void> {
    const { ledger, saver, summary, observer, phases } = this.#options
    const { chunk, plan, token, source } = batch
    const id = source.config.id
    this.#checkLoaded(batch, refined, stores)
    const where = { token, source: id, ...chunk.range }
    const events: LedgerEvent[] = [
      ...batch.moves.map(({ state, before }) => ({
        type: 'batch_moved' as const,
        ...where,
        state,
        before_state: before,
      })),
      ...refined.warnings.map(({ rule, message }) => ({
        type: 'rule_warned' as const,
        ...where,
        rule,
        message: redact(message),
      })),
      {
        type: 'batch_closed',
        ...where,
        sequence: plan.sequence,
        origin: chunk.origin,
        digest: chunk.digest,
        bytes: chunk.bytes,
        clock: plan.clock,
        ...(chunk.mark === undefined ? {} : { mark: chunk.mark }),
        ...(batch.references === undefined ? {} : { references: batch.references }),
        counts: refined.counts,
        sums: refined.sums,
        stores,
        unaccounted: 0,
      },
    ]
    await phases.measure('ledger', () => ledger.append(events))
    const { mark } = chunk
    let durable: Positions = {}
    const position = this.#trackers.get(id)?.finish({ ...chunk.range, ...(mark === undefined ? {} : { mark }) })
    const saved = saver.update((draft) => {
      draft.planned = draft.planned.filter((other) => other.sequence !== plan.sequence)
      const lanes = { ...draft.sources[id] }
      if (position !== undefined) {
        const loaders = this.#behind(id, chunk.range.lane)
        lanes[chunk.range.lane] = { ...position, ...(Object.keys(loaders).length === 0 ? {} : { loaders }) }
      }
      draft.sources[id] = lanes
      durable = lanes
      draft.extra = {
        ...draft.extra,
        ...this.#budgets.memory(),
        ...(id === IDLE_SOURCE ? {} : { baseline: this.#nextBaseline(refined.rows) }),
        ...this.#options.gaps.memory(),
        // `adflow audit verify` sees by it that the end of the ledger is gone.
        ledger: headText(ledger.head),
      }
    })
    await phases.measure('checkpoint', () => saved)
    if (this.#options.gaps.owes(id)) await this.#options.gaps.passed(id)
    // Not saver.state: other batches may have moved it since, and that is not durable yet.
    await source.extractor.commit?.(durable, saver.fallback.sources[id] ?? {})
    addBatch(summary, { source: id, counts: refined.counts, rows: refined.rows, bytes: chunk.bytes, stores })
    observer?.batchClosed?.(summary)
  }

  /** A batch that was under way in an earlier run, under the rules of the job as it was then. Where a store has it already it has
   *  it for good; under other rules its books could not close any more, and the stores would hold different rows of one batch.
   *  Asked before anything is written: what an earlier run has left of the batch stays as it is. */
  async checkHeld(batch: Batch, refined: Refined): Promise<void> {
    const { job, saver, stores } = this.#options
    const { chunk, source, session, token } = batch
    for (const store of stores) {
      if (!this.#countsRows(store)) continue
      const parts = { job: job.name, source: source.config.id, range: chunk.range, epoch: saver.state.epoch }
      const own = store.input === 'main' ? token : tokenOf({ ...parts, output: store.input })
      const rows = await store.held({ token: own }, session)
      if (rows !== undefined && rows !== refined.rows) throw this.#otherRows(store, batch, rows, refined.rows)
    }
  }

  /** A store that holds another number of rows than it was given has lost or doubled some. */
  #checkLoaded(batch: Batch, refined: Refined, stores: Record<string, StoreOutcome>): void {
    for (const store of this.#options.stores) {
      const outcome = stores[store.id]
      if (outcome === undefined || !this.#countsRows(store) || outcome.rows === refined.rows) continue
      throw this.#otherRows(store, batch, outcome.rows, refined.rows)
    }
  }

  #countsRows({ input }: Store): boolean {
    return this.#pipeline().outputs.get(input)?.kind === 'row'
  }

  #otherRows({ id }: Store, { chunk, token, repeated }: Batch, found: number, expected: number): AdflowError {
    const { lane, from, to } = chunk.range
    const hint = repeated
      ? 'the batch was under way when an earlier run ended: put the job file back as it was for one run, which finishes it, or read the range anew with `adflow state rewind --reload`; nothing was changed'
      : `the batch is not acknowledged; its token in the store is ${token}`
    return new AdflowError(
      'UNACCOUNTED',
      repeated
        ? `store ${id} has ${found} rows of ${lane} [${from}, ${to}), and the job passes ${expected} now: were its rules changed since?`
        : `store ${id} took ${found} of ${expected} rows of ${lane} [${from}, ${to})`,
      { hint },
    )
  }

  /** Where stores that owe batches of the lane stand. */
  #behind(source: string, lane: string): Record<string, string> {
    const behind: Record<string, string> = {}
    for (const store of this.#options.stores) {
      const first = store.spool.firstOf(source, lane)
      if (first !== undefined) behind[store.id] = first.range.from
    }
    return behind
  }

  /** Mean rows of the batches before; undefined where there are none. */
  baseline(): number | undefined {
    const baseline = this.#options.saver.state.extra?.['baseline'] as { batches: number; rows: number } | undefined
    return baseline === undefined || baseline.batches === 0 ? undefined : baseline.rows / baseline.batches
  }

  #nextBaseline(rows: number): { batches: number; rows: number } {
    const before = (this.#options.saver.state.extra?.['baseline'] ?? { batches: 0, rows: 0 }) as {
      batches: number
      rows: number
    }
    return { batches: before.batches + 1, rows: before.rows + rows }
  }

  /** A batch that a rule stopped stays planned; the ledger says why it stands where it stands. */
  async failure({ source, chunk, token }: Batch, error: unknown): Promise<void> {
    if (!(error instanceof AdflowError) || error.code !== 'DATA_REJECTED') return
    const rule = String(error.details?.['rule'] ?? 'budget')
    const where = { token, source: source.config.id, ...chunk.range }
    await this.#options.ledger.append([
      { type: 'batch_moved', ...where, state: 'validation.failed', before_state: 'validation.running' },
      { type: 'rule_failed', ...where, rule, message: redact(error.message) },
    ])
  }

  /** Once, until it is closed: a source that is read again has the same gaps again. */
  async gap(config: JobExtractor, found: Gap): Promise<void> {
    const { gaps, summary, log } = this.#options
    const { gap, code } = found
    const message = redact(found.message)
    if (!(await gaps.book(config.id, found, message))) return
    summary.gaps.push({ source: config.id, ...gap, code, message, optional: config.optional })
    const source = summary.sources[config.id]
    if (source !== undefined) source.gaps += 1
    log.warn({ source: config.id, lane: gap.lane, code }, message)
  }
}
