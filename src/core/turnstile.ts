/** Lets work through in the order in which it took its turn, whatever the order in which it gets ready. */
export interface Turn {
  /** Resolves when every earlier turn is done. */
  readonly ready: Promise<void>
  /** Must be called exactly once, also after a failure: later turns wait for it. */
  done(): void
}

export class Turnstile {
  #last: Promise<void> = Promise.resolve()

  take(): Turn {
    const ready = this.#last
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#last = ready.then(() => promise)
    return { ready, done: resolve }
  }
}
