/**
 * Tells a lineage transport of one run, beside the run: it neither waits nor fails where the transport does. Events go one after
 * the other; while one is on its way no other than the last of a run is made, so that nothing piles up.
 */
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Logger } from 'pino'
import type { Job } from '../core/job/job.ts'
import { redact } from '../core/job/secrets.ts'
import type { Registry } from '../core/registry.ts'
import type { LineageTransport } from '../core/transport.ts'
import type { LedgerEvent } from '../lineage/events.ts'
import type { LineageGraph } from '../lineage/graph.ts'
import { type RunEventType, type RunIdentity, type RunMoment, runEvent } from '../lineage/openlineage.ts'
import { RunTally } from '../lineage/run-tally.ts'
import { assertionsOf } from './assertions.ts'
import { type LineageConfig, lineageConfig } from './lineage-config.ts'
import { lineageGraph } from './lineage-graph.ts'
import { LineageOutbox } from './lineage-outbox.ts'
import { sqlOfChain } from './plan-sql.ts'
import type { StateDir } from './state-dir.ts'
import type { RunSummary } from './summary.ts'
import type { Workshop } from './workshop.ts'

/** A long run says what it has done so far. */
const RUNNING_EVERY_MS = 60_000

export interface RunLineageOptions {
  readonly job: Job
  readonly registry: Registry
  readonly state: StateDir
  readonly log: Logger
  readonly run: string
  readonly version: string
  readonly workshop: Workshop
  warn(text: string): void
}

export class RunLineage {
  readonly #options: RunLineageOptions
  readonly #config: LineageConfig
  readonly #transport: LineageTransport
  readonly #outbox: LineageOutbox
  readonly #identity: RunIdentity
  readonly #graph: LineageGraph
  readonly #tally = new RunTally()
  readonly #stop = new AbortController()
  /** The outbox knows of this run. */
  #prepared: Promise<void> = Promise.resolve()
  #queue: Promise<void> = Promise.resolve()
  #busy = false
  #lastAt = Date.now()
  #failures: string[] = []

  /** Undefined where neither the job nor the environment asks for events. */
  static async start(options: RunLineageOptions): Promise<RunLineage | undefined> {
    try {
      const config = await lineageConfig(options.job, options.registry, process.env, options.warn)
      if (config === undefined) return undefined
      const lineage = new RunLineage(options, config)
      lineage.#begin()
      return lineage
    } catch (error) {
      options.warn(`lineage events cannot be made: ${messageOf(error)}; the run is not affected`)
      return undefined
    }
  }

