/**
 * The messages that a consumer is at: those under way, those that wait for another attempt, and a bounded number behind them.
 * A message may go when no earlier one has a key in common with it; so a key that fails holds up its own messages alone.
 */
import type { StoredMessage } from './message-file.ts'

/** Where the message comes from, and where its end is noted. */
export interface Origin {
  delivered(message: StoredMessage): Promise<void>
  dead(message: StoredMessage, reason: string, tries: Attempts): Promise<void>
  tried(message: StoredMessage, tries: Attempts): Promise<void>
}

export interface Attempts {
  readonly attempts: number
  /** Milliseconds since the epoch. */
  readonly firstMs: number
}

export interface Item {
  readonly message: StoredMessage
  readonly origin: Origin
  attempts: number
  firstMs: number | undefined
  /** Not before; milliseconds since the epoch. */
  notBefore: number
  underWay: boolean
}

export class Window {
  readonly #items = new Set<Item>()
  readonly #queues = new Map<string, Item[]>()
  #underWay = 0
  #bytes = 0

  get size(): number {
    return this.#items.size
  }

  get underWay(): number {
    return this.#underWay
  }

  /** Characters of the bodies. */
  get bytes(): number {
    return this.#bytes
  }

  add(item: Item): void {
    this.#items.add(item)
    this.#bytes += item.message.body.length
    for (const key of item.message.keys) {
      const queue = this.#queues.get(key)
      if (queue === undefined) this.#queues.set(key, [item])
      else queue.push(item)
    }
  }

  /** The first message that may go now. */
  next(nowMs: number): Item | undefined {
    for (const item of this.#items) if (!item.underWay && item.notBefore <= nowMs && this.#isFirst(item)) return item
    return undefined
  }

  /** When the next message may go that waits for its time; undefined where none does. */
  nextAt(): number | undefined {
    let earliest: number | undefined
    for (const item of this.#items)
      if (!item.underWay && this.#isFirst(item)) earliest = Math.min(earliest ?? item.notBefore, item.notBefore)
    return earliest
  }

  start(item: Item): void {
    item.underWay = true
    this.#underWay += 1
  }

  /** The message stays, for another attempt. */
  stop(item: Item, notBefore: number): void {
    item.underWay = false
    item.notBefore = notBefore
    this.#underWay -= 1
  }

  /** It is through. */
  remove(item: Item): void {
    if (item.underWay) this.#underWay -= 1
    this.#items.delete(item)
    this.#bytes -= item.message.body.length
    for (const key of item.message.keys) {
      const queue = (this.#queues.get(key) ?? []).filter((other) => other !== item)
      if (queue.length === 0) this.#queues.delete(key)
      else this.#queues.set(key, queue)
    }
  }

  #isFirst(item: Item): boolean {
    return item.message.keys.every((key) => this.#queues.get(key)?.[0] === item)
  }
}
