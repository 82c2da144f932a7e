/** Writes the files of a plan: each by one engine of one thread, several files at a time. */
import { createReadStream, createWriteStream } from 'node:fs'
import { rename } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { createGzip } from 'node:zlib'
import { localIoError } from '../core/errors.ts'
import { Engine, type Session } from '../engine/session.ts'
import { literal } from '../engine/sql-text.ts'
import { sizeOf } from './folder.ts'
import type { Part, SamplePlan } from './options.ts'
import { recordsSql, SAMPLE_COLUMNS } from './render.ts'
import { eventsSql } from './traffic.ts'
import { type FileTruth, type TruthRow, truthSql } from './truth.ts'

const MOST_WORKERS = 4
/** A COPY with one thread streams; with more, the engine buffers whole row groups to keep their order, and is slower. */
const MEMORY_BYTES_PER_WORKER = 200_000_000

export interface WriteContext {
  readonly signal: AbortSignal
  readonly onRows: (rows: number) => void
}

/** The files, in the order of the parts, and the truth over the same relations that they were written from. */
export async function writeParts(
  plan: SamplePlan,
  folder: string,
  { signal, onRows }: WriteContext,
): Promise<{ files: FileTruth[]; rows: TruthRow[] }> {
  const files = new Map<Part, FileTruth>()
  const rows: TruthRow[] = []
  const queue = [...plan.parts]
  // One worker's failure ends the others before the caller removes the folder under them.
  const failure = new AbortController()
  const either = AbortSignal.any([signal, failure.signal])
  const work = async (): Promise<void> => {
    await withEngine(plan, folder, either, async (session) => {
      for (let part = queue.shift(); part !== undefined; part = queue.shift()) {
        either.throwIfAborted()
        files.set(part, await writePart(session, plan, folder, part, either))
        const truth = truthSql(eventsSql(plan.batch, part.from, part.to))
        rows.push(...((await session.rows(truth)) as unknown as TruthRow[]))
        onRows(part.to - part.from)
      }
    }).catch((error: unknown) => {
      failure.abort(error)
      throw error
    })
  }
  const workers = Math.min(availableParallelism(), MOST_WORKERS, plan.parts.length)
  const ends = await Promise.allSettled(Array.from({ length: workers }, work))
  signal.throwIfAborted()
  if (failure.signal.aborted) throw failure.signal.reason
  const rejected = ends.find((end) => end.status === 'rejected')
  if (rejected !== undefined) throw rejected.reason
  return { files: plan.parts.flatMap((part) => files.get(part) ?? []), rows }
}

async function withEngine(
  plan: SamplePlan,
  folder: string,
  signal: AbortSignal,
  work: (session: Session) => Promise<void>,
): Promise<void> {
  const engine = await Engine.open({
    memoryBytes: MEMORY_BYTES_PER_WORKER,
    threads: 1,
    tempFolder: folder,
    folders: [folder],
  })
  const session = await engine.connect()
  const stop = (): void => session.interrupt()
  signal.addEventListener('abort', stop)
  try {
    const slots = plan.parts.reduce((most, { from, to }) => Math.max(most, to - from), 0)
    await session.run(`CREATE TABLE slots AS SELECT true AS slot FROM range(${slots})`)
    await work(session)
  } finally {
    signal.removeEventListener('abort', stop)
    session.close()
    engine.close()
  }
}

async function writePart(
  session: Session,
  plan: SamplePlan,
  folder: string,
  part: Part,
  signal: AbortSignal,
): Promise<FileTruth> {
  const file = join(folder, part.name)
  const records = recordsSql(plan.format, eventsSql(plan.batch, part.from, part.to))
  await session.run(`COPY (${withHeader(plan, part, records)}) TO ${literal(file)} (${copyOptions(plan, part)})`)
  if (plan.compression === 'gzip') await gzip(file, signal)
  return { name: part.name, rows: part.to - part.from, bytes: (part.after ?? 0) + ((await sizeOf(file)) ?? 0) }
}

/** The header line of a CSV file is the name of its one column of lines. */
function withHeader(plan: SamplePlan, part: Part, records: string): string {
  return hasHeader(plan, part) ? `SELECT line AS "${SAMPLE_COLUMNS.join(',')}" FROM (${records})` : records
}

const hasHeader = (plan: SamplePlan, part: Part): boolean => plan.format === 'csv' && part.after === undefined

function copyOptions(plan: SamplePlan, part: Part): string {
  if (plan.format === 'parquet') return 'FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 122880'
  // Lines are complete already: without quote and escape the writer passes them through as they are.
  return `FORMAT csv, HEADER ${hasHeader(plan, part)}, QUOTE '', ESCAPE '', DELIMITER E'\\n', COMPRESSION none`
}

/** In place. Node's zlib is several times as fast as the engine's. */
async function gzip(file: string, signal: AbortSignal): Promise<void> {
  const packed = `${file}.packed`
  try {
    await pipeline(
      createReadStream(file, { highWaterMark: 1 << 20 }),
      createGzip({ level: 3, chunkSize: 1 << 18 }),
      createWriteStream(packed),
      { signal },
    )
    await rename(packed, file)
  } catch (error) {
    throw localIoError(error, `compress ${file}`)
  }
}
