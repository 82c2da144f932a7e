/**
 * Works off the outbox: a loop for each consumer, each at its own place, and a batch leaves the outbox when all of them have
 * had it. What a kill leaves is in docs/distribute.md.
 */
import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Consumer } from '../core/consumer.ts'
import { AdflowError, localIoError } from '../core/errors.ts'
import type { JobConsumer } from '../core/job/job.ts'
import { redact } from '../core/job/secrets.ts'
import { Engine, type Session } from '../engine/session.ts'
import type { ConsumerSummary, Distribution, DistributionWork } from '../runtime/distribution.ts'
import type { OutboxFile } from '../runtime/outbox.ts'
import { BatchLoop } from './batch-loop.ts'
import { ConsumerState } from './consumer-state.ts'
import type { ConsumerEnd, ConsumerWork } from './consumer-work.ts'
import { MessageLoop } from './message-loop.ts'

export interface DistributeLimits {
  /** Ids of consumers; undefined: all. */
  readonly only?: readonly string[]
  /** Go on until nothing waits, however long a consumer takes nothing. */
  readonly untilEmpty?: boolean
  readonly timeoutMs?: number
}

/** Largest memory of the engine that makes messages, beside that of the run. */
const ENGINE_BYTES = 256_000_000

export function distribution(limits: DistributeLimits = {}): Distribution {
  return { workOff: (work) => new Distributor(work, limits).run() }
}

interface Lane {
  readonly config: JobConsumer
  readonly state: ConsumerState
}

class Distributor {
  readonly #work: DistributionWork
  readonly #limits: DistributeLimits
  readonly #untilMs: number
  #engine: Promise<Engine> | undefined
  readonly #sessions: Session[] = []
  #passing: Promise<void> = Promise.resolve()
  #lanes: readonly Lane[] = []

  constructor(work: DistributionWork, limits: DistributeLimits) {
    this.#work = work
    this.#limits = limits
    this.#untilMs = Date.now() + (limits.timeoutMs ?? Number.POSITIVE_INFINITY)
  }

