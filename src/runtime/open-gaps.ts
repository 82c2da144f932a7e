/**
 * The gaps of a job that are open: what its sources still owe. Kept in the checkpoint beside the positions, so that no run must read
 * the ledger for them; booked and closed in the ledger. The checkpoint knows a gap before the ledger does, so that a kill
 * between the two leaves none in the ledger that nobody would close.
 */
import { join } from 'node:path'
import { z } from 'zod'
import type { Gap, Position } from '../core/contracts.ts'
import { comparePositions } from '../core/positions.ts'
import type { Ledger } from '../lineage/ledger.ts'
import { ledgerViews } from '../lineage/ledger-sql.ts'
import { ledgerSegments } from '../lineage/ledger-verify.ts'
import type { Checkpoints } from './checkpoints.ts'
import type { Saver } from './group-saver.ts'
import { withStateEngine } from './orphans.ts'
import type { StateDir } from './state-dir.ts'

const openGap = z.object({ source: z.string(), lane: z.string(), from: z.string(), to: z.string().optional() })

export interface OpenGap {
  readonly source: string
  readonly lane: string
  readonly from: Position
  readonly to?: Position | undefined
}

/** In `extra` of the checkpoint. Absent, or null: ask the ledger. */
const GAPS = 'gaps'
/** The checkpoint is written with every batch: it keeps no more than so many. */
const MOST_KEPT = 500

export interface OpenGapsOptions {
  readonly saver: Saver
  readonly ledger: Ledger
  /** false: the work leaves the checkpoint as it is, and so the gaps. */
  readonly lasting: boolean
  /** It is in the ledger that this one is closed. */
  readonly closed: (gap: OpenGap) => void
}

export class OpenGaps {
  readonly #options: OpenGapsOptions
  readonly #open: Map<string, OpenGap>
  /** Those that were booked in this run, and when. */
  readonly #booked = new Map<string, { readonly code: string; at: number }>()
  /** On their way into the ledger as closed. */
  readonly #closing = new Set<string>()
  /** Lanes that were read to their end, and when. */
  readonly #ended = new Map<string, number>()
  /** Counts what is told, so that before and after can be told apart. */
  #now = 0

  constructor(options: OpenGapsOptions, open: readonly OpenGap[]) {
    this.#options = options
    this.#open = new Map(open.map((gap) => [keyOf(gap), gap]))
  }

  /** Resolved: it is in the ledger. false: it was told before, and is still open. */
  async book(source: string, { gap, code }: Gap, message: string): Promise<boolean> {
    const { ledger, lasting } = this.#options
    const booked = { source, ...gap }
    const key = keyOf(booked)
    const before = this.#booked.get(key)
    this.#now += 1
    this.#booked.set(key, { code, at: this.#now })
    if (before?.code === code) return false
    const isNew = !this.#open.has(key)
    this.#open.set(key, booked)
    if (lasting && isNew) await this.#save()
    await ledger.append([{ type: 'gap', ...booked, code, message }])
    return true
  }

  /** The lane was read to its present end. */
  ended(source: string, lane: string): void {
    this.#now += 1
    this.#ended.set(laneKey({ source, lane }), this.#now)
  }

  /** Something of the source is open. */
  owes(source: string): boolean {
    return [...this.#open.values()].some((gap) => gap.source === source)
  }

  /**
   * Closes the gaps of a source that are repaid: the position of the lane is past the gap, or the lane was read to its end since, with
   * nothing missing before. Called when everything of the source that was read is through.
   */
  async settle(source: string): Promise<void> {
    const blocked = new Set<string>()
    const repaid: OpenGap[] = []
    for (const gap of this.#of(source)) {
      const lane = laneKey(gap)
      const read = (this.#ended.get(lane) ?? 0) > (this.#booked.get(keyOf(gap))?.at ?? 0)
      // A range that was planned must itself be loaded: that its lane goes on behind it says nothing.
      if (this.#isPassed(gap) || (read && gap.to === undefined && !blocked.has(lane))) repaid.push(gap)
      else blocked.add(lane)
    }
    await this.#close(repaid)
  }

  /** Closes those that the position has passed: a run without an end never comes to the end of its sources. */
  passed(source: string): Promise<void> {
    return this.#close(this.#of(source).filter((gap) => this.#isPassed(gap)))
  }

  #of(source: string): OpenGap[] {
    const own = [...this.#open.values()].filter((gap) => gap.source === source && !this.#closing.has(keyOf(gap)))
    return own.sort((a, b) => comparePositions(a.from, b.from))
  }

  async #close(repaid: readonly OpenGap[]): Promise<void> {
    const { ledger, lasting, closed } = this.#options
    if (!lasting || repaid.length === 0) return
    // The ledger is told once, and the checkpoint keeps them until it was.
    for (const gap of repaid) this.#closing.add(keyOf(gap))
    await ledger.append(repaid.map(({ source, lane, from }) => ({ type: 'gap_closed', source, lane, from })))
    for (const gap of repaid) {
      const key = keyOf(gap)
      this.#open.delete(key)
      this.#booked.delete(key)
      this.#closing.delete(key)
      closed(gap)
    }
    await this.#save()
  }

  #isPassed({ source, lane, from, to }: OpenGap): boolean {
    const at = this.#options.saver.state.sources[source]?.[lane]?.at
    return at !== undefined && comparePositions(at, from) > 0 && comparePositions(at, to ?? at) >= 0
  }

  /** What the checkpoint keeps. */
  memory(): Readonly<Record<string, unknown>> {
    return { [GAPS]: this.#open.size > MOST_KEPT ? null : [...this.#open.values()] }
  }

  #save(): Promise<void> {
    return this.#options.saver.update((draft) => {
      draft.extra = { ...draft.extra, ...this.memory() }
    })
  }
}

/** Of the checkpoint; of the ledger, where the checkpoint does not know them all. */
export async function openGapsOf(
  { current, fallback }: Pick<Checkpoints, 'current' | 'fallback'>,
  state: StateDir,
): Promise<readonly OpenGap[]> {
  const kept = z.array(openGap).safeParse(current.extra?.[GAPS])
  if (kept.success && fallback === undefined) return kept.data
  const files = (await ledgerSegments(state.ledger)).map((name) => join(state.ledger, name))
  return withStateEngine(state, async (session) => {
    for (const view of ledgerViews(files)) await session.run(view)
    const rows = await session.rows(
      'SELECT source, lane, range_from::VARCHAR AS "from", range_to::VARCHAR AS "to" FROM gaps WHERE open',
    )
    return rows.map(({ source, lane, from, to }) => ({
      ...{ source: String(source), lane: String(lane), from: String(from) },
      ...(to === null ? {} : { to: String(to) }),
    }))
  })
}

function laneKey({ source, lane }: Pick<OpenGap, 'source' | 'lane'>): string {
  return JSON.stringify([source, lane])
}

function keyOf({ source, lane, from }: OpenGap): string {
  return JSON.stringify([source, lane, from])
}
