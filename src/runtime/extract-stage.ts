/** The first stage of a pipe: sources from their beginning, as NDJSON. No checkpoint is read or written, no lock taken. */
import { join } from 'node:path'
import type { Chunk } from '../core/contracts.ts'
import { AdflowError } from '../core/errors.ts'
import type { JobExtractor } from '../core/job/job.ts'
import { tokenOf } from '../core/token.ts'
import { admit } from '../engine/admit.ts'
import { encode } from '../engine/encode.ts'
import { csvFrom, type ReadPlan } from '../engine/read-plan.ts'
import { ident } from '../engine/sql-text.ts'
import { type QuarantineRecord, quarantineRecords } from './quarantine.ts'
import { csvRecords, parquetRecords } from './record-lines.ts'
import type { RowOutput } from './row-output.ts'
import { extraction } from './stage-jobs.ts'
import { addAll, emptyStage, gapExit, type StageSummary } from './stage-summary.ts'
import type { StageOptions } from './stages.ts'
import { linesOf } from './stream-chunks.ts'
import { Workbench } from './workbench.ts'

export interface ExtractOptions extends StageOptions {
  /** Ids of the sources to read; undefined: all. */
  readonly sources?: readonly string[]
  /** At most so many records. */
  readonly limit?: number
  readonly rows: RowOutput
}

/** Records of NDJSON and JSON sources pass unchanged, malformed ones too. A record that is no JSON object (a ragged CSV
 *  line …) passes as a JSON string of its text, which validate refuses; with `rejects` it goes there instead. */
export async function extractStage(options: ExtractOptions): Promise<StageSummary> {
  const { job, sources, signal } = options
  const unknown = sources?.find((id) => !job.extract.some((source) => source.id === id))
  if (unknown !== undefined)
    throw new AdflowError('USAGE', `--source ${unknown}: the job has no such source`, {
      hint: `sources: ${job.extract.map(({ id }) => id).join(', ')}`,
    })
  const wanted = job.extract.filter(({ id }) => sources === undefined || sources.includes(id))
  const summary = emptyStage('extract', job.name)
  const started = Date.now()
  const bench = await Workbench.open({ ...options, job: extraction(job, wanted), outputs: [] })
  try {
    const stage = new ExtractStage(bench, options, summary)
    for (const { config } of bench.workshop.extractors) await stage.read(config)
  } catch (error) {
    if (!signal.aborted) throw error
  } finally {
    summary.seconds = (Date.now() - started) / 1000
    await bench.close()
  }
  summary.exit = gapExit(summary)
  return summary
}

class ExtractStage {
  readonly #bench: Workbench
  readonly #options: ExtractOptions
  readonly #summary: StageSummary
  #left: number
  #damaged = false

  constructor(bench: Workbench, options: ExtractOptions, summary: StageSummary) {
    this.#bench = bench
    this.#options = options
    this.#summary = summary
    this.#left = options.limit ?? Number.POSITIVE_INFINITY
  }

