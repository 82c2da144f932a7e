/** Which offset each record of a chunk has, and what of its line is not the record's own: runs, not an entry per record. */
import type { RecordSource } from '../../core/contracts.ts'

const FIRST_ENTRIES = 1024

/** Byte of the chunk file → what stood there in the record. */
interface Replaced {
  readonly at: number
  readonly byte: number
}

export class RecordPlaces {
  /** First ordinal and offset of each run. */
  readonly #runs: { readonly ordinal: number; readonly offset: bigint }[] = []
  #base = 0n
  /** Of the record that would go on with the run. */
  #nextDelta = -1
  #records = 0
  /** Bytes that stand before the value's own in each line; kept where there are any. */
  #added: Uint32Array | undefined
  readonly #replaced: Replaced[] = []

  get count(): number {
    return this.#records
  }

  /** The batch to which the next records belong. */
  begin(base: bigint): void {
    this.#nextDelta = Number(this.#base + BigInt(this.#nextDelta) - base)
    this.#base = base
  }

  /** The next record of the chunk. */
  add(delta: number, added: number): void {
    if (delta !== this.#nextDelta || this.#records === 0)
      this.#runs.push({ ordinal: this.#records, offset: this.#base + BigInt(delta) })
    this.#nextDelta = delta + 1
    if (added > 0 || this.#added !== undefined) this.#keepAdded(added)
    this.#records += 1
  }

  replace(at: number, byte: number): void {
    this.#replaced.push({ at, byte })
  }

  /** A record has no bytes in a partition: its line is its offset. */
  source(ordinal: number): RecordSource {
    let [low, high] = [0, this.#runs.length - 1]
    while (low < high) {
      const middle = (low + high + 1) >> 1
      if ((this.#runs[middle]?.ordinal ?? 0) <= ordinal) low = middle
      else high = middle - 1
    }
    const run = this.#runs[low]
    if (run === undefined) throw new RangeError(`the chunk has no record ${ordinal}`)
    return sourceOf(run.offset + BigInt(ordinal - run.ordinal))
  }

  /** The value as it came, of a line that begins at `start` of the file. `inside`: the added bytes stand behind its first one. */
  original(ordinal: number, line: Buffer, start: number, inside: boolean): Buffer {
    const own = Buffer.from(line)
    for (let index = this.#firstReplaced(start); index < this.#replaced.length; index += 1) {
      const { at, byte } = this.#replaced[index] as Replaced
      if (at >= start + own.length) break
      own[at - start] = byte
    }
    const added = this.#added?.[ordinal] ?? 0
    if (added === 0) return own
    if (!inside) return own.subarray(added)
    const brace = own.indexOf('{') + 1
    return Buffer.concat([own.subarray(0, brace), own.subarray(brace + added)])
  }

  #firstReplaced(start: number): number {
    let [low, high] = [0, this.#replaced.length]
    while (low < high) {
      const middle = (low + high) >> 1
      if ((this.#replaced[middle] as Replaced).at < start) low = middle + 1
      else high = middle
    }
    return low
  }

  #keepAdded(added: number): void {
    let kept = this.#added ?? new Uint32Array(FIRST_ENTRIES)
    if (this.#records >= kept.length) {
      const larger = new Uint32Array(Math.max(kept.length, this.#records) * 2)
      larger.set(kept)
      kept = larger
    }
    kept[this.#records] = added
    this.#added = kept
  }
}

export function sourceOf(offset: bigint): RecordSource {
  return { byteFrom: -1, byteTo: -1, line: Number(offset) }
}
