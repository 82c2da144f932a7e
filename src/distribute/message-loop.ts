/**
 * Sends the messages of one consumer: several at a time, those of a key in order, the failed again after a pause, what is
 * refused or late to the dead letters. Each consumer has a loop of its own, so one in trouble slows nobody.
 */
import { isBrokenCircuitError } from 'cockatiel'
import type { Answer, MessageConsumer } from '../core/consumer.ts'
import { mayGoOn } from '../core/durable-copy.ts'
import { redact } from '../core/job/secrets.ts'
import { type ConsumerEnd, type ConsumerWork, pauseMs, switchOff } from './consumer-work.ts'
import { Endpoint } from './endpoint.ts'
import { MessageFeed } from './message-feed.ts'
import { type Item, Window } from './window.ts'

/** What is read ahead of what is under way: enough to pass by keys that are held up. */
const WINDOW_MESSAGES = 1000
const WINDOW_CHARACTERS = 4_000_000
/** Longest nap, so that a changed clock does no lasting harm. */
const NAP_MS = 30_000

export class MessageLoop {
  readonly #work: ConsumerWork
  readonly #consumer: MessageConsumer
  readonly #feed: MessageFeed
  readonly #endpoints: readonly Endpoint[]
  readonly #window = new Window()
  #turn = 0
  #fed = false
  #progressMs = Date.now()
  #wake = Promise.withResolvers<void>()
  #failure: { readonly error: unknown } | undefined
  #lastReason: string | undefined

  constructor(work: ConsumerWork, consumer: MessageConsumer) {
    this.#work = work
    this.#consumer = consumer
    this.#feed = new MessageFeed(work, consumer)
    this.#endpoints = consumer.endpoints.map((name) => new Endpoint(name, work.config))
  }

