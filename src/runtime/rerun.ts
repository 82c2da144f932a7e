/**
 * Batches of the past, once more: the same ranges are cut again and refined by a job, in a temporary folder, and nothing is
 * loaded. Whoever asks compares: a replay the outputs, a trace the records, a reconciliation the store.
 */
import type { Chunk, Gap, Positions } from '../core/contracts.ts'
import { AdflowError } from '../core/errors.ts'
import { IDLE_SOURCE } from '../core/idle.ts'
import type { JobLoader } from '../core/job/job.ts'
import { toOrdinals } from '../engine/admit.ts'
import type { Session } from '../engine/session.ts'
import { isDataError } from './chain.ts'
import { idleExtractor } from './idle-source.ts'
import { beginningOf, type PastBatch } from './past-batches.ts'
import type { Refined } from './refine.ts'
import { type BenchOptions, Workbench } from './workbench.ts'

/** Temp table of the rows of the batch that was repeated last. */
const ROWS_TABLE = 'repeated_rows'

export interface RepeatedBatch {
  readonly past: PastBatch
  readonly chunk: Chunk
  readonly refined: Refined
  /** SELECT of `__row` and the columns at the end of the row-wise chain. Valid, like everything here, until the next batch is asked for. */
  readonly rows: string
  /** Values of `__row` (ascending) → 0-based ordinals of their records in the chunk. */
  ordinals(rows: readonly number[]): number[]
}

export class Rerun {
  readonly #bench: Workbench
  readonly #options: BenchOptions

  private constructor(bench: Workbench, options: BenchOptions) {
    this.#bench = bench
    this.#options = options
  }

  /** Loaders of the job are left out, but for `stores`: whoever compares has them on the same engine, not opened yet. */
  static async open(options: BenchOptions, stores: readonly JobLoader[] = []): Promise<Rerun> {
    const job = { ...options.job, load: stores }
    return new Rerun(await Workbench.open({ ...options, job }), options)
  }

  /** A folder that the session may read: files put here are gone when the rerun is closed. */
  get folder(): string {
    return this.#bench.state.chunks
  }

  /** Temp tables may be made here; attached files are those of the job's steps, and of the stores. */
  get session(): Session {
    return this.#bench.session
  }

  get workshop(): Workbench['workshop'] {
    return this.#bench.workshop
  }

  /** Scratch folders, which the engine may read and write. */
  get state(): Workbench['state'] {
    return this.#bench.state
  }

  get pipeline(): Workbench['pipeline'] {
    return this.#bench.pipeline
  }

  /** Batches of one source; each lane in order. A range that cannot be read any more comes as a gap.
   *  @throws AdflowError SOURCE_CHANGED where a range has other bytes now */
  async *repeat(
    source: string,
    batches: readonly PastBatch[],
    signal: AbortSignal,
    /** false: the chunk was cut, and need not be refined. */
    wanted: (past: PastBatch, chunk: Chunk) => Promise<boolean> = async () => true,
  ): AsyncGenerator<RepeatedBatch | Gap> {
    if (batches.length === 0) return
    const extractor =
      source === IDLE_SOURCE
        ? idleExtractor(this.state.chunks)
        : this.#bench.workshop.extractors.find(({ config }) => config.id === source)?.extractor
    if (extractor === undefined)
      throw new AdflowError('JOB_INVALID', `the job has no source ${source} any more`, {
        hint: 'its batches can only be repeated by a job that has it',
      })
    const { chunkBytes, maxRecordBytes } = this.#options.job.resources
    const known = new Map(batches.map((batch) => [placeOf(batch), batch]))
    const from: Positions = Object.fromEntries(
      [...Map.groupBy(batches, ({ lane }) => lane)].map(([lane, own]) => [lane, beginningOf(own)]),
    )
    const items = extractor.read({ from, planned: batches, until: {}, chunkBytes, maxRecordBytes, parallel: 1, signal })
    for await (const item of items) {
      if ('gap' in item) {
        yield item
        continue
      }
      const past = known.get(placeOf(item.range))
      try {
        if (past !== undefined && (await wanted(past, item))) yield await this.#refine(past, item)
      } finally {
        await item.release()
      }
    }
  }

  async #refine(past: PastBatch, chunk: Chunk): Promise<RepeatedBatch> {
    if (chunk.digest !== past.digest)
      throw new AdflowError(
        'SOURCE_CHANGED',
        `${chunk.origin} has other bytes in [${past.from}, ${past.to}) than when batch ${past.token.slice(0, 12)} was read`,
        {
          hint: 'bring the file back as it was; from other bytes nothing can be repeated',
          details: { lane: past.lane },
        },
      )
    const refined = await this.#evaluated(chunk, past)
    return {
      past,
      chunk,
      refined,
      rows: `SELECT * FROM ${ROWS_TABLE}`,
      ordinals: (rows) => toOrdinals(rows, refined.removed),
    }
  }

  /** With the rows in a table. In a run the store is the first to evaluate them; a record on which that fails is refused then. */
  async #evaluated(chunk: Chunk, { token, source, clock, references }: PastBatch): Promise<Refined> {
    const once = async (guarded: boolean): Promise<Refined> => {
      const refined = await this.#bench.refine(chunk, { token, source, clock, references, guarded })
      const rows = refined.chain?.rows ?? this.pipeline.rows.sql
      await this.session.run(`CREATE OR REPLACE TEMP TABLE ${ROWS_TABLE} AS ${rows}`)
      return refined
    }
    return once(false).catch((error: unknown) => {
      if (isDataError(error)) return once(true)
      throw error
    })
  }

  async close(): Promise<void> {
    await this.#bench.close()
  }
}

function placeOf({ lane, from, to }: { readonly lane: string; readonly from: string; readonly to: string }): string {
  return JSON.stringify([lane, from, to])
}
