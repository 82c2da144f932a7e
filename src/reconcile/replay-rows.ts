/** The rows that one job makes of batches of the past, as Parquet files. */
import { rename } from 'node:fs/promises'
import { join } from 'node:path'
import type { Logger } from 'pino'
import type { Column } from '../core/contracts.ts'
import { AdflowError, localIoError } from '../core/errors.ts'
import type { Job } from '../core/job/job.ts'
import type { Registry } from '../core/registry.ts'
import { encode } from '../engine/encode.ts'
import { exactItems } from '../engine/exact.ts'
import { ident, list } from '../engine/sql-text.ts'
import type { PastBatch } from '../runtime/past-batches.ts'
import { Rerun } from '../runtime/rerun.ts'
import { repeatAll } from './repeat.ts'

export interface RowsOptions {
  readonly job: Job
  readonly registry: Registry
  readonly log: Logger
  readonly evolved: Readonly<Record<string, string>>
  readonly locate?: (file: string) => Promise<string>
  readonly copies?: string
  /** Batches whose rows are wanted; and these with all before, for steps with memory. */
  readonly own: readonly PastBatch[]
  readonly before: readonly PastBatch[]
  /** Output whose rows are wanted. */
  readonly output: string
  /** Where the files go, and what they are called. */
  readonly folder: string
  readonly name: string
  readonly signal: AbortSignal
}

export interface MadeRows {
  readonly columns: readonly Column[]
  /** SELECT of all rows, with `__file` and `__at` by which they have an order. */
  readonly select: string
  readonly rows: number
  readonly quarantined: Readonly<Record<string, number>>
}

/** @throws AdflowError with the code of a source whose range cannot be read any more */
export async function rowsOf(options: RowsOptions): Promise<MadeRows> {
  const { job, registry, log, evolved, locate, copies, own, before, output, folder, name, signal } = options
  const wanted = new Set(own.map(({ token }) => token))
  const outputs = [output]
  const rerun = await Rerun.open({
    job,
    registry,
    log,
    outputs,
    evolved,
    ...(locate === undefined ? {} : { locate }),
    ...(copies === undefined ? {} : { copies }),
  })
  const files: string[] = []
  const quarantined: Record<string, number> = {}
  let columns: readonly Column[] = rerun.pipeline.outputs.get(output)?.relation.columns ?? []
  let rows = 0
  try {
    for await (const item of repeatAll(rerun, rerun.pipeline.stateful ? before : own, signal)) {
      if ('unreadable' in item) {
        const { code, message } = item.unreadable
        throw new AdflowError(code as 'SOURCE_CHANGED', message, { hint: 'bring the file back as it was' })
      }
      if (!wanted.has(item.past.token)) continue
      for (const [rule, count] of Object.entries(item.refined.counts.quarantined))
        quarantined[rule] = (quarantined[rule] ?? 0) + count
      const made = item.refined.outputs.get(output)
      if (made === undefined)
        throw new AdflowError('USAGE', `${job.file} has no output ${output}`, {
          hint: `outputs: ${[...item.refined.outputs.keys()].join(', ')}`,
        })
      columns = made.columns
      const file = `${name}-${String(files.length).padStart(6, '0')}.parquet`
      const there = join(rerun.state.chunks, file)
      const items = await exactItems(rerun.session, made.relation, made.columns, 'parquet')
      const select = items === undefined ? {} : { select: `SELECT ${items.join(', ')} FROM {batch} AS batch` }
      rows += await encode(rerun.session, made.relation, 'parquet', { file: there, ...select })
      await rename(there, join(folder, file)).catch((error: unknown) => {
        throw localIoError(error, `move ${there} to ${folder}`)
      })
      files.push(join(folder, file))
    }
  } finally {
    await rerun.close()
  }
  return { columns, select: selectOf(files, columns), rows, quarantined }
}

/** What Parquet cannot hold was written as another type. */
function selectOf(files: readonly string[], columns: readonly Column[]): string {
  const typed = columns.map(({ name, type }) => `CAST(${ident(name)} AS ${type}) AS ${ident(name)}`)
  if (files.length === 0) {
    const none = columns.map(({ name, type }) => `NULL::${type} AS ${ident(name)}`)
    return `SELECT ${[...none, "'' AS __file", '0 AS __at'].join(', ')} WHERE false`
  }
  return `SELECT ${typed.join(', ')}, filename AS __file, file_row_number AS __at FROM read_parquet(${list(files)}, union_by_name = true, filename = true, file_row_number = true)`
}