  /** Resolves when everything is through, or what is left has to wait. Rejects where the local disk or a statement fails. */
  async run(): Promise<ConsumerEnd> {
    const { signal } = this.#work
    const wake = () => this.#wake.resolve()
    signal.addEventListener('abort', wake)
    try {
      while (this.#failure === undefined && this.#stopped() === undefined) {
        await this.#fill()
        if (this.#fed && this.#window.size === 0) break
        this.#startAll()
        await this.#nap()
      }
    } catch (error) {
      this.#failure ??= { error }
    } finally {
      signal.removeEventListener('abort', wake)
    }
    while (this.#window.underWay > 0) await this.#woken()
    const reason = this.#fed && this.#window.size === 0 ? undefined : (this.#stopped() ?? 'an error ended it')
    await this.#feed.end(reason ?? '')
    if (this.#failure !== undefined) throw this.#failure.error
    const { delivered, dead } = this.#feed
    return { delivered, dead, reason, settledRows: (token) => this.#feed.settledRows(token) }
  }

  /** Why nothing more is sent. */
  #stopped(): string | undefined {
    const { state, signal, untilMs, patienceMs } = this.#work
    const last = this.#lastReason === undefined ? '' : `: ${this.#lastReason}`
    if (state.off !== undefined) return `it is switched off: ${state.off.reason}`
    if (signal.aborted) return 'the run was stopped'
    const now = Date.now()
    if (now >= untilMs) return `the time for it is up${last}`
    return now >= this.#progressMs + patienceMs
      ? `it has taken nothing for ${Math.round(patienceMs / 1000)} s${last}`
      : undefined
  }

  async #fill(): Promise<void> {
    const started = Date.now()
    while (!this.#fed && this.#window.size < WINDOW_MESSAGES && this.#window.bytes < WINDOW_CHARACTERS) {
      const item = await this.#feed.next()
      if (item === undefined) this.#fed = true
      else this.#window.add(item)
    }
    // The time in which messages are made and read is not the consumer's.
    this.#progressMs += Date.now() - started
  }

  #startAll(): void {
    while (this.#window.underWay < this.#work.config.concurrency) {
      const item = this.#window.next(Date.now())
      const endpoint = item === undefined ? undefined : this.#endpoint(Date.now())
      if (item === undefined || endpoint === undefined) return
      this.#window.start(item)
      this.#attempt(item, endpoint)
        .catch((error: unknown) => {
          this.#failure ??= { error }
          this.#window.stop(item, 0)
        })
        .finally(() => this.#wake.resolve())
    }
  }

  /** In turn, those that are available. */
  #endpoint(nowMs: number): Endpoint | undefined {
    for (let step = 0; step < this.#endpoints.length; step += 1) {
      const endpoint = this.#endpoints[(this.#turn + step) % this.#endpoints.length]
      const at = endpoint?.availableAt
      if (endpoint === undefined || at === undefined || at > nowMs) continue
      this.#turn = (this.#turn + step + 1) % this.#endpoints.length
      return endpoint
    }
    return undefined
  }

  async #nap(): Promise<void> {
    const now = Date.now()
    const opens = this.#endpoints.flatMap(({ availableAt }) => availableAt ?? [])
    const due = this.#window.underWay < this.#work.config.concurrency ? this.#window.nextAt() : undefined
    const next = due === undefined ? now + NAP_MS : Math.max(due, Math.min(...opens, now + NAP_MS))
    const until = Math.min(next, now + NAP_MS, this.#work.untilMs, this.#progressMs + this.#work.patienceMs)
    const timer = setTimeout(() => this.#wake.resolve(), Math.max(1, until - now))
    await this.#woken()
    clearTimeout(timer)
  }

  async #woken(): Promise<void> {
    await this.#wake.promise
    this.#wake = Promise.withResolvers()
  }

  async #attempt(item: Item, endpoint: Endpoint): Promise<void> {
    let answer: Answer
    try {
      answer = await endpoint.try(() => this.#send(item, endpoint))
    } catch (error) {
      if (!isBrokenCircuitError(error)) throw error
      this.#window.stop(item, Date.now())
      return
    }
    const now = Date.now()
    const tries = { attempts: item.attempts, firstMs: item.firstMs ?? now }
    switch (answer.outcome) {
      case 'delivered':
        await item.origin.delivered(item.message)
        break
      case 'refused':
        await this.#bury(item, answer.reason, tries)
        break
      case 'gone':
        await switchOff(this.#work, answer.reason)
        this.#window.stop(item, 0)
        return
      case 'again': {
        const { retry } = this.#work.config
        this.#lastReason = redact(answer.reason)
        const asked = Math.min(answer.afterMs ?? 0, retry.maxMs)
        if (answer.afterMs !== undefined) endpoint.pauseUntil(now + asked)
        const next = now + Math.max(asked, pauseMs(retry, item.attempts))
        if (next < tries.firstMs + retry.deadlineMs) {
          await item.origin.tried(item.message, tries)
          this.#window.stop(item, next)
          return
        }
        await this.#bury(item, `not delivered by its deadline: ${answer.reason}`, tries)
      }
    }
    this.#progressMs = Date.now()
    this.#window.remove(item)
  }

  async #send(item: Item, endpoint: Endpoint): Promise<Answer> {
    mayGoOn(this.#work.state.folder)
    item.attempts += 1
    item.firstMs ??= Date.now()
    try {
      // What is under way is finished, within the consumer's own time-outs, also when the run is stopped.
      return await this.#consumer.send(item.message, { endpoint: endpoint.name, signal: new AbortController().signal })
    } catch (error) {
      return { outcome: 'again', reason: error instanceof Error ? error.message : String(error) }
    }
  }

  async #bury(item: Item, reason: string, tries: { attempts: number; firstMs: number }): Promise<void> {
    const { config, log } = this.#work
    log.info({ consumer: config.id, id: item.message.id, attempts: tries.attempts }, redact(`dead letter: ${reason}`))
    await item.origin.dead(item.message, reason, tries)
  }
}
