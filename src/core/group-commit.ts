/** Group commit: while one commit is on its way to the disk, what arrives meanwhile shares the next one. */

/** One fsync serves all callers that wait, so the cost of durability does not grow with the number of batches in flight. */
export class GroupCommit<Item> {
  readonly #commit: (items: readonly Item[]) => Promise<void>
  #waiting: Item[] = []
  #group: PromiseWithResolvers<void> | undefined
  #failure: { readonly error: unknown } | undefined
  #running: Promise<void> | undefined

  /** `commit` is never called twice at a time, and never again after it has rejected. */
  constructor(commit: (items: readonly Item[]) => Promise<void>) {
    this.#commit = commit
  }

  /** The first error, after which everything is refused. */
  get failure(): unknown {
    return this.#failure?.error
  }

  /** Resolves when a commit that includes the item is durable. After a failed commit nobody knows what the disk holds:
   *  it rejects all that wait and all that come later with the same error. */
  add(item: Item): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure.error)
    this.#waiting.push(item)
    this.#group ??= Promise.withResolvers<void>()
    this.#running ??= this.#drain()
    return this.#group.promise
  }

  /** Refuses everything from now on. */
  poison(error: unknown): void {
    this.#failure ??= { error }
    this.#waiting = []
    this.#group?.reject(this.#failure.error)
    this.#group = undefined
  }

  /** Resolves when nothing is on its way, whether it went well or not. */
  async idle(): Promise<void> {
    while (this.#running !== undefined) await this.#running
  }

  async #drain(): Promise<void> {
    await Promise.resolve() // items added in the same turn share the first commit
    while (this.#group !== undefined) {
      const group = this.#group
      const items = this.#waiting
      this.#group = undefined
      this.#waiting = []
      try {
        await this.#commit(items)
        group.resolve()
      } catch (error) {
        group.reject(error)
        this.poison(error)
      }
    }
    this.#running = undefined
  }
}