  async read(config: JobExtractor): Promise<void> {
    const { job, log, signal } = this.#options
    const extractor = this.#bench.workshop.extractors.find((source) => source.config === config)?.extractor
    if (extractor === undefined || this.#left <= 0 || signal.aborted) return
    const { chunkBytes, maxRecordBytes } = job.resources
    const items = extractor.read({
      from: {},
      planned: [],
      until: 'now',
      chunkBytes,
      maxRecordBytes,
      keepLines: true,
      parallel: 1, // the rows of a pipe have an order: lane after lane
      signal,
    })
    for await (const item of items) {
      if ('gap' in item) {
        const { gap, code, message } = item
        this.#summary.gaps.push({ source: config.id, ...gap, code, message, optional: config.optional })
        log.warn({ source: config.id, lane: gap.lane, code }, message)
        continue
      }
      await this.#write(config.id, item).finally(() => item.release())
      if (this.#left <= 0) break
    }
  }

  async #write(source: string, chunk: Chunk): Promise<void> {
    const count = Math.min(chunk.records, this.#left)
    const refused = chunk.refused.slice(0, Math.max(0, this.#left - count))
    if (chunk.format.type === 'ndjson') await this.#writeLines(chunk, count)
    else if (chunk.format.type === 'parquet') await this.#writeParquet(chunk, count)
    else await this.#writeCsv(source, chunk, count)
    await chunk.verify?.()
    this.#summary.read += count + refused.length
    this.#left -= count + refused.length
    await this.#setAside(source, chunk, await quarantineRecords({ ...chunk, refused }, [], this.#bench.session))
  }

  async #writeLines(chunk: Chunk, count: number): Promise<void> {
    const { rows } = this.#options
    if (count === chunk.records) await rows.file(chunk.file)
    else
      for (const record of await linesOf(chunk.file, range(count))) await rows.write(Buffer.concat([record, NEWLINE]))
    this.#summary.written += count
  }

  async #writeParquet(chunk: Chunk, count: number): Promise<void> {
    if (count > 0) await this.#writeSelect(await parquetRecords(this.#bench.session, this.#plan, chunk), count)
  }

  /** Read as text, the way a run reads it: the same records are whole, and the same are not. */
  async #writeCsv(source: string, chunk: Chunk, count: number): Promise<void> {
    const { format } = chunk
    if (format.type !== 'csv' || count === 0) return
    if (count === chunk.records && !this.#damaged && (await this.#writeCleanCsv(chunk, format))) return
    const { session, state } = this.#bench
    const text = { kind: 'text', sql: 'VARCHAR' } as const
    const columns = format.header.map((from, index) => ({ name: `c${index}`, type: text, required: false, from }))
    const plan: ReadPlan = { ...this.#plan, columns, rules: [], unknown: 'discard_value' }
    const context = { session, plan, folder: state.chunks, expectDamage: this.#damaged }
    const admitted = await admit(chunk, 'extracted', context)
    this.#damaged = admitted.removed.length > 0
    const names = format.header.map((name, index) => `c${index} AS ${ident(name)}`)
    const from = `(SELECT ${names.join(', ')} FROM extracted ORDER BY rowid)`
    const whole = Math.min(count, admitted.rows)
    if (whole > 0) await this.#writeSelect(csvRecords(this.#plan, format, from), whole)
    const rejected = admitted.rejected.slice(0, count - whole)
    if (rejected.length === 0) return
    const records = await quarantineRecords({ ...chunk, refused: [] }, rejected, session)
    await this.#setAside(source, chunk, records)
  }

  /** In one statement, without a table between. false: not all of its records are whole, and nothing was written. */
  async #writeCleanCsv(chunk: Chunk, format: Extract<Chunk['format'], { type: 'csv' }>): Promise<boolean> {
    const plan = this.#plan
    const select = csvRecords(plan, format, csvFrom(format, chunk.file, plan.maxRecordBytes))
    const written = await encode(this.#bench.session, `(${select})`, 'ndjson', { file: this.#file }).catch(
      (error: unknown) => {
        if (error instanceof AdflowError && error.code !== 'ENGINE_FAILED') throw error
        return undefined // which records the reader refuses is found out on the longer way
      },
    )
    if (written !== chunk.records) return false
    await this.#options.rows.file(this.#file)
    this.#summary.written += written
    return true
  }

  async #writeSelect(select: string, count: number): Promise<void> {
    const written = await encode(this.#bench.session, `(${select} LIMIT ${count})`, 'ndjson', { file: this.#file })
    await this.#options.rows.file(this.#file)
    this.#summary.written += written
  }

  async #setAside(source: string, chunk: Chunk, records: readonly QuarantineRecord[]): Promise<void> {
    const { job, rejects, rows } = this.#options
    if (records.length === 0) return
    if (rejects === undefined) {
      for (const record of records) await rows.line(lineOf(record))
      this.#summary.written += records.length
      return
    }
    const token = tokenOf({ job: job.name, source, range: chunk.range, epoch: '0' })
    const clock = new Date().toISOString()
    await rejects.add({ token, source, range: chunk.range, origin: chunk.origin, clock }, records)
    for (const { rule } of records) this.#summary.quarantined += addAll(this.#summary.quarantined_by, { [rule]: 1 })
  }

  get #plan(): ReadPlan {
    return this.#bench.pipeline.plan
  }

  /** Of one chunk after the other. */
  get #file(): string {
    return join(this.#bench.state.chunks, 'records.ndjson')
  }
}

const NEWLINE = Buffer.from('\n')

/** No JSON object, so that validate refuses it; nothing of the text is lost. */
function lineOf({ raw, raw_base64 }: QuarantineRecord): string {
  return JSON.stringify(raw ?? ['base64', raw_base64])
}

function range(count: number): number[] {
  return Array.from({ length: count }, (_, index) => index)
}
