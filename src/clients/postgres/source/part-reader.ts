/** Reads parts of a table over several connections in one snapshot, and hands them over one after the other. */
import type { Part } from './extent.ts'
import type { CopyFormat, ReadSession } from './session.ts'

/** What a connection may be ahead. */
const AHEAD_BYTES = 4 << 20
/** Pieces of the socket are put together: each is one write to the disk. In one buffer: new memory for each costs more to collect than to fill. */
const PIECE_BYTES = 1 << 20

interface PartBytes {
  /** A piece is valid until the next one is asked for. */
  readonly pieces: AsyncIterable<Buffer>
  readonly end: string
}

export class PartReader {
  readonly #sessions: ReadSession[]
  readonly #more: (snapshot: string) => Promise<ReadSession>
  readonly #parallel: number
  readonly #format: CopyFormat
  readonly #held = Buffer.allocUnsafeSlow(PIECE_BYTES)

  /** `more`: another connection in the same snapshot. */
  constructor(
    first: ReadSession,
    more: (snapshot: string) => Promise<ReadSession>,
    parallel: number,
    format: CopyFormat,
  ) {
    this.#sessions = [first]
    this.#more = more
    this.#parallel = parallel
    this.#format = format
  }

  async *read(parts: AsyncIterable<Part>, sqlOf: (part: Part) => string): AsyncGenerator<PartBytes> {
    const waiting: { readonly part: Part; readonly pieces: AsyncGenerator<Buffer>; readonly session: ReadSession }[] =
      []
    const all: Part[] = []
    for await (const part of parts) all.push(part)
    await this.#open(all.length)
    const free = [...this.#sessions]
    let next = 0
    const start = () => {
      for (let session = free[0]; session !== undefined && next < all.length; session = free[0]) {
        free.shift()
        const part = all[next] as Part
        next += 1
        waiting.push({ part, session, pieces: session.copy(sqlOf(part), this.#format, AHEAD_BYTES) })
      }
    }
    for (start(); waiting.length > 0; start()) {
      const { part, pieces, session } = waiting[0] as (typeof waiting)[number]
      yield { pieces: together(pieces, this.#held), end: part.end }
      waiting.shift()
      free.push(session)
    }
  }

  /** With an error: what the connections are doing is ended with them. */
  async end(error?: Error): Promise<void> {
    for (const session of this.#sessions.splice(1)) await session.end(error)
  }

  async #open(parts: number): Promise<void> {
    const wanted = Math.min(this.#parallel, Math.ceil(parts / 2))
    if (wanted <= this.#sessions.length) return
    const [first] = this.#sessions
    const snapshot = (await first?.one('SELECT pg_export_snapshot() AS name'))?.['name'] ?? ''
    while (this.#sessions.length < wanted) this.#sessions.push(await this.#more(snapshot))
  }
}

async function* together(pieces: AsyncIterable<Buffer>, held: Buffer): AsyncGenerator<Buffer> {
  let filled = 0
  for await (const piece of pieces)
    for (let at = 0; at < piece.length; ) {
      const count = piece.copy(held, filled, at)
      at += count
      filled += count
      if (filled < held.length) continue
      yield held
      filled = 0
    }
  if (filled > 0) yield held.subarray(0, filled)
}
