/**
 * What rows become, as SQL of the engine. First the rows, with what an expression gives for each; then the entries, of which each
 * key, member or counter has one. Whatever the order in which the engine works, the same rows give the same entries.
 */
import type { Column } from '../../core/contracts.ts'
import { ident, literal } from '../../engine/sql-text.ts'
import { OWN_KEYS } from './batch-ledger.ts'
import type { DataOptions, Increment } from './data-options.ts'

/** What a batch must not have: how many rows do, and what to say. */
export interface Fault {
  /** Of the rows. */
  readonly where: string
  /** Behind "3 of 10 rows". */
  readonly message: string
  readonly hint: string
}

export interface DataSql {
  /** SELECT of k and more over `{batch}`, a row each. */
  readonly rows: string
  /** SELECT of k, o (order under the key) and a (JSON) over the table `{rows}`. */
  readonly entries: string
  /** true: a key may have several entries. */
  readonly several: boolean
  /** What goes along with the values: fields. */
  readonly names: readonly string[]
  readonly faults: readonly Fault[]
}

interface DataContext {
  readonly columns: readonly Column[]
  /** Type of `score` over these columns. */
  readonly scoreType: string
}

const INT64 = 'BETWEEN -9223372036854775808 AND 9223372036854775807'

export function dataSql(options: DataOptions, context: DataContext): DataSql {
  const { as, prefix, key } = options
  const k = `${literal(prefix)} || (${key}\n)::VARCHAR AS k`
  const rows = (items: readonly string[]) => `SELECT ${[k, ...items].join(', ')} FROM {batch} AS batch`
  const columns = chosenColumns(options, context.columns)
  const names = columns.map(({ name }) => name)
  const texts = `to_json([${columns.map(textSql).join(', ')}]::VARCHAR[])::VARCHAR`
  const faults = keyFaults(options)
  const last = 'SELECT k, 0 AS o, arg_max(a, n) AS a FROM {rows} GROUP BY k'
  if (as === 'hash') {
    const items = ['row_number() OVER () AS n', `${texts} AS a`]
    return { rows: rows(items), entries: last, several: false, names, faults }
  }
  if (as === 'string') {
    const value = options.value === undefined ? rowJson(columns) : `(${options.value}\n)::VARCHAR`
    const items = ['row_number() OVER () AS n', `coalesce(to_json(${value})::VARCHAR, 'null') AS a`]
    return { rows: rows(items), entries: last, several: false, names: [], faults }
  }
  if (as === 'stream') {
    const items = ['row_number() OVER () AS n', `${texts} AS a`]
    const empty = `coalesce(len(list_filter(from_json(a, '["VARCHAR"]'), lambda v: v IS NOT NULL)), 0) = 0`
    const bare = {
      where: empty,
      message: 'have no value in any field',
      hint: 'a stream takes no empty entry: filter them',
    }
    const entries = 'SELECT k, n AS o, a FROM {rows}'
    return { rows: rows(items), entries, several: true, names, faults: [...faults, bare] }
  }
  if (as === 'sorted_set') return sortedSet(options, context.scoreType, rows, faults)
  return counter(options, rows, faults)
}

/** The columns that a row is made of, in the order of the relation. */
function chosenColumns({ fields }: DataOptions, columns: readonly Column[]): readonly Column[] {
  return fields === undefined ? columns : columns.filter(({ name }) => fields.includes(name))
}

/** Each value as text from which it can be read back exactly. */
function textSql({ name, type }: Column): string {
  const column = ident(name)
  if (type === 'BLOB') return `lower(hex(${column}))`
  return isNested(type) ? `to_json(${column})::VARCHAR` : `${column}::VARCHAR`
}

function rowJson(columns: readonly Column[]): string {
  const items = columns.map(({ name, type }) =>
    type === 'BLOB' ? `${ident(name)} := lower(hex(${ident(name)}))` : `${ident(name)} := ${ident(name)}`,
  )
  return `to_json(struct_pack(${items.join(', ')}))::VARCHAR`
}

export function isNested(type: string): boolean {
  return /^(?:STRUCT|MAP|UNION)\(|\]$/.test(type)
}

