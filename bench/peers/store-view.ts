/** What a reader sees in a store, by a client of its own: asked again and again, it answers what has become visible since. */
import { PARTITIONS, type Sums, sumsOf } from './ad-events.ts'

/** A window and campaign, `<start in ms>:<campaign>`, with its sums. */
export type WindowRows = ReadonlyMap<string, Sums>

/** When an event was sent, and since when it is known to be visible. */
export type SeenEvent = (sentMs: number, seenMs: number) => void

export interface StoreView {
  readonly name: string
  /** Looks once at the windows: `seen` is told of each row when it has been read. Default: now. */
  windows(seen: (key: string, atMs?: number) => void): Promise<void>
  /** Looks once at the events: `seen` is told of each that is measured. */
  events(seen: SeenEvent): Promise<void>
  /** How many rows can be read now; undefined: it would have to read them all. */
  count(table: 'windows' | 'events'): Promise<number | undefined>
  allWindows(): Promise<WindowRows>
  /** Also what could only be measured afterwards. */
  allEvents(seen: SeenEvent): Promise<Sums>
  close(): Promise<void>
}

/** Every tenth event of each partition is measured: number and id leave less than the number of partitions here. */
export const MEASURED_OF = 10 * PARTITIONS
export const isMeasured = (id: number) => id >= 0 && id % MEASURED_OF < PARTITIONS

export type Row = readonly (string | number)[]

export function keyed(rows: readonly Row[]): WindowRows {
  return new Map(rows.map(([start, campaign, ...sums]) => [`${start}:${campaign}`, sumsOf(sums)]))
}

/** A decimal with six places, in millionths. */
export function micros(text = ''): string {
  const [whole = '', places = ''] = text.split('.')
  return String(BigInt(`${whole}${places.padEnd(6, '0')}`))
}
