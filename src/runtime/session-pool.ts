/** One engine session per batch under way: the number of sessions is the number of batches in flight. */
import type { Engine, Session } from '../engine/session.ts'

export class SessionPool {
  readonly #free: Session[]
  readonly #all: readonly Session[]
  /** Highest priority first, then in the order of their coming. */
  readonly #waiting: { readonly priority: number; readonly give: (session: Session) => void }[] = []

  /** Wait until one is free, and do not take it. */
  #looking = Promise.withResolvers<void>()

  private constructor(sessions: readonly Session[]) {
    this.#all = sessions
    this.#free = [...sessions]
  }

  static async open(engine: Engine, size: number, secrets: ReadonlyMap<string, Uint8Array>): Promise<SessionPool> {
    const sessions: Session[] = []
    for (let index = 0; index < size; index += 1) {
      const session = await engine.connect()
      for (const [name, value] of secrets) await session.setSecret(name, value)
      sessions.push(session)
    }
    return new SessionPool(sessions)
  }

  acquire(priority = 0): Promise<Session> {
    const session = this.#free.pop()
    if (session !== undefined) return Promise.resolve(session)
    return new Promise((give) => {
      const behind = this.#waiting.findIndex((other) => other.priority < priority)
      this.#waiting.splice(behind === -1 ? this.#waiting.length : behind, 0, { priority, give })
    })
  }

  /** Resolves when a session is free; it may be taken by another before whoever asked comes to it. */
  async free(): Promise<void> {
    while (this.#free.length === 0) await this.#looking.promise
  }

  release(session: Session): void {
    const next = this.#waiting.shift()
    if (next !== undefined) {
      next.give(session)
      return
    }
    this.#free.push(session)
    this.#looking.resolve()
    this.#looking = Promise.withResolvers()
  }

  close(): void {
    for (const session of this.#all) session.close()
  }
}
