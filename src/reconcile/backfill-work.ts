/** Works off the plan of a backfill: first what no run has read, by runs beside the checkpoint; then what stores have lost. */
import type { Positions } from '../core/contracts.ts'
import { AdflowError } from '../core/errors.ts'
import { uuidv7 } from '../core/ids.ts'
import { list, literal } from '../engine/sql-text.ts'
import { openLedger } from '../lineage/ledger.ts'
import { openBrowser } from '../runtime/browse.ts'
import type { PlannedBatch } from '../runtime/checkpoint-slot.ts'
import { openCheckpoints } from '../runtime/checkpoints.ts'
import { type PastBatch, pastBatches } from '../runtime/past-batches.ts'
import { type PastRanges, runUnderLock } from '../runtime/run.ts'
import type { StateDir } from '../runtime/state-dir.ts'
import type { BackfillOptions } from './backfill.ts'
import type { BackfillItem } from './backfill-file.ts'
import { laneOf, overlap, rounds } from './lane-ranges.ts'
import { lastLoadings } from './missing-batches.ts'
import { restoreBatches } from './restore.ts'

export interface Outcome {
  /** Items that are done by now; that a run has read meanwhile; that are still to be done. */
  readonly done: number
  readonly superseded: number
  readonly open: number
  /** Rows that stores have got in this process, and by store. */
  readonly rows: number
  readonly stores: Readonly<Record<string, { readonly batches: number; readonly rows: number }>>
  /** What could not be loaded, and why. */
  readonly left: readonly { lane: string; from: string; to: string; code: string; message: string }[]
  readonly warnings: readonly string[]
}

export interface WorkOptions extends BackfillOptions {
  readonly state: StateDir
  readonly backfill: string
  readonly items: readonly BackfillItem[]
}

export async function workOff(options: WorkOptions): Promise<Outcome> {
  return new Work(options, await snapshotOf(options)).run()
}

interface Snapshot {
  readonly past: readonly PastBatch[]
  readonly closed: ReadonlySet<string>
  /** Batches that this backfill has brought back. */
  readonly restored: ReadonlySet<string>
  readonly planned: readonly PlannedBatch[]
}

/** Of the ledger and the checkpoint, under the lock: nobody adds to them meanwhile. */
async function snapshotOf({ job, stateDir, registry, log, state, backfill }: WorkOptions): Promise<Snapshot> {
  const browser = await openBrowser(job, stateDir, registry, log, { stores: false })
  try {
    const all = await pastBatches(browser.session)
    const rows = await browser.session.rows(
      `SELECT DISTINCT token FROM ledger WHERE type = 'batch_restored' AND backfill = ${literal(backfill)}`,
    )
    return {
      past: lastLoadings(all),
      closed: new Set(all.map(({ token }) => token)),
      restored: new Set(rows.map((row) => String(row['token']))),
      planned: (await openCheckpoints(state.path, job.name)).current.planned,
    }
  } finally {
    browser.close()
  }
}

class Work {
  readonly #options: WorkOptions
  readonly #snapshot: Snapshot
  readonly #stores = new Map<string, { batches: number; rows: number }>()
  readonly #left: Outcome['left'][number][] = []
  readonly #warnings: string[] = []
  #done = 0
  #bytes = 0
  #superseded = 0

  constructor(options: WorkOptions, snapshot: Snapshot) {
    this.#options = options
    this.#snapshot = snapshot
  }

