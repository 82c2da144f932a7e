/** A batch as the body of bulk requests: two lines to a document, made by the engine in one file. */
import { createHash, hash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import type { LoadBatch } from '../../core/contracts.ts'
import { localIoError } from '../../core/errors.ts'
import { ident } from '../../engine/sql-text.ts'
import { documentSql } from './fields.ts'

export interface Documents {
  readonly file: string
  /** How many. Fewer than rows where rows of one key come several times. */
  readonly count: number
  /** sha256 of the file. */
  readonly content: string
}

export interface DocumentColumn {
  readonly name: string
  readonly type: string
  /** SQL of the engine: the value. */
  readonly sql: string
}

/** Before the first line of each document: JSON of the engine begins with no blank, and a line end stands in no text of it. */
export const DOCUMENT_START = '\n {'
const ORDINAL = '__adflow_ordinal'
const LONGEST_ID = 512
const HASHED = 'adflow:'

/** Documents under the batch's own ids: the same rows in the same order get the same ids. */
export function appendSql(columns: readonly DocumentColumn[], token: string): string {
  const action = `' {"create":{"_id":"${idPrefix(token)}' || (row_number() OVER () - 1) || '"}}'`
  return `SELECT ${action} || chr(10) || ${documentSql(columns)} AS line FROM (${selected(columns, '{batch}')})`
}

/** Ids that a batch of so many rows has. */
export function* idsOf(token: string, rows: number): Generator<string> {
  for (let ordinal = 0; ordinal < rows; ordinal += 1) yield `${idPrefix(token)}${ordinal}`
}

/** Documents under ids made of their key; of rows with the same key the last one. `version`: no document of a higher one is
 *  overwritten. */
export function mergeSql(columns: readonly DocumentColumn[], key: readonly string[], version: number): string {
  const id = keySql(columns, key)
  const action = `' {"index":{"_id":' || to_json("__adflow_id")::VARCHAR || ',"version":${version},"version_type":"external_gte"}}'`
  const numbered = `SELECT *, row_number() OVER () AS ${ident(ORDINAL)} FROM {batch}`
  const last = `SELECT *, ${id} AS "__adflow_id" FROM (${numbered}) QUALIFY row_number() OVER (PARTITION BY ${id} ORDER BY ${ident(ORDINAL)} DESC) = 1`
  return `SELECT ${action} || chr(10) || ${documentSql(columns)} AS line FROM (${selected(columns, `(${last})`, ['__adflow_id'])})`
}

/** The value itself where one column of text or integers is the key and it can be an id; else a hash of all. */
function keySql(columns: readonly DocumentColumn[], key: readonly string[]): string {
  const hashed = `'${HASHED}' || sha256(to_json([${key.map((name) => `${ident(name)}::VARCHAR`).join(', ')}])::VARCHAR)`
  const [name = ''] = key
  const type = columns.find((column) => column.name === name)?.type ?? ''
  if (key.length > 1 || !/^(?:VARCHAR|UUID|U?(?:TINY|SMALL|BIG|HUGE)?INT(?:EGER)?)$/.test(type)) return hashed
  const text = `${ident(name)}::VARCHAR`
  return `CASE WHEN strlen(${text}) BETWEEN 1 AND ${LONGEST_ID} AND NOT starts_with(${text}, '${HASHED}') THEN ${text} ELSE ${hashed} END`
}

function selected(columns: readonly DocumentColumn[], from: string, others: readonly string[] = []): string {
  const items = [...columns.map(({ name, sql }) => `${sql} AS ${ident(name)}`), ...others.map(ident)]
  return `SELECT ${items.join(', ')} FROM ${from} AS batch`
}

function idPrefix(token: string): string {
  return `${token.slice(0, 32)}-`
}

let files = 0

export async function encodeDocuments(batch: LoadBatch, select: string, workDir: string): Promise<Documents> {
  files += 1
  const file = join(workDir, `bulk-${hash('sha256', batch.token).slice(0, 12)}-${process.pid}-${files}.ndjson`)
  try {
    const count = await batch.encode('lines', { file, select })
    const digest = createHash('sha256')
    await pipeline(createReadStream(file, { highWaterMark: 1 << 20 }), digest)
    return { file, count, content: `sha256:${digest.digest('hex')}` }
  } catch (error) {
    await dropDocuments({ file })
    throw error
  }
}

export async function dropDocuments({ file }: Pick<Documents, 'file'>): Promise<void> {
  await rm(file, { force: true }).catch((error: unknown) => {
    throw localIoError(error, `remove ${file}`)
  })
}
