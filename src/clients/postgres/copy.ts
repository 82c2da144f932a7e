/** A batch on its way in: encoded once as CSV, streamed by COPY; nothing of it is held in memory. */
import { hash } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import type { PoolClient } from 'pg'
import type { LoadBatch } from '../../core/contracts.ts'
import { AdflowError, localIoError } from '../../core/errors.ts'
import { ident } from '../../engine/sql-text.ts'
import { filePieces } from '../../records/file-pieces.ts'
import type { PostgresColumn } from './types.ts'

export interface EncodedBatch {
  readonly file: string
  readonly rows: number
  readonly columns: readonly string[]
}

/** More than any socket takes before it asks for a pause: when the next piece is wanted, this one is on its way. */
const PIECE_BYTES = 1 << 19

let files = 0

/** `ordinal`: a column of this name numbers the rows. */
export async function encodeBatch(
  batch: LoadBatch,
  columns: readonly PostgresColumn[],
  { workDir, ordinal }: { readonly workDir: string; readonly ordinal?: string },
): Promise<EncodedBatch> {
  files += 1
  const file = join(workDir, `copy-${hash('sha256', batch.token).slice(0, 12)}-${process.pid}-${files}.csv`)
  const items = columns.map(({ name, sql }) => `${sql} AS ${ident(name)}`)
  if (ordinal !== undefined) items.push(`row_number() OVER () AS ${ident(ordinal)}`)
  const rows = await batch.encode('csv', { file, select: `SELECT ${items.join(', ')} FROM {batch} AS batch` })
  const names = columns.map(({ name }) => name)
  return { file, rows, columns: ordinal === undefined ? names : [...names, ordinal] }
}

export async function dropEncoded({ file }: EncodedBatch): Promise<void> {
  await rm(file, { force: true }).catch((error: unknown) => {
    throw localIoError(error, `remove ${file}`)
  })
}

/** `table` as SQL. The server must have counted the rows that the engine wrote. */
export async function copyIn(
  client: PoolClient,
  table: string,
  { file, rows, columns }: EncodedBatch,
  signal: AbortSignal,
): Promise<void> {
  const { from } = await import('pg-copy-streams')
  const stream = client.query(
    from(`COPY ${table} (${columns.map(ident).join(', ')}) FROM STDIN WITH (FORMAT csv, HEADER true)`),
  )
  await pipeline(filePieces(file, { bytes: PIECE_BYTES, buffers: 2 }), stream, { signal })
  if (stream.rowCount !== rows)
    throw new AdflowError('STORE_MISMATCH', `PostgreSQL took ${stream.rowCount} of ${rows} rows of a batch`, {
      hint: 'nothing of the batch was written; a text of just `\\.` ends a COPY in a table of one column',
    })
}
