/** The last stage of a pipe: rows of one output into its loaders. What a loader has taken once it does not take again. */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import type { Chunk, Column } from '../core/contracts.ts'
import { AdflowError, localIoError } from '../core/errors.ts'
import type { JobLoader } from '../core/job/job.ts'
import { redact } from '../core/job/secrets.ts'
import { tokenOf } from '../core/token.ts'
import { MAIN } from './pipeline.ts'
import { Spool } from './spool.ts'
import { loadersOf, loading, outputColumns } from './stage-jobs.ts'
import { addCounts, emptyStage, type StageSummary } from './stage-summary.ts'
import { chunksOf, refuseUnreadable, type StageInput, type StageOptions } from './stages.ts'
import { type Delivery, Store } from './store.ts'
import { Workbench } from './workbench.ts'

export interface LoadOptions extends StageOptions {
  readonly inputs: readonly StageInput[]
  /** Ids of loaders; undefined: all that load the output. */
  readonly to?: readonly string[]
  /** The output that the rows are of. Default: that of the loaders named, else `main`. */
  readonly output?: string
}

/** @throws AdflowError STORE_UNAVAILABLE where a store did not take everything, DATA_REJECTED where rows cannot be read. */
export async function loadStage(options: LoadOptions): Promise<StageSummary> {
  const { job, registry, signal } = options
  const { loaders, output } = loadersOf(job, options.to, options.output)
  const columns = await outputColumns(job, registry, output)
  const summary = emptyStage('load', job.name)
  const started = Date.now()
  const bench = await Workbench.open({ ...options, job: loading(job, columns, loaders), outputs: [MAIN] })
  try {
    const stage = new LoadStage(bench, options, summary, output)
    await stage.open()
    await stage.run(loaders.some(replaces))
    await stage.finish()
  } catch (error) {
    if (!signal.aborted) throw error
  } finally {
    summary.seconds = (Date.now() - started) / 1000
    await bench.close()
  }
  return summary
}

class LoadStage {
  readonly #bench: Workbench
  readonly #options: LoadOptions
  readonly #summary: StageSummary
  readonly #output: string
  readonly #stores: Store[] = []
  #sequence = 0n

  constructor(bench: Workbench, options: LoadOptions, summary: StageSummary, output: string) {
    this.#bench = bench
    this.#options = options
    this.#summary = summary
    this.#output = output
  }

  async open(): Promise<void> {
    const { job, signal } = this.#options
    const { session, state, workshop, pipeline } = this.#bench
    for (const { config, loader, unavailable } of workshop.loaders) {
      const spool = new Spool(state.spoolOf(config.id))
      await spool.open()
      const store = new Store({ config, loader, spool, job, signal, paid: async () => undefined })
      if (unavailable === undefined) await store.open(session, columnsOf(pipeline.outputs))
      else store.down = unavailable
      this.#stores.push(store)
      this.#summary.stores[store.id] = { loaded: 0, repeated: 0 }
    }
    this.#stopWithoutStores()
  }

  /** `whole`: the identity of each part depends on all of the input. A loader that replaces its table must not take the
   *  first part of other rows for one that it has. */
  async run(whole: boolean): Promise<void> {
    const { rejects, inputs } = this.#options
    const staged = whole ? await stage(inputs, join(this.#bench.state.chunks, 'whole.ndjson')) : undefined
    const from = { ...this.#options, inputs: staged === undefined ? inputs : [staged.input] }
    for await (const { chunk, source } of chunksOf(this.#bench, from)) {
      const digest = await sha256(createReadStream(chunk.file))
      const lane = staged === undefined ? digest : `${digest} of ${staged.digest}`
      await this.#write({ ...chunk, digest, range: { ...chunk.range, lane } }, source, rejects === undefined)
      await chunk.release()
      this.#stopWithoutStores()
    }
  }

  async #write(chunk: Chunk, source: string, strict: boolean): Promise<void> {
    const { job, rejects } = this.#options
    const clock = new Date().toISOString()
    const { range, digest, origin } = chunk
    const parts = { job: job.name, source, range, epoch: '0' }
    const token = tokenOf(this.#output === MAIN ? parts : { ...parts, output: this.#output })
    const refined = await this.#bench.refine(chunk, { token, source, clock, stores: this.#stores })
    if (strict) refuseUnreadable(chunk, refined)
    await rejects?.add({ token, source, range, clock, origin }, refined.quarantine)
    addCounts(this.#summary, refined.counts)
    const rows = refined.outputs.get(MAIN)
    if (rows === undefined) throw new AdflowError('UNEXPECTED', 'the rows to load have no main output')
    this.#sequence += 1n
    const sequence = String(this.#sequence)
    const batch = { job: job.name, source, range, token, digest, clock, sequence, origin, batch: token, ...rows }
    for (const store of this.#stores) if (store.down === undefined) await this.#deliver(store, batch)
    this.#summary.written += refined.rows
  }

  /** The input may not come again, so a store in trouble does not keep the others from it. */
  async #deliver(store: Store, delivery: Delivery): Promise<void> {
    const { session } = this.#bench
    const first = await store.attempt(delivery, session)
    if (first instanceof AdflowError && !first.retryable) {
      store.down = first
      return
    }
    const outcome = first instanceof AdflowError ? await store.persist(delivery, session, first) : first
    const line = this.#summary.stores[store.id]
    if (line !== undefined && outcome.status !== 'owed') line[outcome.status] += outcome.rows
  }

  async finish(): Promise<void> {
    for (const store of this.#stores)
      if (store.down === undefined) await store.loader.finish?.({ engine: this.#bench.session, complete: true })
    const down = this.#stores.filter((store) => store.down !== undefined)
    if (down.length > 0) throw storesDown(down)
  }

  #stopWithoutStores(): void {
    if (this.#stores.every((store) => store.down !== undefined)) throw storesDown(this.#stores)
  }
}

function storesDown(stores: readonly Store[]): AdflowError {
  const [first] = stores
  const reasons = stores.map(({ id, down }) => `${id}: ${redact(down?.message ?? '')}`)
  return new AdflowError(first?.down?.code ?? 'STORE_UNAVAILABLE', `not all rows were loaded — ${reasons.join('; ')}`, {
    cause: first?.down,
    hint: `${first?.down?.hint ?? 'mend the store'}; then load the same rows again: what is there already is not loaded twice`,
  })
}

function columnsOf(outputs: Workbench['pipeline']['outputs']): readonly Column[] {
  return outputs.get(MAIN)?.relation.columns ?? []
}

function replaces({ options }: JobLoader): boolean {
  return typeof options === 'object' && options !== null && 'write' in options && options.write === 'replace'
}

async function sha256(stream: AsyncIterable<Uint8Array>): Promise<string> {
  const sum = createHash('sha256')
  for await (const piece of stream) sum.update(piece)
  return `sha256:${sum.digest('hex')}`
}

/** All inputs in one file, and the digest of it. */
async function stage(inputs: readonly StageInput[], file: string): Promise<{ input: StageInput; digest: string }> {
  const handle = await open(file, 'wx')
  try {
    for (const input of inputs) {
      let last: number | undefined
      for await (const piece of input.open()) {
        await handle.writeFile(piece)
        last = piece.at(-1) ?? last
      }
      if (last !== undefined && last !== 10) await handle.writeFile('\n')
    }
  } catch (error) {
    throw localIoError(error, `keep the rows to load in ${file}`)
  } finally {
    await handle.close()
  }
  const input = { name: inputs.map(({ name }) => name).join(', '), open: () => createReadStream(file) }
  return { input, digest: await sha256(createReadStream(file)) }
}
