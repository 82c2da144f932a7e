/**
 * SQL that reads a chunk under a contract: raw text → typed columns → one boolean per row. The same strict casts serve
 * every format, so a value is good or bad whatever its neighbours are. Which rule a bad row breaks is asked only of bad
 * rows (forensic SQL): asking it of every row costs a third of the throughput.
 */
import type { ChunkFormat } from '../core/contracts.ts'
import { pathOf } from './field-path.ts'
import { ident, literal } from './sql-text.ts'
import { isNested, rawType, strictSql, type TypeTree, typedSql, unfitSql, wholeSql } from './types.ts'

export interface ContractColumn {
  readonly name: string
  readonly type: TypeTree
  readonly required: boolean
  /** Name of the field in the source; a dotted path reaches into JSON objects. */
  readonly from: string
  readonly format?: string
}

export interface RowRule {
  readonly id: string
  readonly check: string
  readonly onFail: 'quarantine' | 'drop' | 'warn' | 'fail'
}

export interface ReadPlan {
  readonly columns: readonly ContractColumn[]
  readonly rules: readonly RowRule[]
  /** What happens to fields that the contract does not name. */
  readonly unknown: 'evolve' | 'discard_value' | 'discard_row' | 'freeze'
  /** Largest record, for the reader's buffers. */
  readonly maxRecordBytes: number
}

interface RawValue {
  readonly raw: string
  readonly exact?: boolean
  /** SQL that parses the raw text into the raw type, NULL where it cannot: for nested values inside text. */
  readonly parse?: (raw: string) => string
}

/** Where the raw values of one file come from. */
export interface RawSource {
  /** FROM clause. */
  readonly from: string
  /** SQL of the raw value of a column; `exact`: it has the contract's type already. */
  value(column: ContractColumn): RawValue
  /** A record may be `null` in the place of an object; it reads as a row of NULLs. */
  readonly nullRecords?: boolean
  /** SQL that is true where a JSON number may have lost digits on its way through a double. */
  doubt?(column: ContractColumn, raw: string): string | undefined
  /** SELECT of `long`, per record in order: it has a number whose raw value may not be the source's. Absent: no column is touched by that. */
  readonly longNumbers?: string
}

/** Rule names of the contract itself, in the order in which they are asked. */
export const CONTRACT_RULES = {
  malformed: 'malformed',
  type: 'type',
  required: 'required',
  unknown: 'unknown',
} as const

/** SELECT of the typed columns, `__ok` and (JSON with decimals) `__doubt`. `guard`: a check that raises is a check failed. */
export function tableSql(plan: ReadPlan, source: RawSource, guard: boolean): string {
  const { inner, doubts } = typedRows(plan, source)
  const checks = plan.rules.filter((rule) => rule.onFail !== 'warn').map((rule) => passes(rule, guard))
  const ok = ['NOT __unfit', ...requiredChecks(plan), ...checks].join(' AND ')
  const names = plan.columns.map((column) => ident(column.name))
  const doubt = doubts ? ', __doubt' : ''
  return `SELECT ${names.join(', ')}, (${ok}) AS __ok${doubt} FROM (${inner})`
}

/** Whether a row keeps all rules; undefined: there are none. */
export function rulesSql(plan: ReadPlan): string | undefined {
  const checks = plan.rules.filter((rule) => rule.onFail !== 'warn').map((rule) => passes(rule, true))
  return checks.length === 0 ? undefined : checks.join(' AND ')
}

/**
 * SELECT for a chunk that is taken to be clean: the typed columns, `__ok` and, as `rowid`, a value that raises where a record
 * breaks the contract or a rule. Casts stand once in a projection; in a filter the engine would evaluate them twice.
 */
