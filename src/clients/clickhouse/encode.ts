/** A batch on its way in: encoded once as Parquet, streamed as the body of an INSERT; nothing of it is held in memory. */
import { hash } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { LoadBatch } from '../../core/contracts.ts'
import { AdflowError, localIoError } from '../../core/errors.ts'
import { engineVersion } from '../../engine/functions.ts'
import { ident, literal } from '../../engine/sql-text.ts'
import { type ClickHouseColumn, REFUSED } from './types.ts'

export interface EncodedBatch {
  readonly file: string
  /** Rows of the batch. */
  readonly rows: number
  /** Rows of the file: under a key without those that a later row of the batch replaces. */
  readonly written: number
  /** Of the rows in the file, whatever their order: `made@<version of the engine> <digest>` of what they follow from, or, where that is not known,
   *  `<version of the engine> <rows> <sum of their hashes>`. */
  readonly content: string
  readonly columns: readonly ClickHouseColumn[]
}

export interface EncodeOptions {
  readonly workDir: string
  readonly key: readonly string[] | undefined
  /** To compress costs an eighth of the encoding, and the server a little: nothing for a network that is none. */
  readonly compression: 'lz4_raw' | 'uncompressed'
}

const ORDINAL = '__adflow_ordinal'

let files = 0

/** @throws AdflowError STORE_MISMATCH where ClickHouse cannot hold a value */
export async function encodeBatch(
  batch: LoadBatch,
  columns: readonly ClickHouseColumn[],
  { workDir, key, compression }: EncodeOptions,
): Promise<EncodedBatch> {
  files += 1
  const file = join(workDir, `insert-${hash('sha256', batch.token).slice(0, 12)}-${process.pid}-${files}.parquet`)
  const items = columns.map(({ name, sql }) => `${sql} AS ${ident(name)}`).join(', ')
  const select = `SELECT ${items} FROM ${key === undefined ? '{batch}' : lastOf(key)} AS batch`
  try {
    const written = await batch.encode('parquet', { file, select, compression, quick: true })
    const content = await contentOf(batch, file, [columns.map(({ name, type }) => [name, type]), key])
    return { file, rows: key === undefined ? written : await countOf(batch), written, content, columns }
  } catch (error) {
    await rm(file, { force: true }).catch(() => undefined) // the error says more
    throw refused(error)
  }
}

export async function dropEncoded({ file }: EncodedBatch): Promise<void> {
  await rm(file, { force: true }).catch((error: unknown) => {
    throw localIoError(error, `remove ${file}`)
  })
}

/** Of rows of one batch with the same key the last one. Not by `row_number() … = 1`: of that the engine makes an aggregate, in which
 *  -0.0 becomes 0.0. */
function lastOf(key: readonly string[]): string {
  const rows = `(SELECT *, row_number() OVER () AS ${ORDINAL} FROM {batch} AS rows)`
  return `(SELECT * EXCLUDE (${ORDINAL}) FROM ${rows} QUALIFY ${ORDINAL} = max(${ORDINAL}) OVER (PARTITION BY ${key.map(ident).join(', ')}))`
}

/** To read the file for it costs a tenth of the encoding. */
async function contentOf({ engine, made }: LoadBatch, file: string, how: unknown): Promise<string> {
  if (made !== undefined) return `made@${engineVersion()} ${hash('sha256', JSON.stringify([made(), how]))}`
  const [row] = await engine.rows(
    `SELECT concat_ws(' ', version(), count(*), coalesce(sum(hash(rows)), 0)) AS content FROM read_parquet(${literal(file)}) AS rows`,
  )
  return String(row?.['content'])
}

async function countOf({ engine, relation }: LoadBatch): Promise<number> {
  const [row] = await engine.rows(`SELECT count(*) AS n FROM ${relation} AS batch`)
  return Number(row?.['n'])
}

function refused(error: unknown): unknown {
  const text = error instanceof Error ? new RegExp(`${REFUSED}[^\\n]*`).exec(error.message)?.[0] : undefined
  if (text === undefined) return error
  return new AdflowError('STORE_MISMATCH', text, {
    cause: error,
    hint: 'mend it in a step or by a rule (a NULL in `nested: native` also by `nested: json`); nothing of the batch was written',
  })
}
