/** Sends the parts of a batch. The server decides of each whether it is applied: one that it has is left as it is. */
import { hash } from 'node:crypto'
import type { LoadBatch } from '../../core/contracts.ts'
import { AdflowError } from '../../core/errors.ts'
import { type Begun, OWN_KEYS } from './batch-ledger.ts'
import type { RedisClient } from './connect.ts'
import type { DataOptions } from './data-options.ts'
import type { DataSql } from './data-sql.ts'
import { partScript } from './part-script.ts'
import { type Part, pageOf } from './parts.ts'
import { runScript } from './script.ts'
import { tagOf } from './slots.ts'

export interface Sending {
  readonly client: RedisClient
  readonly batch: LoadBatch
  readonly options: DataOptions
  readonly target: string
  readonly sql: DataSql
  readonly signal: AbortSignal
  /** A ticket newer than one that is too old. */
  renew(above: number): Promise<Begun>
}

type Answer = { readonly state: 'applied' | 'held' | 'gap' } | { readonly state: 'stale'; readonly cleared: number }

/** Everything is there when this resolves. A page is on its way while the engine reads the next. */
export async function sendParts(sending: Sending, begun: Begun, pages: readonly number[]): Promise<void> {
  const sender = new Sender(sending, begun)
  const { batch, signal, sql } = sending
  let next = pages[0] === undefined ? undefined : pageOf(batch, pages[0], sql.several)
  try {
    for (const page of pages.keys()) {
      const parts = (await next) ?? []
      signal.throwIfAborted()
      const sent = sender.send(parts)
      const following = pages[page + 1]
      next = following === undefined ? undefined : pageOf(batch, following, sql.several)
      next?.catch(() => undefined) // it may fail before it is awaited
      await sent
    }
  } finally {
    await next?.catch(() => undefined) // the session is not left at work; what failed before is the reason
  }
}

class Sender {
  readonly #sending: Sending
  readonly #script
  readonly #names: string
  /** Of each slot: digest of its parts so far. */
  readonly #digests = new Map<number, string>()
  #begun: Begun

  constructor(sending: Sending, begun: Begun) {
    this.#sending = sending
    this.#begun = begun
    this.#script = partScript(sending.options.as)
    this.#names = JSON.stringify(sending.sql.names)
  }

  async send(parts: readonly Part[]): Promise<void> {
    const signed = parts.map((part) => ({ ...part, ...this.#signed(part) }))
    const answers = await Promise.all(signed.map((part) => this.#apply(part)))
    const stale = answers.flatMap((answer) => (answer.state === 'stale' ? [answer.cleared] : []))
    if (stale.length > 0) this.#begun = await this.#sending.renew(Math.max(...stale))
    // A part may have overtaken the one before it, where the client was sent to another node: now one after the other.
    const left = signed.filter((_, index) => answers[index]?.state === 'gap' || answers[index]?.state === 'stale')
    for (const part of left) {
      const { state } = await this.#apply(part)
      if (state === 'gap' || state === 'stale')
        throw new AdflowError('STORE_UNAVAILABLE', `the server has lost parts of a batch that it had taken`, {
          hint: 'the next attempt sends what is missing; see `wait` and min-replicas-to-write',
        })
    }
  }

  #signed({ slot, keys, values }: Part): { readonly before: string; readonly after: string } {
    const before = this.#digests.get(slot) ?? ''
    const after = hash('sha1', `${before}\n${JSON.stringify(keys)}\n${values}`).slice(0, 16)
    this.#digests.set(slot, after)
    return { before, after }
  }

  async #apply(part: Part & { readonly before: string; readonly after: string }): Promise<Answer> {
    const { batch, client, options, target } = this.#sending
    const { id, newest, open, ticket } = this.#begun
    const { slot, number, keys, values, before, after } = part
    const fence = `${options.prefix}${OWN_KEYS}${target}:{${tagOf(slot)}}`
    const args = [id, ticket, number, before, after, newest, open, options.ttl ?? '', this.#names, values]
    const answer = await runScript(client, this.#script, [fence, ...keys], [...args, options.max_length ?? ''])
    const [state, value] = answer as readonly [string, number]
    if (state === 'applied' || state === 'held' || state === 'gap') return { state }
    if (state === 'stale') return { state, cleared: Number(value) }
    const name = batch.token.slice(0, 12)
    if (state === 'differs')
      throw new AdflowError(
        'STORE_MISMATCH',
        `batch ${name} was begun with other rows, or with rows in another order`,
        {
          hint: 'its steps must give the same rows each time: load the range anew with an audited replay',
        },
      )
    throw new AdflowError('STORE_DAMAGED', `a part of batch ${name} was begun and not ended by the server (${fence})`, {
      hint: 'see the log of the server; compare the keys of this part, then remove the entry from that hash by hand',
    })
  }
}