export function cleanSql(plan: ReadPlan, source: RawSource): string {
  const raws = plan.columns.map((_, index) => `__raw${index}`)
  const raw = plan.columns.map((column, index) => `${source.value(column).raw} AS ${raws[index]}`)
  const checks: string[] = [...requiredChecks(plan)]
  if (checks.length === 0 && source.nullRecords === true)
    checks.push(`(${plan.columns.map((column) => `${ident(column.name)} IS NOT NULL`).join(' OR ')})`)
  const integers: string[] = []
  const typed = plan.columns.map((column, index) => {
    const text = raws[index] ?? ''
    const name = ident(column.name)
    if (source.value(column).exact === true) return `${text} AS ${name}`
    if (column.type.kind === 'integer' && column.format === undefined && source.value(column).parse === undefined) {
      integers.push(text)
      return `CAST(${text} AS ${column.type.sql}) AS ${name}`
    }
    const doubt = source.doubt?.(column, text)
    if (doubt !== undefined) checks.push(`NOT coalesce(${doubt}, false)`)
    const value = source.value(column)
    const strict = value.parse === undefined ? strictSql(column.type, text, column.format) : undefined
    if (strict !== undefined) return `${strict} AS ${name}`
    const unfit = unfitOf(column, value, text)
    if (unfit !== undefined) checks.push(`NOT ${unfit}`)
    return `${typedSql(column.type, parsed(value, text), column.format)} AS ${name}`
  })
  if (integers.length > 0) {
    // Asked of all of them at once: it costs a third of asking each. A NULL is nothing to concat().
    typed.push(`concat(${integers.join(', ')}) AS __integers`)
    checks.push(wholeSql('__integers'))
  }
  if (source.longNumbers !== undefined) checks.push(`(SELECT count(*) = 0 FROM (${source.longNumbers}) WHERE long)`)
  checks.push(...plan.rules.filter((rule) => rule.onFail !== 'warn').map((rule) => passes(rule, false)))
  const clean = checks.length === 0 ? 'true' : checks.join(' AND ')
  const names = plan.columns.map((column) => ident(column.name))
  return `SELECT CASE WHEN ${clean} THEN 0::BIGINT ELSE error('not clean')::BIGINT END AS rowid, ${names.join(', ')}, true AS __ok FROM (SELECT *, ${typed.join(', ')} FROM (SELECT ${raw.join(', ')} FROM ${source.from}))`
}

/** SELECT, per row in order, of every failure: list of {rule, field, reason}. */
export function forensicSql(plan: ReadPlan, source: RawSource): string {
  const { inner, raws } = typedRows(plan, source)
  const failures = plan.columns.flatMap((column, index) => {
    const raw = raws[index] ?? 'NULL'
    const unfit = unfitOf(column, source.value(column), raw)
    const type = unfit && failure(unfit, CONTRACT_RULES.type, column.name, typeReason(column, raw))
    const missing = column.required
      ? failure(`${raw} IS NULL`, CONTRACT_RULES.required, column.name, literal('the field is missing or null'))
      : undefined
    return [type, missing].filter((part) => part !== undefined)
  })
  const rules = plan.rules
    .filter((rule) => rule.onFail !== 'warn')
    .map((rule) => failure(`NOT (${passes(rule, true)})`, rule.id, undefined, literal(`not true: ${rule.check}`)))
  const all = [...failures, ...rules]
  const list = all.length === 0 ? '[]' : `list_filter([${all.join(', ')}], lambda f: f IS NOT NULL)`
  return `SELECT ${list} AS failures FROM (${inner})`
}

