/** An outbox with rows made by SQL, and what works it off: distribution without a run before it. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import type { Job } from '../../src/core/job/job.ts'
import { readJobText } from '../../src/core/job/load.ts'
import { loadRegistry, type Registry, type RegistryOptions } from '../../src/core/registry.ts'
import { tokenOf } from '../../src/core/token.ts'
import { type DistributeLimits, distribution } from '../../src/distribute/distributor.ts'
import { Engine } from '../../src/engine/session.ts'
import { openLedger } from '../../src/lineage/ledger.ts'
import type { PlannedBatch } from '../../src/runtime/checkpoint-slot.ts'
import type { ConsumerSummary } from '../../src/runtime/distribution.ts'
import { Outbox } from '../../src/runtime/outbox.ts'
import { openStateDir, type StateDir } from '../../src/runtime/state-dir.ts'

export interface OutboxOptions {
  /** The section `distribute` of a job file. */
  readonly distribute: Readonly<Record<string, Readonly<Record<string, unknown>>>>
  readonly extra?: RegistryOptions['extra']
  readonly spool?: Readonly<Record<string, unknown>>
}

const CLOCK = '2026-03-01T12:00:00.000Z'

export class OutboxBench {
  readonly folder = mkdtempSync(join(tmpdir(), 'adflow-outbox-'))
  readonly #registry: Promise<Registry>
  #options: OutboxOptions
  #job: Promise<Job>
  #sequence = 0

  constructor(options: OutboxOptions) {
    this.#options = options
    this.#registry = loadRegistry(options.extra === undefined ? {} : { extra: options.extra })
    this.#job = this.#read()
  }

  get state(): Promise<StateDir> {
    return openStateDir(join(this.folder, 'state'), 'bench')
  }

  get job(): Promise<Job> {
    return this.#job
  }

  /** The job file is another one from now on. */
  change(distribute: OutboxOptions['distribute']): void {
    this.#options = { ...this.#options, distribute }
    this.#job = this.#read()
  }

  async #read(): Promise<Job> {
    const { distribute, spool } = this.#options
    const text = JSON.stringify({
      version: 1,
      name: 'bench',
      extract: { input: { type: 'files', path: 'none/*' } },
      contract: { columns: { id: 'bigint' } },
      load: { archive: { type: 'files', path: 'archive', format: 'parquet' } },
      distribute,
      ...(spool === undefined ? {} : { spool }),
    })
    return readJobText(text, join(this.folder, 'job.yaml'), { registry: await this.#registry })
  }

  /** One batch more; `rows` is a SELECT. The rows that the outbox has of it; undefined: it was passed already. */
  async put(
    rows: string,
    { output = 'main', lane = 'lane', sequence }: { output?: string; lane?: string; sequence?: number } = {},
  ): Promise<number | undefined> {
    const state = await this.state
    const outbox = await this.#outbox()
    const engine = await Engine.open({
      memoryBytes: 200_000_000,
      threads: 1,
      tempFolder: state.temp,
      folders: [state.outbox],
    })
    try {
      const session = await engine.connect()
      const columns = (await session.describe(rows)).map((column) => ({ ...column, from: [] }))
      const at = sequence ?? this.#sequence
      this.#sequence = at + 1
      const range = { lane, from: String(at), to: String(at + 1) }
      const token = tokenOf({ job: 'bench', source: 'input', range, epoch: '0', output })
      const batch = { job: 'bench', source: 'input', range, token, batch: token, digest: 'sha256:0', clock: CLOCK }
      return await outbox.put(output, { ...batch, sequence: String(at), columns, origin: lane }, `(${rows})`, session)
    } finally {
      engine.close()
      await outbox.close()
    }
  }

  /** Works it off as a run would. */
  async workOff(
    limits: DistributeLimits = {},
    { planned = [], signal = new AbortController().signal }: { planned?: PlannedBatch[]; signal?: AbortSignal } = {},
  ): Promise<Readonly<Record<string, ConsumerSummary>>> {
    const state = await this.state
    const ledger = await openLedger(state.ledger, { run: 'bench' })
    const outbox = await this.#outbox()
    const registry = await this.#registry
    const work = {
      job: await this.#job,
      registry,
      state,
      outbox,
      ledger,
      planned,
      log: pino({ level: 'silent' }),
      signal,
    }
    try {
      return await distribution(limits).workOff(work)
    } finally {
      await outbox.close()
      await ledger.close()
    }
  }

  /** Events of the ledger, in order. */
  async events(): Promise<Readonly<Record<string, unknown>>[]> {
    const { ledger } = await this.state
    const names = (await readdir(ledger)).filter((name) => name.endsWith('.ndjson')).sort()
    const lines = names.flatMap((name) => readFileSync(join(ledger, name), 'utf8').split('\n').filter(Boolean))
    return lines.map((line) => JSON.parse(line) as Readonly<Record<string, unknown>>)
  }

  /** Paths of files under the state of the job that are not of the ledger. */
  async files(): Promise<string[]> {
    const { path } = await this.state
    const entries = await readdir(path, { recursive: true, withFileTypes: true })
    const files = entries.filter((entry) => entry.isFile()).map(({ parentPath, name }) => join(parentPath, name))
    return files
      .map((file) => file.slice(path.length + 1))
      .filter((file) => !file.startsWith('ledger'))
      .sort()
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true })
  }

  async #outbox(): Promise<Outbox> {
    const outbox = await Outbox.open(await this.state, await this.#job)
    if (outbox === undefined) throw new Error('the job distributes nothing')
    return outbox
  }
}
