/** Which idempotency keys were accepted within the window, and with what. About 120 bytes of memory for each. */
import type { FrameHead } from './frame.ts'

export interface KnownRequest {
  readonly receipt: Buffer
  readonly digest: Buffer
  readonly records: number
  readonly atMs: number
}

export class KeyIndex {
  readonly #windowMs: number
  /** Oldest first. Key and value are bytes as latin1 text: a string of one byte per character costs least. */
  readonly #requests = new Map<string, string>()

  constructor(windowMs: number) {
    this.#windowMs = windowMs
  }

  get size(): number {
    return this.#requests.size
  }

  /** undefined: not within the window. */
  find(key: Buffer, nowMs: number): KnownRequest | undefined {
    const packed = this.#requests.get(key.toString('latin1'))
    if (packed === undefined) return undefined
    const request = unpack(packed)
    return this.#expired(request.atMs, nowMs) ? undefined : request
  }

  add({ key, receipt, digest, records, atMs }: FrameHead): void {
    if (key === undefined) return
    const packed = Buffer.allocUnsafe(44)
    receipt.copy(packed, 0)
    digest.copy(packed, 16)
    packed.writeUInt32LE(records, 32)
    packed.writeDoubleLE(atMs, 36)
    const name = key.toString('latin1')
    this.#requests.delete(name) // so that it stands among the newest
    this.#requests.set(name, packed.toString('latin1'))
  }

  /** Forgets what is older than the window. */
  sweep(nowMs: number): void {
    for (const [key, packed] of this.#requests) {
      if (!this.#expired(unpack(packed).atMs, nowMs)) return
      this.#requests.delete(key)
    }
  }

  /** When the oldest goes. undefined: there is none. */
  get oldestEndsMs(): number | undefined {
    const [packed] = this.#requests.values()
    return packed === undefined ? undefined : unpack(packed).atMs + this.#windowMs
  }

  #expired(atMs: number, nowMs: number): boolean {
    return atMs + this.#windowMs <= nowMs
  }
}

function unpack(packed: string): KnownRequest {
  const bytes = Buffer.from(packed, 'latin1')
  return {
    receipt: bytes.subarray(0, 16),
    digest: bytes.subarray(16, 32),
    records: bytes.readUInt32LE(32),
    atMs: bytes.readDoubleLE(36),
  }
}
