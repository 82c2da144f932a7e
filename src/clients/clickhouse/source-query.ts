/** The statement of one answer: the rows after a place, in the order of the cursor, whole groups of them. */
import { aliasOf, beforeSql, type CursorColumn, exactSql, type SourceColumn } from './source-columns.ts'
import { ident, literal } from './sql-text.ts'

export interface SourceOptions {
  readonly database: string
  readonly table: string | undefined
  readonly query: string | undefined
  readonly columns: readonly string[] | undefined
  readonly where: string | undefined
  readonly final: boolean
  /** Names of columns; empty: one answer is everything, in no order. */
  readonly cursor: readonly string[]
  readonly key: readonly string[]
  readonly start: string | undefined
  readonly lag: number
  /** Rows younger than this, by the clock of the server, are left for later. */
  readonly settleMs: number
  readonly again: 'newer' | 'all'
  readonly lanes: LaneOptions | undefined
  /** Most rows of one answer, ties of the last one on top. */
  readonly queryRows: number
}

export type LaneOptions =
  | { readonly by: 'partition' }
  | { readonly by: 'modulo'; readonly of: string; readonly count: number }

/** From where an answer begins. */
export interface Place {
  /** Values of the cursor's columns in the last row that is had; as their texts. */
  readonly after: readonly string[] | undefined
  /** Highest value of the first column in the passes before. */
  readonly high: string | undefined
}

/** What is read, without order, ends and conversions. `lane`: a condition. */
export function fromSql(options: SourceOptions, lane?: string): string {
  const { database, table, query, where, final, columns } = options
  const source = table === undefined ? `(${query}\n)` : `${ident(database)}.${ident(table)}${final ? ' FINAL' : ''}`
  const items =
    columns === undefined ? '*' : [...new Set([...columns, ...options.cursor, ...options.key])].map(ident).join(', ')
  const conditions = [...(where === undefined ? [] : [`(${where}\n)`]), ...(lane === undefined ? [] : [`(${lane}\n)`])]
  return `SELECT ${items} FROM ${source}${conditions.length === 0 ? '' : ` WHERE ${conditions.join(' AND ')}`}`
}

export function laneCondition(lanes: LaneOptions, name: string): string {
  if (lanes.by === 'partition') return `_partition_id = ${literal(name)}`
  // The tuple has a hash also where its value is NULL.
  return `cityHash64(tuple(${lanes.of}\n)) % ${lanes.count} = ${Number.parseInt(name, 10)}`
}

export function rowsSql(
  options: SourceOptions,
  columns: readonly SourceColumn[],
  cursor: readonly CursorColumn[],
  { from, place }: { readonly from: string; readonly place: Place },
): string {
  const alias = (name: string) => aliasOf(columns.findIndex((column) => column.name === name))
  const inner = columns.map(({ name }) => `${ident(name)} AS ${alias(name)}`)
  const items = columns.map((column) => `${exactSql(column, alias(column.name))} AS ${ident(column.name)}`)
  const select = `SELECT ${items.join(', ')} FROM (SELECT ${inner.join(', ')} FROM (${from}))`
  const [first] = cursor
  if (first === undefined) return `${select} FORMAT JSONEachRow`
  const conditions = conditionsOf(options, cursor, alias, first, place)
  const where = conditions.length === 0 ? '' : ` WHERE ${conditions.join(' AND ')}`
  // Rows with the same cursor come in one answer, however many they are: behind its end none is left of them.
  return `${select}${where} ORDER BY ${cursor.map(({ name }) => alias(name)).join(', ')} LIMIT ${options.queryRows} WITH TIES FORMAT JSONEachRow`
}

function conditionsOf(
  { start, lag, settleMs }: SourceOptions,
  cursor: readonly CursorColumn[],
  alias: (name: string) => string,
  first: CursorColumn,
  { after, high }: Place,
): string[] {
  const conditions: string[] = []
  const lead = alias(first.name)
  if (after !== undefined) {
    const values = cursor.map((column, index) => column.literal(after[index] ?? ''))
    // The first column by itself is what an index is asked for.
    if (cursor.length === 1) conditions.push(`${lead} > ${values[0]}`)
    else
      conditions.push(
        `${lead} >= ${values[0]}`,
        `(${cursor.map(({ name }) => alias(name)).join(', ')}) > (${values.join(', ')})`,
      )
  } else if (high !== undefined) conditions.push(`${lead} >= ${beforeSql(first, high, lag)}`)
  else if (start !== undefined)
    conditions.push(
      `${lead} >= ${first.kind === 'time' ? `parseDateTime64BestEffort(${literal(start)}, 9, 'UTC')` : first.literal(start)}`,
    )
  if (settleMs > 0) conditions.push(`${lead} <= now64(9) - toIntervalMillisecond(${settleMs})`)
  return conditions
}