  async run(): Promise<Outcome> {
    const { items, observer, drain } = this.#options
    const first = this.#readable(items.filter(({ kind }) => kind === 'first'))
    const restore = items.filter(({ kind, token }) => kind === 'restore' && !this.#snapshot.restored.has(token))
    this.#done = items.length - first.length - restore.length - this.#superseded
    observer?.started?.({ items: items.length, bytes: items.reduce((total, { bytes }) => total + bytes, 0) })
    const open = new Set([...first, ...restore].map(({ token }) => token))
    this.#bytes = items.filter(({ token }) => !open.has(token)).reduce((total, { bytes }) => total + bytes, 0)
    for (const round of rounds(first)) if (!drain.aborted && this.#left.length === 0) await this.#read(round)
    if (!drain.aborted && restore.length > 0) await this.#restore(restore)
    const rows = [...this.#stores.values()].reduce((total, own) => total + own.rows, 0)
    return {
      done: this.#done,
      superseded: this.#superseded,
      open: items.length - this.#done - this.#superseded,
      rows,
      stores: Object.fromEntries(this.#stores),
      left: this.#left,
      warnings: this.#warnings,
    }
  }

  /** Without those that are done, and without those of which a run has read a part by now, cut otherwise. */
  #readable(items: readonly BackfillItem[]): readonly BackfillItem[] {
    const { closed, past, planned } = this.#snapshot
    const known = Map.groupBy<string, { source: string; lane: string; from: string; to: string }>(
      [...past, ...planned],
      laneOf,
    )
    return items.filter((item) => {
      if (closed.has(item.token)) return false
      if (!known.get(laneOf(item))?.some((range) => overlap(range, item))) return true
      this.#superseded += 1
      return false
    })
  }

  async #read(items: readonly BackfillItem[]): Promise<void> {
    const { observer, state, log } = this.#options
    let closed = 0
    const summary = await runUnderLock(
      {
        ...this.#options,
        log,
        past: rangesOf(items),
        observer: {
          batchClosed: ({ batches, bytes, passed }) => {
            closed = batches
            observer?.done?.({ items: this.#done + batches, bytes: this.#bytes + bytes, rows: passed })
          },
        },
      },
      { state, lost: new AbortController().signal },
      uuidv7(),
    )
    this.#done += closed
    this.#bytes += summary.bytes
    this.#warnings.push(...summary.warnings)
    for (const [id, { loaded }] of Object.entries(summary.stores)) this.#add(id, closed, loaded)
    const [item] = items
    for (const { lane, from, to, code, message } of summary.gaps)
      this.#left.push({ lane, from, to: to ?? from, code, message })
    if (summary.error?.code === 'STORE_OWED') this.#warnings.push(summary.error.message)
    if (summary.error !== undefined && summary.gaps.length === 0 && summary.error.code !== 'STORE_OWED')
      this.#left.push({ lane: item?.lane ?? '', from: item?.from ?? '', to: item?.to ?? '', ...summary.error })
  }

  async #restore(items: readonly BackfillItem[]): Promise<void> {
    const { state, observer, drain, backfill } = this.#options
    const bytes = new Map(items.map((item) => [item.token, item.bytes]))
    const ledger = await openLedger(state.ledger, { run: uuidv7() })
    try {
      const left = await restoreBatches({
        ...this.#options,
        ledger,
        backfill,
        drain,
        past: this.#snapshot.past,
        wanted: new Map(items.map(({ token, stores }) => [token, stores])),
        warn: (text) => {
          this.#warnings.push(text)
          this.#options.log.warn(text)
        },
        restored: ({ token }, outcomes) => {
          let rows = 0
          for (const [id, outcome] of Object.entries(outcomes)) {
            const loaded = outcome.status === 'loaded' ? outcome.rows : 0
            rows += loaded
            this.#add(id, 1, loaded)
          }
          this.#done += 1
          this.#bytes += bytes.get(token) ?? 0
          observer?.done?.({ items: this.#done, bytes: this.#bytes, rows })
        },
      })
      for (const { past, code, message } of left)
        this.#left.push({ lane: past.lane, from: past.from, to: past.to, code, message })
      const unknown = items.filter(({ token }) => !this.#snapshot.closed.has(token))
      if (unknown.length > 0)
        throw new AdflowError('STATE_DAMAGED', `the ledger does not know ${unknown.length} batches of the backfill`, {
          hint: `tokens: ${list(unknown.slice(0, 3).map(({ token }) => token.slice(0, 12)))}; restore the ledger from a backup`,
        })
    } finally {
      await ledger.close()
    }
  }

  #add(id: string, batches: number, rows: number): void {
    const own = this.#stores.get(id) ?? { batches: 0, rows: 0 }
    this.#stores.set(id, { batches: own.batches + batches, rows: own.rows + rows })
  }
}

function rangesOf(items: readonly BackfillItem[]): PastRanges {
  const sources: Record<string, Positions> = {}
  const sorted = items.toSorted((a, b) => Number(BigInt(a.sequence) - BigInt(b.sequence)))
  for (const { source, lane, from, markFrom } of sorted) {
    const lanes = sources[source] ?? {}
    if (lanes[lane] !== undefined && BigInt(lanes[lane].at) <= BigInt(from)) continue
    sources[source] = { ...lanes, [lane]: { at: from, ...(markFrom === undefined ? {} : { mark: markFrom }) } }
  }
  const planned = sorted.map(({ source, lane, from, to, mark, sequence, clock }) => ({
    source,
    lane,
    from,
    to,
    sequence,
    clock,
    ...(mark === undefined ? {} : { mark }),
  }))
  return { sources, planned }
}