function typedRows(plan: ReadPlan, source: RawSource): { inner: string; raws: string[]; doubts: boolean } {
  const values = plan.columns.map((column) => source.value(column))
  const raws = plan.columns.map((_, index) => `__raw${index}`)
  const raw = values.map((value, index) => `${value.raw} AS ${raws[index]}`)
  const typed = plan.columns.map((column, index) => {
    const raw = raws[index] ?? ''
    const sql = values[index]?.exact === true ? raw : typedSql(column.type, parsed(values[index], raw), column.format)
    return `${sql} AS ${ident(column.name)}`
  })
  const unfit = plan.columns.flatMap((column, index) => {
    return unfitOf(column, values[index], raws[index] ?? '') ?? []
  })
  const doubts = plan.columns.flatMap((column, index) => source.doubt?.(column, raws[index] ?? '') ?? [])
  const level1 = `SELECT ${raw.join(', ')} FROM ${source.from}`
  const level2 = `SELECT *, ${typed.join(', ')} FROM (${level1})`
  const flags = [`(${unfit.length === 0 ? 'false' : unfit.join(' OR ')}) AS __unfit`]
  if (doubts.length > 0) flags.push(`coalesce(${doubts.join(' OR ')}, false) AS __doubt`)
  return { inner: `SELECT *, ${flags.join(', ')} FROM (${level2})`, raws, doubts: doubts.length > 0 }
}

function parsed(value: RawValue | undefined, raw: string): string {
  return value?.parse?.(raw) ?? raw
}

function unfitOf(column: ContractColumn, value: RawValue | undefined, raw: string): string | undefined {
  if (value?.exact === true) return undefined
  const inner = unfitSql(column.type, parsed(value, raw), ident(column.name))
  if (value?.parse === undefined) return inner
  const broken = `(${raw} IS NOT NULL AND ${value.parse(raw)} IS NULL)`
  return inner === undefined ? broken : `(${broken} OR ${inner})`
}

function requiredChecks(plan: ReadPlan): string[] {
  return plan.columns.filter((column) => column.required).map((column) => `${ident(column.name)} IS NOT NULL`)
}

/** NULL passes, as in an SQL CHECK: `required` says what must be there. */
function passes(rule: RowRule, guard: boolean): string {
  if (!guard) return `((${rule.check}\n) IS NOT FALSE)`
  return `coalesce(TRY({'v': (${rule.check}\n)}).v IS NOT FALSE AND TRY({'v': (${rule.check}\n)}) IS NOT NULL, false)`
}

function failure(when: string, rule: string, field: string | undefined, reason: string): string {
  return `CASE WHEN ${when} THEN {'rule': ${literal(rule)}, 'field': ${field === undefined ? 'NULL::VARCHAR' : literal(field)}, 'reason': ${reason}} END`
}

function typeReason(column: ContractColumn, raw: string): string {
  const text = `'cannot read ' || coalesce(left(${isNested(column.type) ? `to_json(${raw})::VARCHAR` : raw}, 80), 'null') || ${literal(` as ${column.type.sql}`)}`
  if (column.type.kind !== 'decimal') return text
  return `${text} || CASE WHEN TRY_CAST(${raw} AS ${column.type.sql}) IS NULL THEN '' ELSE ': it has more digits behind the point' END`
}

// --- NDJSON -----------------------------------------------------------------------------------------------------------

interface Field {
  /** Raw type, where the field is read as a whole. */
  leaf?: string
  readonly children: Map<string, Field>
}

/** The keys that the contract reads, as a tree: two columns may come from one object. */
function fieldTree(columns: readonly ContractColumn[]): Map<string, Field> {
  const root = new Map<string, Field>()
  const add = (level: Map<string, Field>, path: readonly string[], type: TypeTree): void => {
    const [name = '', ...rest] = path
    const field = level.get(name) ?? { children: new Map<string, Field>() }
    level.set(name, field)
    if (rest.length > 0) add(field.children, rest, type)
    else if (type.kind === 'struct')
      for (const inner of type.fields ?? []) add(field.children, [inner.name], inner.type)
    else field.leaf = rawType(type)
  }
  for (const column of columns) add(root, pathOf(column), column.type)
  return root
}

function fieldType(field: Field): string {
  if (field.children.size === 0) return field.leaf ?? 'VARCHAR'
  return `STRUCT(${[...field.children].map(([name, child]) => `${ident(name)} ${fieldType(child)}`).join(', ')})`
}

/** Top-level keys that the contract reads. */
export function rootKeys(plan: ReadPlan): string[] {
  return [...fieldTree(plan.columns).keys()]
}

