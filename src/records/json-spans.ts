/** Source places of the records of a JSON chunk: 21 bytes each instead of an object. */
import type { RecordSource } from '../core/contracts.ts'

export class JsonSpans {
  count = 0
  #from = new Float64Array(1024)
  #to = new Float64Array(1024)
  #line = new Uint32Array(1024)
  #multiline = new Uint8Array(1024)

  add(byteFrom: number, byteTo: number, line: number, multiline: boolean): void {
    if (this.count === this.#from.length) this.#grow()
    this.#from[this.count] = byteFrom
    this.#to[this.count] = byteTo
    this.#line[this.count] = line
    this.#multiline[this.count] = multiline ? 1 : 0
    this.count += 1
  }

  at(ordinal: number): RecordSource {
    return {
      byteFrom: this.#from[ordinal] ?? -1,
      byteTo: this.#to[ordinal] ?? -1,
      line: this.#line[ordinal] ?? -1,
    }
  }

  /** The record's line in the chunk differs from its bytes in the source: line ends became spaces. */
  multiline(ordinal: number): boolean {
    return this.#multiline[ordinal] === 1
  }

  #grow(): void {
    this.#from = grown(this.#from, new Float64Array(this.#from.length * 2))
    this.#to = grown(this.#to, new Float64Array(this.#to.length * 2))
    this.#line = grown(this.#line, new Uint32Array(this.#line.length * 2))
    this.#multiline = grown(this.#multiline, new Uint8Array(this.#multiline.length * 2))
  }
}

function grown<T extends Float64Array | Uint32Array | Uint8Array>(from: T, to: T): T {
  to.set(from)
  return to
}
