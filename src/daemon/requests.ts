/** What people ask of the scheduler, done by its loop: everything that changes the book is done one after the other. */
export class Requests {
  readonly #waiting: (() => Promise<void>)[] = []
  readonly #wake: () => void

  /** `wake` is called when something was asked for. */
  constructor(wake: () => void) {
    this.#wake = wake
  }

  get some(): boolean {
    return this.#waiting.length > 0
  }

  ask<Answer>(request: () => Promise<Answer>): Promise<Answer> {
    const { promise, resolve, reject } = Promise.withResolvers<Answer>()
    this.#waiting.push(() => request().then(resolve, reject))
    this.#wake()
    return promise
  }

  async work(): Promise<void> {
    for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift()) await next()
  }
}
