/**
 * The embedded side of a comparison: from any relation of rows to digests per bucket, per part, per row. One scan each, on the
 * engine's threads; what a row is made of becomes two 64-bit numbers, its id and its content.
 */
import type { ComparedSide, CompareScope } from '../core/comparison.ts'
import type { TypedColumn } from './exact.ts'
import { ident } from './sql-text.ts'

/** Bucket of rows without a time, or with an infinite one. */
const NO_TIME = '-9223372036854775808'

/** `relation`: table or sub-query with the columns of the scope under any type; `batch`: SQL of the number of a row's batch. */
export interface EmbeddedRows {
  readonly relation: string
  readonly batch: string
}

/** The four questions as SQL over rows that the engine reads itself. */
export function embeddedSide(rows: EmbeddedRows): ComparedSide {
  return {
    buckets: async (scope) => bucketsSql(tagsSql(rows, scope), scope),
    parts: async (scope, within, parts) => partsSql(tagsSql(rows, scope), scope, within, parts),
    entries: async (scope, within, parts) => entriesSql(tagsSql(rows, scope), scope, within, parts),
    rows: async (scope, ids) => `SELECT * FROM (${taggedSql(rows, scope)}) WHERE __id IN (SELECT id FROM ${ids})`,
  }
}

/** `bucket, id, content, batch, sum_…` of each row in the scope. */
export function tagsSql(rows: EmbeddedRows, scope: CompareScope, more: readonly string[] = []): string {
  const sums = scope.sums.map((name, index) => `${ident(name)} AS sum_${index}`)
  const tags = ['__bucket AS bucket', '__id AS id', '__content AS content', '__batch AS batch']
  return `SELECT ${[...tags, ...sums, ...more].join(', ')} FROM (${taggedSql(rows, scope, more)})`
}

/** `__bucket, __id, __content, __batch`, which no column of a job can be called, and the compared columns in the types of the scope; `more`: further columns of the relation. */
export function taggedSql(
  { relation, batch }: EmbeddedRows,
  scope: CompareScope,
  more: readonly string[] = [],
): string {
  const { columns, key, without, digest } = scope
  const typed = columns.map(({ name, type }) => `CAST(${ident(name)} AS ${type}) AS ${ident(name)}`)
  const byName = new Map(columns.map((column) => [column.name, column]))
  const keys = key.map((name) => byName.get(name) as TypedColumn)
  const id = rowDigest(keys, digest)
  const conditions = [...rangeSql(scope), ...timeBucketsSql(scope)]
  if (without !== undefined) conditions.push(`(__batch IS NULL OR __batch NOT IN (SELECT batch FROM ${without}))`)
  const rows = `SELECT ${[...typed, ...more].join(', ')}, ${batch} AS __batch FROM ${relation} AS rows`
  const names = columns.map(({ name }) => ident(name)).join(', ')
  const content = keys.length === columns.length ? '__id' : rowDigest(columns, digest)
  // Rows go before their digest is made: that is what costs.
  const identified = `SELECT ${[names, '__batch', ...more].join(', ')}, ${id} AS __id FROM (${rows})${whereSql(conditions)}`
  return `SELECT *, ${content} AS __content, ${bucketSql(scope)} AS __bucket FROM (${identified})${whereSql(keyBucketsSql(scope))}`
}

export function bucketsSql(tags: string, { sums }: CompareScope): string {
  const totals = sums.map((_, index) => `, sum(sum_${index}) AS sum_${index}`).join('')
  return `SELECT bucket, count(*) AS rows, sum(content)::HUGEINT AS digest${totals} FROM (${tags}) GROUP BY bucket`
}

export function partsSql(tags: string, scope: CompareScope, within: string, parts: number): string {
  return `SELECT bucket, ${partSql(scope, parts)} AS part, count(*) AS rows, sum(content)::HUGEINT AS digest FROM (${tags}) WHERE bucket IN (SELECT bucket FROM ${within}) GROUP BY ALL`
}