  private constructor(options: RunLineageOptions, config: LineageConfig) {
    const { job, log, run, version, workshop, state } = options
    const { pipeline } = workshop
    this.#options = options
    this.#config = config
    this.#transport = config.definition.create(config.options, {
      id: 'lineage',
      job: job.name,
      baseDir: job.baseDir,
      log,
    })
    this.#outbox = new LineageOutbox(join(state.path, 'lineage'))
    this.#graph = lineageGraph({
      pipeline,
      sources: workshop.extractors.map(({ config: { id, type }, extractor }) => ({
        id,
        type,
        dataset: extractor.dataset(),
      })),
      stores: workshop.loaders.map(({ config: { id, type, input }, loader }) => ({
        id,
        type,
        input,
        dataset: loader.dataset(),
      })),
    })
    this.#identity = {
      run,
      namespace: config.namespace,
      job: job.name,
      description: job.description,
      version,
      parent: config.parent,
      sql: sqlOfChain(pipeline)
        .filter(({ name }) => name !== 'read')
        .map(({ name, what, sql }) => `-- ${name} — ${what}\n${sql};`)
        .join('\n'),
      assertions: assertionsOf(pipeline),
    }
  }

  /** Events of the ledger, once they are durable. */
  take(events: readonly LedgerEvent[]): void {
    try {
      this.#tally.take(events)
      if (this.#busy || Date.now() - this.#lastAt < RUNNING_EVERY_MS) return
      const event = this.#event('RUNNING', { tally: this.#tally })
      this.#enqueue(() => this.#send(event))
    } catch (error) {
      this.#failures.push(messageOf(error)) // the append that called has succeeded, whatever is wrong here
    }
  }

  /** Waits for what is on its way, at most `lineage.timeout`; what is left then is sent by the next run. */
  async end(summary: RunSummary): Promise<void> {
    const { job, warn, run } = this.#options
    for (const rule of job.batchRules)
      if (rule.kind === 'rows' && outside(summary.passed, rule))
        for (const source of this.#tally.sources.values()) source.failed.set(rule.id, `${summary.passed} rows passed`)
    const type = summary.status === 'interrupted' ? 'ABORT' : summary.exit === 0 ? 'COMPLETE' : 'FAIL'
    const sizes = await sizesOf(this.#tally)
    const event = this.#event(type, { tally: this.#tally, sizes, ...errorOf(summary) })
    await this.#prepared
    await this.#locally(() => this.#outbox.put(run, event))
    this.#enqueue(async () => {
      await this.#send(event)
      await this.#outbox.remove(run)
    })
    const timedOut = await this.#settled(job.lineage.timeoutMs)
    if (timedOut) this.#failures.push(`no answer within ${job.lineage.timeoutMs / 1000} s`)
    await this.#transport.close().catch((error: unknown) => this.#failures.push(messageOf(error)))
    const [first] = this.#failures
    if (first !== undefined)
      warn(`lineage events did not reach the transport ${this.#config.type}: ${redact(first)}; the run is not affected`)
  }

  #begin(): void {
    const { run } = this.#options
    const start = this.#event('START', {})
    const cutOff = this.#event('ABORT', { error: 'the run was cut off: it never came to its end' })
    let left: ReadonlyMap<string, Readonly<Record<string, unknown>>> = new Map()
    this.#prepared = this.#locally(async () => {
      const { events, lost } = await this.#outbox.left(run)
      if (lost > 0) this.#failures.push(`the ends of ${lost} earlier runs are given up`)
      left = events
      await this.#outbox.put(run, cutOff)
    })
    this.#enqueue(async () => {
      await this.#prepared
      for (const [earlier, event] of left) {
        await this.#send(event)
        await this.#outbox.remove(earlier)
      }
    })
    this.#enqueue(() => this.#send(start))
  }

  /** Without the outbox events still go out; what is lost is their repetition. */
  async #locally(work: () => Promise<void>): Promise<void> {
    try {
      await work()
    } catch (error) {
      this.#failures.push(messageOf(error))
    }
  }

  #event(type: RunEventType, moment: Omit<RunMoment, 'type' | 'at'>): Readonly<Record<string, unknown>> {
    this.#lastAt = Date.now()
    return runEvent(this.#identity, this.#graph, { type, at: new Date().toISOString(), ...moment })
  }

  async #send(event: Readonly<Record<string, unknown>>): Promise<void> {
    this.#stop.signal.throwIfAborted()
    await this.#transport.send(event, { signal: this.#stop.signal })
  }

  #enqueue(work: () => Promise<void>): void {
    this.#busy = true
    this.#queue = this.#queue
      .then(work)
      .catch((error: unknown) => void this.#failures.push(messageOf(error)))
      .finally(() => {
        this.#busy = false
      })
  }

  /** true: it was not done in time, and was told to stop. */
  async #settled(timeoutMs: number): Promise<boolean> {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<'late'>((resolve) => {
      timer = setTimeout(() => resolve('late'), timeoutMs)
    })
    const first = await Promise.race([this.#queue, late])
    clearTimeout(timer)
    if (first === 'late') this.#stop.abort(new Error('the run has ended'))
    return first === 'late'
  }
}

function outside(
  rows: number,
  { min, max }: { readonly min: number | undefined; readonly max: number | undefined },
): boolean {
  return rows < (min ?? 0) || rows > (max ?? Number.POSITIVE_INFINITY)
}

function errorOf({ error }: RunSummary): { error?: string } {
  return error === undefined ? {} : { error: `${error.code}: ${error.message}` }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

/** Of stores whose places are local files; a store that holds anything else has no size here. */
async function sizesOf({ stores }: RunTally): Promise<ReadonlyMap<string, number>> {
  const sizes = new Map<string, number>()
  for (const [id, { outputs, cut }] of stores) {
    if (cut || outputs.size === 0) continue
    let bytes: number | undefined = 0
    for (const path of outputs) {
      const size: number | undefined = await stat(path).then(
        (found) => found.size,
        () => undefined,
      )
      bytes = size === undefined || bytes === undefined ? undefined : bytes + size
      if (bytes === undefined) break
    }
    if (bytes !== undefined) sizes.set(id, bytes)
  }
  return sizes
}