/** `integers`: of integerFields(), those whose values are known to be integers in plain digits, or null. Of these the engine's reader says what a strict
 *  cast of their texts says; of others it does not (docs/decisions/004-strict-casts.md). */
export function jsonSource(plan: ReadPlan, file: string, integers: readonly string[] = []): RawSource {
  const typeOf = new Map(
    plan.columns
      .filter((column) => pathOf(column).length === 1 && integers.includes(pathOf(column)[0] ?? ''))
      .map((column) => [pathOf(column)[0], column.type.sql]),
  )
  const fields = [...fieldTree(plan.columns)].map(
    ([name, field]) => `${literal(name)}: ${literal(typeOf.get(name) ?? fieldType(field))}`,
  )
  return {
    from: `read_json(${literal(file)}, format = 'newline_delimited', records = true, columns = {${fields.join(', ')}}, maximum_object_size = ${plan.maxRecordBytes})`,
    nullRecords: true,
    value: (column) => {
      const path = pathOf(column).map(ident)
      return {
        exact: path.length === 1 && typeOf.has(pathOf(column)[0]),
        raw:
          path.length === 1
            ? path.join('')
            : `(${path[0]})${path
                .slice(1)
                .map((part) => `.${part}`)
                .join('')}`,
      }
    },
    doubt: (column, raw) =>
      column.type.kind === 'decimal'
        ? `(length(${raw}) > 16 AND (contains(${raw}, '.') OR contains(${raw}, 'e')))`
        : undefined,
    ...(plan.columns.some(({ type }) => type.kind === 'decimal')
      ? { longNumbers: longNumbersSql(file, plan.maxRecordBytes) }
      : {}),
  }
}

/** More digits than a double keeps, and a point among them or an exponent behind. The text of such a double may be short: that of
 *  5.000000000000000006 is 5.0. */
const LONG_NUMBER = [
  ...Array.from({ length: 16 }, (_, at) => `[0-9]{${at}}[.][0-9]{${16 - at}}`),
  '[0-9]{16}[eE]',
].join('|')

function longNumbersSql(file: string, maxRecordBytes: number): string {
  return `SELECT coalesce(regexp_matches(json::VARCHAR, '${LONG_NUMBER}'), false) AS long FROM read_ndjson_objects(${literal(file)}, ignore_errors = true, maximum_object_size = ${maxRecordBytes})`
}

/** SELECT, per line in order, of `bad`: the JSON reader cannot take it, because it is not JSON, not an object, or has another
 *  shape. `thorough` also finds doubled keys, at three times the cost: asked for only when the cheaper search has not found all. */
export function damagedJsonSql(plan: ReadPlan, file: string, thorough: boolean): string {
  const shapes = plan.columns
    .filter((column) => isNested(column.type) || pathOf(column).length > 1)
    .flatMap((column) => shapeChecks(pathOf(column), column.type))
  const bad = [
    'json IS NULL',
    `NOT starts_with(ltrim(json, ' \t'), '{')`,
    ...shapes.map((shape) => `coalesce(${shape}, false)`),
  ]
  if (thorough) {
    const keys = `list_filter(json_keys(json), lambda k: k IN (${rootKeys(plan).map(literal).join(', ')}))`
    bad.push(`len(${keys}) <> len(list_distinct(${keys}))`)
  }
  return `SELECT ${bad.join(' OR ')} AS bad FROM read_ndjson_objects(${literal(file)}, ignore_errors = true, maximum_object_size = ${plan.maxRecordBytes})`
}

/** Ordinals of lines with fields that the contract does not name, and these fields. */
export function strangeJsonSql(plan: ReadPlan, file: string): string {
  const roots = rootKeys(plan).map(literal).join(', ')
  return `SELECT ord, fields FROM (SELECT row_number() OVER () - 1 AS ord, list_filter(json_keys(json), lambda k: k NOT IN (${roots})) AS fields FROM read_ndjson_objects(${literal(file)}, ignore_errors = true, maximum_object_size = ${plan.maxRecordBytes})) WHERE len(fields) > 0 ORDER BY ord`
}