export function entriesSql(tags: string, scope: CompareScope, within: string, parts: number): string {
  return `SELECT bucket, id, content, batch FROM (${tags}) WHERE (bucket, ${partSql(scope, parts)}) IN (SELECT (bucket, part) FROM ${within})`
}

/** Beside the bucket, which may have used up the lowest digits of the id. */
function partSql({ bucket }: CompareScope, parts: number): string {
  const id = bucket.by === 'time' ? 'id' : `(id // ${bucket.count})`
  return `(${id} % ${parts})::BIGINT`
}

function bucketSql({ bucket }: CompareScope): string {
  if (bucket.by === 'key') return `(__id % ${bucket.count})::BIGINT`
  const at = timeSql(bucket.column)
  const width = bucket.widthUs
  // Division rounds towards zero; buckets before 1970 must not be twice as wide.
  return `coalesce(${at} - ((${at} % ${width}) + ${width}) % ${width}, ${NO_TIME})`
}

function rangeSql({ range }: CompareScope): string[] {
  if (range === undefined) return []
  const at = timeSql(range.column)
  return [
    ...(range.from === undefined ? [] : [`${at} >= ${range.from}`]),
    ...(range.to === undefined ? [] : [`${at} < ${range.to}`]),
  ]
}

/** As bare comparisons of the column: the engine passes over row groups by their minimum and maximum. */
function timeBucketsSql({ bucket, buckets, columns }: CompareScope): string[] {
  if (buckets === undefined || bucket.by !== 'time') return []
  const column = ident(bucket.column)
  const type = columns.find(({ name }) => name === bucket.column)?.type
  const at = type === 'DATE' ? `CAST(${column} AS TIMESTAMP)` : column
  const point = (us: bigint) =>
    `(${type === 'DATE' ? 'TIMESTAMP' : type} '1970-01-01 00:00:00+00' + to_microseconds(${us}))`
  const ranges = buckets.map((from) =>
    String(from) === NO_TIME
      ? `(${column} IS NULL OR NOT isfinite(${column}))`
      : `(${at} >= ${point(from)} AND ${at} < ${point(from + BigInt(bucket.widthUs))})`,
  )
  return [ranges.length === 0 ? 'false' : `(${ranges.join(' OR ')})`]
}

function keyBucketsSql({ bucket, buckets }: CompareScope): string[] {
  if (buckets === undefined || bucket.by !== 'key') return []
  return [`__id % ${bucket.count} IN (${['-1', ...buckets].join(', ')})`]
}

function whereSql(conditions: readonly string[]): string {
  return conditions.length === 0 ? '' : ` WHERE ${conditions.join(' AND ')}`
}

/** NULL for an infinite time too. */
function timeSql(column: string): string {
  return `epoch_us(CASE WHEN isfinite(${ident(column)}) THEN ${ident(column)} END)`
}

function rowDigest(columns: readonly TypedColumn[], digest: CompareScope['digest']): string {
  const items = columns.map(({ name }) => ident(name))
  return digest === 'engine'
    ? `hash(${items.join(', ')})`
    : `md5_number_lower(${columns.map(canonicalSql).join(' || ')})`
}

/** Length, colon, text: no two rows have the same text. A missing value is a hyphen. */
function canonicalSql({ name, type }: TypedColumn): string {
  const value = textSql(ident(name), type)
  return `coalesce(strlen(${value}) || ':' || ${value}, '-')`
}

/** Text that other stores write alike; see docs/reconcile.md. */
function textSql(column: string, type: string): string {
  if (type === 'VARCHAR') return column
  if (/^TIMESTAMP/.test(type)) return `coalesce(epoch_us(${column})::VARCHAR, ${column}::VARCHAR)`
  if (type === 'DATE') return `coalesce(epoch_us(${column})::VARCHAR, ${column}::VARCHAR)`
  if (/^(STRUCT|MAP|UNION)|\]$/.test(type)) return `to_json(${column})::VARCHAR`
  return `${column}::VARCHAR`
}
