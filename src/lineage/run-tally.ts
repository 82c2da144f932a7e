/** Adds up the events of one run as they become durable: what lineage events say of data sets. */
import type { LedgerEvent } from './events.ts'

export interface SourceTally {
  rows: number
  bytes: number
  readonly lanes: Set<string>
  /** Rule or step id → records that it took out or warned of. */
  readonly broken: Map<string, number>
  /** Rules that do not hold for a batch or for the run, and what they said. */
  readonly failed: Map<string, string>
}

export interface StoreTally {
  rows: number
  /** Places written, the first MAX_OUTPUTS of them. */
  readonly outputs: Set<string>
  /** There were more. */
  cut: boolean
}

/** Bounds what a run remembers for its lineage events. */
const MAX_OUTPUTS = 1000

export class RunTally {
  readonly sources = new Map<string, SourceTally>()
  readonly stores = new Map<string, StoreTally>()

  take(events: readonly LedgerEvent[]): void {
    for (const event of events) {
      if (event.type === 'batch_closed') {
        const source = this.#source(event.source)
        const { counts } = event
        source.rows += counts.read
        source.bytes += event.bytes
        source.lanes.add(event.lane)
        for (const part of [counts.quarantined, counts.filtered, counts.warned])
          for (const [rule, count] of Object.entries(part))
            source.broken.set(rule, (source.broken.get(rule) ?? 0) + count)
        for (const [id, { status, rows, outputs }] of Object.entries(event.stores))
          if (status === 'loaded') this.#wrote(id, rows, outputs)
      } else if (event.type === 'store_paid') this.#wrote(event.loader, event.rows, [])
      else if (event.type === 'rule_failed' || event.type === 'rule_warned') {
        if (event.source !== undefined) this.#source(event.source).failed.set(event.rule, event.message)
      }
    }
  }

  #source(id: string): SourceTally {
    const known = this.sources.get(id)
    if (known !== undefined) return known
    const made = {
      rows: 0,
      bytes: 0,
      lanes: new Set<string>(),
      broken: new Map<string, number>(),
      failed: new Map<string, string>(),
    }
    this.sources.set(id, made)
    return made
  }

  #wrote(id: string, rows: number, outputs: readonly string[]): void {
    const store = this.stores.get(id) ?? { rows: 0, outputs: new Set<string>(), cut: false }
    this.stores.set(id, store)
    store.rows += rows
    for (const output of outputs)
      if (store.outputs.size < MAX_OUTPUTS) store.outputs.add(output)
      else if (!store.outputs.has(output)) store.cut = true
  }
}
