/** What bounds the gateway: bytes of bodies in memory, and what each token may push in a second. */

/** Bytes that may be held at the same time. */
export class Budget {
  readonly #maxBytes: number
  #used = 0

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes
  }

  hold(): Hold {
    let held = 0
    return {
      grow: (bytes) => {
        if (this.#used + bytes > this.#maxBytes) return false
        this.#used += bytes
        held += bytes
        return true
      },
      release: () => {
        this.#used -= held
        held = 0
      },
    }
  }
}

/** What one request holds of it. */
export interface Hold {
  /** false: there is no room, and nothing was taken. */
  grow(bytes: number): boolean
  release(): void
}

/**
 * So much per second on average. What a request costs is known only after it was read, so each is let in while the account is not
 * overdrawn, and may overdraw it; the account fills up to what a second gives.
 */
export class Rate {
  readonly #perSecond: number
  readonly #now: () => number
  #balance: number
  #atMs: number

  constructor(perSecond: number, now: () => number = () => performance.now()) {
    this.#perSecond = perSecond
    this.#now = now
    this.#balance = perSecond
    this.#atMs = now()
  }

  /** Milliseconds until the next request may come; 0: it may. */
  get waitMs(): number {
    const nowMs = this.#now()
    this.#balance = Math.min(this.#perSecond, this.#balance + ((nowMs - this.#atMs) / 1000) * this.#perSecond)
    this.#atMs = nowMs
    return this.#balance > 0 ? 0 : Math.ceil((-this.#balance / this.#perSecond) * 1000) + 1
  }

  spend(amount: number): void {
    this.#balance -= amount
  }
}
