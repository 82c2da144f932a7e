/** The rows of a store that are asked for, in a temp table of the session that has the store open. */
import { AdflowError } from '../core/errors.ts'
import type { TypedColumn } from '../engine/exact.ts'
import type { Session } from '../engine/session.ts'
import { ident, literal } from '../engine/sql-text.ts'
import { BATCH, ID, WANTED } from './match.ts'
import type { OpenStore } from './stores.ts'

export interface Asked {
  /** SQL condition over the rows of the store. */
  readonly where?: string
  /** Column → value, as text. */
  readonly keys?: Readonly<Record<string, string>>
  /** File of rows: those of the store that equal one of them in all its columns. */
  readonly rowsFile?: string
  /** So many, at random. */
  readonly sample?: number
  readonly limit: number
}

export interface Wanted {
  readonly columns: readonly TypedColumn[]
  /** Values as JSON, in the order of the columns. */
  readonly rows: readonly (readonly unknown[])[]
  /** Number of the batch of each row; null where it has none. */
  readonly numbers: readonly (bigint | null)[]
}

/** @throws AdflowError USAGE, NOT_FOUND */
export async function selectWanted(session: Session, store: OpenStore, asked: Asked): Promise<Wanted> {
  const { contents } = store
  if (contents.batch === undefined)
    throw new AdflowError('USAGE', `the rows of store ${store.id} do not know their batches: it has no batch column`, {
      hint: 'set `batch_column` on the loader, so that rows that are loaded from then on can be traced; or name another store with --store',
    })
  const { columns } = contents
  const names = columns.map(({ name }) => ident(name)).join(', ')
  const where = await conditions(session, store, asked)
  const order = `${contents.batch}, ${contents.order}`
  const some = `SELECT ${names}, ${contents.batch} AS ${BATCH}, ${contents.order} AS __adflow_order FROM (${contents.select}) AS stored${where.length === 0 ? '' : ` WHERE ${where.join(' AND ')}`}`
  const drawn =
    asked.sample === undefined
      ? `${some} ORDER BY ${order} LIMIT ${asked.limit}`
      : `FROM (${some}) USING SAMPLE reservoir(${asked.sample} ROWS)`
  await session
    .run(
      `CREATE OR REPLACE TEMP TABLE ${WANTED} AS SELECT row_number() OVER (ORDER BY ${BATCH}, __adflow_order) - 1 AS ${ID}, ${BATCH}, ${names} FROM (${drawn})`,
    )
    .catch((error: unknown) => {
      throw refused(error, store)
    })
  const numbers = await session.rows(`SELECT ${BATCH} AS n FROM ${WANTED} ORDER BY ${ID}`)
  if (numbers.length === 0)
    throw new AdflowError('NOT_FOUND', `store ${store.id} has no such row`, {
      hint: `look with \`adflow query\`; \`adflow trace --quarantine\` looks among the records that were refused`,
    })
  const { rows } = await session.jsonRows(`SELECT ${names} FROM ${WANTED} ORDER BY ${ID}`)
  return {
    columns,
    rows,
    numbers: numbers.map(({ n }) => (n === null || n === undefined ? null : BigInt(String(n)))),
  }
}

async function conditions(session: Session, { id, contents }: OpenStore, asked: Asked): Promise<string[]> {
  const where = asked.where === undefined ? [] : [`(${asked.where}\n)`]
  const column = (name: string): TypedColumn => {
    const found = contents.columns.find((known) => known.name.toLowerCase() === name.toLowerCase())
    if (found !== undefined) return found
    throw new AdflowError('USAGE', `store ${id} has no column ${name}`, {
      hint: `columns: ${contents.columns.map((known) => known.name).join(', ')}`,
    })
  }
  for (const [key, value] of Object.entries(asked.keys ?? {})) {
    const { name, type } = column(key)
    where.push(`${ident(name)} = CAST(${literal(value)} AS ${type})`)
  }
  if (asked.rowsFile !== undefined) {
    const file = await session.describe(`FROM ${rowsReader(asked.rowsFile)}`).catch((error: unknown) => {
      throw new AdflowError('USAGE', `cannot read the rows in ${asked.rowsFile}: ${messageOf(error)}`, {
        cause: error,
        hint: 'give a CSV, NDJSON or Parquet file with columns of the store',
      })
    })
    const given = file.map((own) => {
      const { name, type } = column(own.name)
      return `stored.${ident(name)} IS NOT DISTINCT FROM TRY_CAST(given.${ident(own.name)} AS ${type})`
    })
    where.push(`EXISTS (FROM ${rowsReader(asked.rowsFile)} AS given WHERE ${given.join(' AND ')})`)
  }
  return where
}

function rowsReader(file: string): string {
  if (/\.parquet$/.test(file)) return `read_parquet(${literal(file)})`
  if (/\.(?:csv|tsv)(?:\.gz|\.zst)?$/.test(file)) return `read_csv(${literal(file)}, header = true, all_varchar = true)`
  return `read_json(${literal(file)}, format = 'newline_delimited')`
}

function refused(error: unknown, { id, contents }: OpenStore): unknown {
  if (!(error instanceof AdflowError) || error.code !== 'ENGINE_FAILED') return error
  return new AdflowError('USAGE', `cannot select rows of ${id}: ${messageOf(error)}`, {
    cause: error,
    hint: `columns: ${contents.columns.map(({ name }) => name).join(', ')}`,
  })
}

function messageOf(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split('\n', 1)[0] ?? ''
}