  async run(): Promise<Readonly<Record<string, ConsumerSummary>>> {
    const { job, state, outbox } = this.#work
    const lanes: Lane[] = []
    try {
      for (const config of job.distribute)
        lanes.push({ config, state: await ConsumerState.open(state.consumerOf(config.id)) })
      this.#lanes = lanes
      // What every consumer had had when a kill came before it could leave the outbox.
      for (const file of outbox.files) await this.#leave(file)
      const ends = await Promise.allSettled(lanes.map((lane) => this.#runLane(lane)))
      const found = lanes.map((lane, index) => {
        const end = ends[index]
        if (end?.status === 'rejected') throw end.reason
        return { lane, end: end?.value }
      })
      const summaries: Record<string, ConsumerSummary> = {}
      for (const { lane, end } of found) summaries[lane.config.id] = await this.#summary(lane, end)
      return summaries
    } finally {
      for (const lane of lanes) await lane.state.close()
      for (const session of this.#sessions) session.close()
      if (this.#engine !== undefined) (await this.#engine).close()
      await rm(this.#tempFolder, { recursive: true, force: true })
    }
  }

  async #runLane({ config, state }: Lane): Promise<ConsumerEnd | undefined> {
    if (this.#limits.only?.includes(config.id) === false) return undefined
    const files = this.#filesOf(config, state)
    if (files.length === 0 && state.letters.all.every((letter) => letter.state === 'dead')) return undefined
    const nothing = { delivered: 0, dead: 0, settledRows: () => 0 }
    if (state.off !== undefined)
      return {
        ...nothing,
        reason: `it is switched off since ${state.off.at}: ${state.off.reason}; switch it on with \`adflow distribute --switch-on ${config.id}\``,
      }
    let session: Promise<Session> | undefined
    const work: ConsumerWork = {
      ...this.#work,
      config,
      state,
      files,
      untilMs: this.#untilMs,
      patienceMs: this.#limits.untilEmpty === true ? Number.POSITIVE_INFINITY : config.patienceMs,
      session: () => {
        session ??= this.#connect()
        return session
      },
      passed: (file) => this.#passed(file),
    }
    let consumer: Consumer | undefined
    try {
      consumer = await this.#create(config)
      return await (consumer.takes === 'messages'
        ? new MessageLoop(work, consumer)
        : new BatchLoop(work, consumer)
      ).run()
    } catch (error) {
      // An expression that fails on a row, or a folder that cannot be made, stops this consumer and no other.
      if (!(error instanceof AdflowError) || !['ENGINE_FAILED', 'CONSUMER_UNAVAILABLE'].includes(error.code))
        throw error
      return { ...nothing, reason: redact(error.message) }
    } finally {
      await consumer?.close()
    }
  }

  /** Batches whose turn has come: none of its lane before it is still planned, or rows of a key would change places. */
  #filesOf(config: JobConsumer, { passed }: ConsumerState): readonly OutboxFile[] {
    const { outbox, planned } = this.#work
    return outbox.files
      .filter(({ output, token }) => output === config.input && !passed.has(token))
      .filter(({ source, range, sequence }) =>
        planned.every(
          (plan) => plan.source !== source || plan.lane !== range.lane || BigInt(plan.sequence) >= BigInt(sequence),
        ),
      )
  }

  /** One at a time: two consumers may be through with a batch at once. */
  #passed(file: OutboxFile): Promise<void> {
    this.#passing = this.#passing.then(() => this.#leave(file))
    return this.#passing
  }

  async #leave(file: OutboxFile): Promise<void> {
    const { ledger, outbox } = this.#work
    const consumers = this.#lanes.filter(({ config }) => config.input === file.output)
    if (!consumers.every(({ state }) => state.passed.has(file.token))) return
    await outbox.pass(file)
    if (outbox.files.some(({ batch }) => batch === file.batch)) return
    const where = { type: 'batch_moved' as const, token: file.batch, source: file.source, ...file.range }
    await ledger.append([
      { ...where, state: 'distribution.running', before_state: 'distribution.pending' },
      { ...where, state: 'distribution.completed', before_state: 'distribution.running' },
      { ...where, state: 'done', before_state: 'distribution.completed' },
    ])
  }

  async #create(config: JobConsumer): Promise<Consumer> {
    const { job, registry, log } = this.#work
    const definition = await registry.get('consumer', config.type)
    const env = { id: config.id, job: job.name, baseDir: job.baseDir, log: log.child({ component_id: config.id }) }
    try {
      return definition.create(config.options, env)
    } catch (error) {
      throw unavailable(config.id, error)
    }
  }

  async #connect(): Promise<Session> {
    this.#engine ??= this.#openEngine()
    const session = await (await this.#engine).connect()
    this.#sessions.push(session)
    return session
  }

  /** Of its own: the engine of the run is open still, and two that spill into one folder take each other's files. */
  get #tempFolder(): string {
    const { job, state } = this.#work
    return join(job.resources.tempDirectory ?? state.temp, `distribute-${process.pid}`)
  }

  async #openEngine(): Promise<Engine> {
    const { job, registry, state, log } = this.#work
    const folders = [state.outbox, state.consumers]
    for (const { id, type, options } of job.distribute) {
      const { access } = await registry.get('consumer', type)
      folders.push(...(access?.(options, { id, job: job.name, baseDir: job.baseDir, log }).folders ?? []))
    }
    const tempFolder = this.#tempFolder
    await mkdir(tempFolder, { recursive: true }).catch((error) => {
      throw localIoError(error, `make the folder ${tempFolder}`)
    })
    const { memoryLimitBytes, threads } = job.resources
    const memoryBytes = Math.min(memoryLimitBytes, ENGINE_BYTES)
    return Engine.open({ memoryBytes, threads, tempFolder, folders })
  }

  async #summary({ config, state }: Lane, end: ConsumerEnd | undefined): Promise<ConsumerSummary> {
    const { log, outbox } = this.#work
    let owed = 0
    for (const { output, token, rows } of outbox.files)
      if (output === config.input && !state.passed.has(token))
        owed += ((await state.messages.find(token))?.rows ?? rows) - (end?.settledRows(token) ?? 0)
    for (const letter of state.letters.all) owed += letter.state === 'queued' ? letter.rows : 0
    const { delivered = 0, dead = 0 } = end ?? {}
    if (dead > 0) log.warn({ consumer: config.id }, `${dead} rows for ${config.id} became dead letters`)
    const reason = end?.reason ?? (owed > 0 ? 'its turn has not come' : undefined)
    return { delivered, dead, owed, ...(owed > 0 && reason !== undefined ? { reason } : {}) }
  }
}

function unavailable(id: string, error: unknown): AdflowError {
  const message = error instanceof Error ? error.message : String(error)
  return new AdflowError('CONSUMER_UNAVAILABLE', `cannot open the consumer ${id}: ${message}`, { cause: error })
}
