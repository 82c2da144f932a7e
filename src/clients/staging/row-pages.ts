/**
 * Cuts a stream of ordered rows into pages. Rows with one place (the values of the cursor) stay together, so a page ends where the next row has
 * another one: the place of its last row says exactly what is had.
 */
import { jsonField } from '../../records/json-field.ts'
import type { PageSink } from './fetcher.ts'

export interface RowPagesOptions {
  /** Columns of the place, in order. */
  readonly cursor: readonly string[]
  /** A page is ended at the first edge behind so many bytes. */
  readonly pageBytes: number
  /** Rows that are had already are left out. undefined: none can be. */
  isKnown?(bytes: Buffer, from: number, to: number): boolean
  /** The page is whole; what is behind it begins after `place`. */
  ended(place: readonly string[]): Promise<void>
}

const NEWLINE = 10

export class RowPages {
  /** Rows that came, those that are left out among them. */
  rows = 0
  /** Of the last row. */
  place: readonly string[] | undefined
  readonly #sink: PageSink
  readonly #options: RowPagesOptions

  constructor(sink: PageSink, options: RowPagesOptions) {
    this.#sink = sink
    this.#options = options
  }

  /** Whole lines of NDJSON. */
  async take(bytes: Buffer, from: number, to: number): Promise<void> {
    const { cursor, pageBytes, isKnown, ended } = this.#options
    let begun = from
    let last = from
    /** Of the row before, where it was asked. */
    let place: string | undefined
    const write = async (end: number) => {
      if (end > begun) await this.#sink.write(bytes.subarray(begun, end))
      begun = end
    }
    for (let at = from; at < to; ) {
      const end = bytes.indexOf(NEWLINE, at) + 1
      if (cursor.length > 0 && this.#sink.pageBytes + (at - begun) >= pageBytes) {
        // From here on each row is asked whether it has another place than the one before.
        const before =
          place ?? (at > from ? JSON.stringify(this.#placeOf(bytes, last, at)) : JSON.stringify(this.place))
        const own = this.#placeOf(bytes, at, end)
        place = JSON.stringify(own)
        if (place !== before) {
          await write(at)
          await ended(JSON.parse(before) as string[])
        }
      } else place = undefined
      this.rows += 1
      last = at
      if (isKnown?.(bytes, at, end) === true) {
        await write(at)
        begun = end
      }
      at = end
    }
    await write(to)
    if (cursor.length > 0 && to > from) this.place = this.#placeOf(bytes, last, to)
  }

  #placeOf(bytes: Buffer, from: number, to: number): string[] {
    return this.#options.cursor.map((column) => textOf(jsonField(bytes, from, to, [column]) ?? ''))
  }
}

/** What a JSON text says: a string without its quotes, anything else as it stands. */
export function textOf(json: string): string {
  return json.startsWith('"') ? (JSON.parse(json) as string) : json
}
