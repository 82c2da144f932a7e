/** Bounds what is under way by its size. What is larger than all of it goes in alone. */
export class Room {
  readonly #size: number
  #taken = 0
  readonly #waiting: { readonly size: number; readonly enter: () => void }[] = []

  constructor(size: number) {
    this.#size = size
  }

  /** Resolves in the order of the calls; whoever is in must leave with the same size. */
  async enter(size: number): Promise<void> {
    if (this.#waiting.length === 0 && this.#fits(size)) {
      this.#taken += size
      return
    }
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#waiting.push({ size, enter: resolve })
    await promise
  }

  leave(size: number): void {
    this.#taken -= size
    for (let next = this.#waiting[0]; next !== undefined && this.#fits(next.size); next = this.#waiting[0]) {
      this.#waiting.shift()
      this.#taken += next.size
      next.enter()
    }
  }

  #fits(size: number): boolean {
    return this.#taken === 0 || this.#taken + size <= this.#size
  }
}
