/**
 * A file elsewhere that is read by ranges, as if it were here: in pieces of one size, some of them asked for ahead, so that a
 * long way to the server costs no time; those that were just read are kept, since marks look back a little. No more pieces
 * than `ahead` + 2 are in memory.
 */
import type { ByteSource } from '../../records/window.ts'
import type { FileFacts } from './discover.ts'
import { shrunk } from './local-file.ts'
import type { OpenFile } from './place.ts'

/** Formats and compressions are told by less. */
const HEAD_BYTES = 4096

export interface RangedFileOptions {
  readonly facts: FileFacts
  /** As people read it. */
  readonly origin: string
  readonly pieceBytes: number
  readonly ahead: number
  readonly signal: AbortSignal
  /** `[from, from + length)`; fewer bytes where the file ends before. Tries again by itself. @throws AdflowError SOURCE_… */
  fetch(from: number, length: number, signal: AbortSignal): Promise<Buffer>
  /** A piece that was fetched is not looked at any more: its memory may be used again. */
  passed?(piece: Buffer): void
  close(): Promise<void>
}

export class RangedFile implements OpenFile {
  readonly local = undefined
  readonly facts: FileFacts
  readonly #options: RangedFileOptions
  readonly #pieces = new Map<number, Promise<Buffer>>()
  readonly #closed = new AbortController()
  readonly #signal: AbortSignal
  #head: Promise<Buffer> | undefined
  #last = -1

  constructor(options: RangedFileOptions) {
    this.facts = options.facts
    this.#options = options
    this.#signal = AbortSignal.any([options.signal, this.#closed.signal])
  }

  async readAt(target: Buffer, offset: number, length: number, position: number): Promise<number> {
    const { pieceBytes, origin } = this.#options
    const { size } = this.facts
    const wanted = Math.min(length, size - position)
    if (wanted <= 0) return 0
    const index = Math.floor(position / pieceBytes)
    const start = index * pieceBytes
    const bytes = await (this.#isHead(position + wanted) ? this.#firstBytes() : this.#piece(index))
    const count = bytes.copy(target, offset, position - start, position - start + wanted)
    if (count === 0) throw shrunk(origin, start + bytes.length, size)
    return count
  }

  forward(from: number): ByteSource {
    let at = from
    return {
      read: async (target, offset, length) => {
        const count = await this.readAt(target, offset, length, at)
        at += count
        return count
      },
      close: async () => undefined, // the file outlives its readers; its opener closes it
    }
  }

  async close(): Promise<void> {
    this.#closed.abort()
    await Promise.allSettled([...this.#pieces.values(), this.#head])
    this.#pieces.clear()
    await this.#options.close()
  }

  /** A look at the beginning of a large file that is read on elsewhere must not fetch a whole piece. */
  #isHead(end: number): boolean {
    return end <= HEAD_BYTES && !this.#pieces.has(0) && this.facts.size > this.#options.pieceBytes
  }

  #firstBytes(): Promise<Buffer> {
    this.#head ??= this.#fetch(0, HEAD_BYTES)
    this.#head.catch(() => {
      this.#head = undefined
    })
    return this.#head
  }

  #piece(index: number): Promise<Buffer> {
    const { pieceBytes, ahead } = this.#options
    const goesOn = this.#last === -1 || index === this.#last || index === this.#last + 1
    this.#last = index
    for (const [known, piece] of this.#pieces) {
      if (known >= index - 1 && known <= index + ahead) continue
      this.#pieces.delete(known)
      // Whoever waits for it copies from it in the turn in which it comes, before anything can be read into it.
      piece.then((bytes) => this.#options.passed?.(bytes)).catch(() => undefined) // told to whoever reads that far
    }
    const last = Math.min(goesOn ? index + ahead : index, Math.ceil(this.facts.size / pieceBytes) - 1)
    for (let next = index; next <= last; next += 1) if (!this.#pieces.has(next)) this.#ask(next)
    return this.#pieces.get(index) as Promise<Buffer>
  }

  #ask(index: number): void {
    const { pieceBytes } = this.#options
    const from = index * pieceBytes
    const piece = this.#fetch(from, Math.min(pieceBytes, this.facts.size - from))
    this.#pieces.set(index, piece)
    // Whoever reads that far is told; asked again, it is fetched again.
    piece.catch(() => {
      if (this.#pieces.get(index) === piece) this.#pieces.delete(index)
    })
  }

  #fetch(from: number, length: number): Promise<Buffer> {
    return this.#options.fetch(from, length, this.#signal)
  }
}