function shapeChecks(path: readonly string[], type: TypeTree): string[] {
  const at = (parts: readonly string[]) =>
    literal(`$${parts.map((part) => `."${part.replaceAll('"', '\\"')}"`).join('')}`)
  const parents = path
    .slice(0, -1)
    .map((_, index) => `json_type(json, ${at(path.slice(0, index + 1))}) NOT IN ('OBJECT', 'NULL')`)
  if (type.kind === 'list') return [...parents, `json_type(json, ${at(path)}) NOT IN ('ARRAY', 'NULL')`]
  if (type.kind === 'map') return [...parents, `json_type(json, ${at(path)}) NOT IN ('OBJECT', 'NULL')`]
  if (type.kind !== 'struct') return parents
  const own = `json_type(json, ${at(path)}) NOT IN ('OBJECT', 'NULL')`
  return [...parents, own, ...(type.fields ?? []).flatMap((field) => shapeChecks([...path, field.name], field.type))]
}

// --- CSV --------------------------------------------------------------------------------------------------------------

type CsvFormat = Extract<ChunkFormat, { type: 'csv' }>

export function csvFrom(format: CsvFormat, file: string, maxRecordBytes: number, more = ''): string {
  const columns = format.header.map((name) => `${literal(name)}: 'VARCHAR'`).join(', ')
  // A quoted empty field is an empty text; an empty field is NULL.
  return `read_csv(${literal(file)}, auto_detect = false, header = false, delim = ${literal(format.delimiter)}, quote = ${literal(format.quote)}, escape = ${literal(format.quote)}, columns = {${columns}}, nullstr = '', new_line = '\\n', allow_quoted_nulls = false, max_line_size = ${maxRecordBytes}, buffer_size = ${Math.max(2 * maxRecordBytes, 32_000_000)}${more})`
}

export function csvSource(plan: ReadPlan, format: CsvFormat, file: string): RawSource {
  const header = new Map(format.header.map((name) => [name.toLowerCase(), name]))
  return {
    from: csvFrom(format, file, plan.maxRecordBytes),
    value: (column) => {
      const name = header.get(column.from.toLowerCase())
      if (name === undefined) return { raw: `NULL::${rawType(column.type)}` }
      // Nested values stand in CSV as JSON text.
      if (column.type.kind === 'json') return { raw: ident(name), parse: (raw) => `TRY_CAST(${raw} AS JSON)` }
      if (!isNested(column.type)) return { raw: ident(name) }
      return { raw: ident(name), parse: (raw) => `TRY(CAST(TRY_CAST(${raw} AS JSON) AS ${rawType(column.type)}))` }
    },
  }
}

// --- Parquet ----------------------------------------------------------------------------------------------------------

/** `types`: the file's own columns. `only`: 0-based rows of the file, for forensics. */
export function parquetSource(
  format: Extract<ChunkFormat, { type: 'parquet' }>,
  file: string,
  types: ReadonlyMap<string, { readonly name: string; readonly tree: TypeTree }>,
  only?: readonly number[],
): RawSource {
  const rows =
    only === undefined
      ? `file_row_number >= ${format.fromRow} AND file_row_number < ${format.toRow}`
      : `file_row_number IN (${only.join(', ')})`
  return {
    from: `(SELECT * FROM read_parquet(${literal(file)}, file_row_number = true) WHERE ${rows})`,
    value: (column) => {
      const found = types.get(column.from.toLowerCase())
      if (found === undefined) return { raw: `NULL::${rawType(column.type)}` }
      const sql = ident(found.name)
      if (found.tree.sql === column.type.sql) return { raw: sql, exact: true }
      if (isNested(column.type)) return { raw: `TRY_CAST(${sql} AS ${rawType(column.type)})` }
      return { raw: `${sql}::VARCHAR` }
    },
  }
}
