/** Hands whole batches to one consumer, one after the other. One that it does not take holds up those behind it. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Answer, BatchConsumer } from '../core/consumer.ts'
import type { LoadBatch } from '../core/contracts.ts'
import { mayGoOn } from '../core/durable-copy.ts'
import { redact } from '../core/job/secrets.ts'
import { encode } from '../engine/encode.ts'
import type { Session } from '../engine/session.ts'
import { literal } from '../engine/sql-text.ts'
import { rowsFor } from '../runtime/consumer-rows.ts'
import type { OutboxFile } from '../runtime/outbox.ts'
import { type ConsumerEnd, type ConsumerWork, pauseMs, switchOff } from './consumer-work.ts'
import { FileMoves } from './file-moves.ts'
import { Progress } from './progress.ts'

const NOTHING = { delivered: 0, dead: 0 }

export class BatchLoop {
  readonly #work: ConsumerWork
  readonly #consumer: BatchConsumer
  #delivered = 0
  #progressMs = Date.now()

  constructor(work: ConsumerWork, consumer: BatchConsumer) {
    this.#work = work
    this.#consumer = consumer
  }

  async run(): Promise<ConsumerEnd> {
    let reason: string | undefined
    for (const file of this.#work.files) {
      reason = await this.#deliver(file)
      if (reason !== undefined) break
    }
    return { delivered: this.#delivered, dead: 0, settledRows: () => 0, reason }
  }

  /** Why it was not taken; undefined: it was. */
  async #deliver(file: OutboxFile): Promise<string | undefined> {
    const early = this.#stopped()
    if (early !== undefined) return early
    const { config, ledger, state } = this.#work
    const session = await this.#work.session()
    const batch = await this.#batch(file, session)
    const progress = await Progress.open(state.messages.progressFile(file.token))
    const moves = new FileMoves(ledger, file.token, config.id, !progress.fresh)
    await moves.to('distribution.running', NOTHING)
    const tries = progress.triesOf(0) ?? { attempts: 0, firstMs: Date.now() }
    await progress.tried(0, { ...tries, attempts: tries.attempts + 1 })
    await progress.close()
    const why = await this.#untilTaken(batch)
    if (why !== undefined) {
      await moves.owed(NOTHING, why)
      return why
    }
    const rows = Number(await session.value(`SELECT count(*) FROM ${batch.relation} AS batch`))
    await state.passed.add(file.token)
    await moves.to('distribution.completed', { delivered: rows, dead: 0 })
    await state.messages.remove(file.token)
    this.#delivered += rows
    this.#progressMs = Date.now()
    await this.#work.passed(file)
    return undefined
  }

  async #untilTaken(batch: LoadBatch): Promise<string | undefined> {
    const { config, signal } = this.#work
    for (let attempts = 1; ; attempts += 1) {
      const answer = await this.#attempt(batch, attempts)
      if (answer.outcome === 'delivered') return undefined
      if (answer.outcome === 'gone') await switchOff(this.#work, answer.reason)
      if (answer.outcome !== 'again') return redact(`it does not take it: ${answer.reason}`)
      const asked = Math.min(answer.afterMs ?? 0, config.retry.maxMs)
      const pause = Math.max(pauseMs(config.retry, attempts), asked)
      const over = this.#stopped(pause)
      if (over !== undefined) return redact(`${over}: ${answer.reason}`)
      await sleep(pause, undefined, { signal }).catch(() => undefined)
    }
  }

  async #attempt(batch: LoadBatch, attempts: number): Promise<Answer> {
    const { endpoints } = this.#consumer
    const endpoint = endpoints[(attempts - 1) % endpoints.length] ?? ''
    mayGoOn(this.#work.state.folder)
    try {
      return await this.#consumer.send(batch, { endpoint, signal: this.#work.signal })
    } catch (error) {
      return { outcome: 'again', reason: error instanceof Error ? error.message : String(error) }
    }
  }

  /** Why nothing more is handed over; `pause` is how long the next attempt would wait. */
  #stopped(pause = 0): string | undefined {
    const { state, signal, untilMs, patienceMs } = this.#work
    if (state.off !== undefined) return `it is switched off: ${state.off.reason}`
    if (signal.aborted) return 'the run was stopped'
    const next = Date.now() + pause
    if (next >= untilMs) return 'the time for it is up'
    return next >= this.#progressMs + patienceMs
      ? `it has taken nothing for ${Math.round(patienceMs / 1000)} s`
      : undefined
  }

  async #batch(file: OutboxFile, session: Session): Promise<LoadBatch> {
    const { config, outbox } = this.#work
    await session.run(`CREATE OR REPLACE TEMP MACRO now() AS TIMESTAMPTZ ${literal(file.clock)}`)
    const relation = `(${rowsFor(config, file.columns, `(${outbox.rows(file)})`)})`
    const columns = await session.describe(`SELECT * FROM ${relation}`)
    const { job, source, range, token, digest, clock } = file
    return {
      job,
      source,
      range,
      token,
      digest,
      clock,
      columns: columns.map((column) => ({ ...column, from: [] })),
      relation,
      engine: session,
      encode: (format, options) => encode(session, relation, format, options),
    }
  }
}
