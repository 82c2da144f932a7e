/** Work that costs hardly more for many than for one: what comes while some of it is under way goes together when that is over. */
export class Together<Item, Result> {
  readonly #work: (items: readonly Item[]) => Promise<readonly PromiseSettledResult<Result>[]>
  #waiting: { readonly item: Item; readonly result: PromiseWithResolvers<Result> }[] = []
  #running = false

  /** `work` is never called twice at a time, tells of each item in its place, and does not reject. */
  constructor(work: (items: readonly Item[]) => Promise<readonly PromiseSettledResult<Result>[]>) {
    this.#work = work
  }

  add(item: Item): Promise<Result> {
    const result = Promise.withResolvers<Result>()
    this.#waiting.push({ item, result })
    if (!this.#running) void this.#drain()
    return result.promise
  }

  async #drain(): Promise<void> {
    this.#running = true
    while (this.#waiting.length > 0) {
      const group = this.#waiting
      this.#waiting = []
      const results = await this.#work(group.map(({ item }) => item))
      for (const [index, { result }] of group.entries()) {
        const found = results[index]
        if (found?.status === 'fulfilled') result.resolve(found.value)
        else result.reject(found?.reason)
      }
    }
    this.#running = false
  }
}