function keyFaults({ key, prefix }: DataOptions): Fault[] {
  const own = `${prefix}${OWN_KEYS}`
  return [
    {
      where: 'k IS NULL',
      message: `have no key: \`${key}\` is NULL there`,
      hint: `take them out by a rule or a filter: \`(${key}) IS NOT NULL\``,
    },
    {
      where: `starts_with(k, ${literal(own)})`,
      message: `have a key that begins with ${own}`,
      hint: 'these keys are those of adflow itself: choose another `prefix`',
    },
  ]
}

type RowsSql = (items: readonly string[]) => string

/** A double has the score: where the value that is read back is another, the row is refused. */
function sortedSet(
  { member, score }: DataOptions,
  scoreType: string,
  rows: RowsSql,
  faults: readonly Fault[],
): DataSql {
  const exact = `TRY_CAST(TRY_CAST((${score}\n) AS DOUBLE) AS ${scoreType}) IS NOT DISTINCT FROM (${score}\n)`
  const items = [
    'row_number() OVER () AS n',
    `(${member}\n)::VARCHAR AS m`,
    `TRY_CAST((${score}\n) AS DOUBLE) AS s`,
    `(${exact}) AS exact`,
  ]
  return {
    rows: rows(items),
    entries:
      'SELECT k, m AS o, to_json([s::VARCHAR, m])::VARCHAR AS a FROM (SELECT k, m, arg_max(s, n) AS s FROM {rows} GROUP BY k, m)',
    several: true,
    names: [],
    faults: [
      ...faults,
      { where: 'm IS NULL', message: `have no member: \`${member}\` is NULL there`, hint: 'take them out by a filter' },
      {
        where: '(s IS NULL OR isnan(s)) AND exact',
        message: `have no score: \`${score}\` is NULL or NaN there`,
        hint: 'take them out by a filter',
      },
      {
        where: 'NOT exact',
        message: 'have a score that a double does not hold exactly',
        hint: 'round it, or take a coarser unit: whole numbers are exact up to 2^53',
      },
    ],
  }
}

/** Increments are summed for each key: a counter is raised once for all rows of a batch. */
function counter({ increment, increments }: DataOptions, rows: RowsSql, faults: readonly Fault[]): DataSql {
  const raised: readonly (readonly [string, Increment])[] =
    increments === undefined ? [['', increment ?? '0']] : Object.entries(increments)
  const items = raised.flatMap(([, by], index) => {
    const { of, scale } = asScaled(by)
    const text = `(${of}\n)::VARCHAR`
    return [`${text} IS NOT NULL AS t${index}`, `${scaledSql(text, scale)} AS i${index}`]
  })
  const sums = raised.map((_, index) => `sum(i${index})::VARCHAR`)
  return {
    rows: rows(items),
    entries: `SELECT k, 0 AS o, to_json([${sums.join(', ')}])::VARCHAR AS a FROM {rows} GROUP BY k`,
    several: false,
    names: increments === undefined ? [] : raised.map(([name]) => name),
    faults: [
      ...faults,
      ...raised.flatMap(([name, by], index): Fault[] => {
        const { of, scale } = asScaled(by)
        const what = name === '' ? 'increment' : `increment of ${name}`
        const sum = `sum(i${index}) OVER (PARTITION BY k)`
        return [
          {
            where: `t${index} AND i${index} IS NULL`,
            message: `have an ${what} that is no number with ${scale} digits after the point: \`${of}\``,
            hint: 'round it in the expression, or keep more digits by `scale`',
          },
          {
            where: `i${index} NOT ${INT64} OR k IN (SELECT k FROM (SELECT k, ${sum} AS s FROM {rows}) WHERE s NOT ${INT64})`,
            message: `have an ${what} that leaves 64 bits`,
            hint: 'keep fewer digits by `scale`',
          },
        ]
      }),
    ],
  }
}

function asScaled(by: Increment): { readonly of: string; readonly scale: number } {
  return typeof by === 'string' ? { of: by, scale: 0 } : by
}

/** The number times 10^scale, by its digits; NULL where it has more than that behind the point. */
function scaledSql(text: string, scale: number): string {
  const fraction = `rtrim(split_part(${text}, '.', 2), '0')`
  return `CASE WHEN length(${fraction}) <= ${scale} THEN TRY_CAST(split_part(${text}, '.', 1) || rpad(${fraction}, ${scale}, '0') AS HUGEINT) END`
}
