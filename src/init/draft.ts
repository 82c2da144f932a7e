/**
 * Drafts a contract from a sample: for each field the strictest type that takes every value of the sample under the very
 * casts of a run, so that a run over the sample rejects nothing.
 */
import type { Session } from '../engine/session.ts'
import { ident, literal } from '../engine/sql-text.ts'
import { isNested, resolveType, type TypeTree, typedSql, unfitSql } from '../engine/types.ts'
import { columnNames } from './column-names.ts'
import { choicesFor, otherOrder, PATTERNS, TEXT_NUMBERS, type TypeChoice } from './column-types.ts'
import { openSampleFile, type SampleField, type SampleFile } from './sample-file.ts'

export interface DraftColumn {
  readonly name: string
  readonly field: string
  readonly type: string
  readonly format?: string
  readonly required: boolean
  readonly nulls: number
  /** Not given for texts: they may be personal. */
  readonly range?: readonly [min: string, max: string]
  readonly distinct: number
  /** What its reader should know. */
  readonly note?: string
}

export interface Draft {
  readonly file: SampleFile
  /** Records looked at. */
  readonly records: number
  /** false: the file has more records than were looked at. */
  readonly whole: boolean
  readonly columns: readonly DraftColumn[]
}

const SAMPLE_ROWS = 1_000_000
/** Patterns of dates are tried on so many records first. */
const PATTERN_ROWS = 1_000
const TABLE = 'drafted'

interface Field extends SampleField {
  /** Column of the sample table. */
  readonly raw: string
  choices: readonly TypeChoice[]
  tree: TypeTree
  note?: string
}

/** `textNumbers`: numbers may stand there as texts, as systems write those that JSON cannot hold. */
export async function draftFrom(path: string, session: Session, { textNumbers = false } = {}): Promise<Draft> {
  const file = await openSampleFile(path, session)
  const parquet = file.format === 'parquet'
  const fields: Field[] = []
  for (const [index, field] of file.fields.entries()) {
    const [first] = parquet ? [{ type: field.type }] : choicesFor(field.type, [])
    const choice = first ?? { type: 'varchar' }
    fields.push({ ...field, raw: `r${index}`, choices: [choice], tree: await resolveType(session, choice.type) })
  }
  await readSample(file, fields, session)
  if (!parquet) await chooseTypes(file, fields, session, textNumbers)
  const records = Number(await session.value(`SELECT count(*) FROM ${TABLE}`))
  const columns = await describeColumns(file, fields, records, session)
  return { file, records, whole: records < SAMPLE_ROWS, columns }
}

/** Nested fields are read with their shape. Where a value has another one the reader refuses, and they are read as JSON. */
async function readSample(file: SampleFile, fields: readonly Field[], session: Session): Promise<void> {
  const read = () => {
    const items = fields.map(({ name, raw }) => `${ident(name)} AS ${raw}`)
    const from = file.from(new Map(fields.map(({ name, tree }) => [name, tree])))
    return session.run(
      `CREATE OR REPLACE TEMP TABLE ${TABLE} AS SELECT ${items.join(', ')} FROM ${from} LIMIT ${SAMPLE_ROWS}`,
    )
  }
  try {
    await read()
  } catch (error) {
    const shaped = fields.filter(({ tree }) => isNested(tree))
    if (file.format === 'parquet' || shaped.length === 0) throw error
    for (const field of shaped) await become(field, { type: 'json' }, session)
    await read()
  }
}

async function become(field: Field, choice: TypeChoice, session: Session): Promise<void> {
  field.choices = [choice]
  field.tree = await resolveType(session, choice.type)
}

async function chooseTypes(
  file: SampleFile,
  fields: readonly Field[],
  session: Session,
  textNumbers: boolean,
): Promise<void> {
  await addChoices(fields, session, textNumbers)
  const separated = file.format === 'csv' || file.format === 'tsv'
  if (!separated) await mixedFields(file, fields, session)
  if (separated || textNumbers) await keepLeadingZeros(fields, session)
  for (;;) {
    const open = fields.filter(({ choices }) => choices.length > 1)
    if (open.length === 0) return
    const misfits = await countMisfits(open, session)
    for (const [index, field] of open.entries()) {
      const [first, ...others] = field.choices
      if ((misfits[index] ?? 0) === 0 && first !== undefined) field.choices = [first]
      else {
        field.choices = others
        field.tree = await resolveType(session, others[0]?.type ?? 'varchar')
      }
    }
    // A nested field that became JSON is read in another way.
    if (open.some(({ tree, choices }) => tree.kind === 'json' && choices.length === 1))
      await readSample(file, fields, session)
  }
}

/** Guesses become choices, with the patterns of dates that the first values fit. */
async function addChoices(fields: readonly Field[], session: Session, textNumbers: boolean): Promise<void> {
  for (const field of fields) {
    const dated = field.tree.kind === 'text' || /^(DATE|TIMESTAMP)/.test(field.type)
    const patterns = dated ? await fittingPatterns(field, session) : []
    if (field.choices[0]?.type === 'json') continue
    field.choices =
      textNumbers && field.type === 'VARCHAR' && patterns.length === 0 ? TEXT_NUMBERS : choicesFor(field.type, patterns)
    field.tree = await resolveType(session, field.choices[0]?.type ?? 'varchar')
  }
}

async function fittingPatterns(field: Field, session: Session): Promise<readonly TypeChoice[]> {
  const tests = PATTERNS.map(
    ({ format = '' }, index) =>
      `count(*) FILTER (try_strptime(${field.raw}, ${literal(format)}) IS NOT NULL) AS p${index}`,
  )
  const iso = `count(*) FILTER (regexp_matches(${field.raw}, '^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:')) AS iso`
  const [row] = await session.rows(
    `SELECT count(*) AS n, ${[iso, ...tests].join(', ')} FROM (SELECT ${field.raw} FROM ${TABLE} WHERE ${field.raw} IS NOT NULL LIMIT ${PATTERN_ROWS})`,
  )
  if (Number(row?.['n']) > 0 && row?.['iso'] === row?.['n']) return [{ type: 'timestamp' }]
  const fits = PATTERNS.filter((_, index) => Number(row?.['n']) > 0 && row?.[`p${index}`] === row?.['n'])
  const twin = fits.find((choice) => fits.some(({ format }) => format === otherOrder(choice)?.format))
  if (twin === undefined) return fits
  // Only all values can tell; where they cannot, nobody is served by a guess.
  const sure: TypeChoice[] = []
  for (const choice of fits) {
    const other = otherOrder(choice)
    if (other === undefined || !(await allFit(field, other, session))) sure.push(choice)
    else field.note = `a date? day and month cannot be told apart: ${choice.format} or ${other.format}`
  }
  return sure
}

async function allFit({ raw }: Field, { format = '' }: TypeChoice, session: Session): Promise<boolean> {
  const misfit = `${raw} IS NOT NULL AND try_strptime(${raw}, ${literal(format)}) IS NULL`
  return Number(await session.value(`SELECT count(*) FROM ${TABLE} WHERE ${misfit}`)) === 0
}

/** Fields whose values have several JSON types: text, unless there are maps and lists among them. */
async function mixedFields(file: SampleFile, fields: readonly Field[], session: Session): Promise<void> {
  for (const field of fields.filter(({ type }) => type === 'JSON')) {
    const from = file.from(new Map([[field.name, await resolveType(session, 'JSON')]]))
    const rows = await session.rows(
      `SELECT DISTINCT json_type(${ident(field.name)}) AS t FROM (SELECT * FROM ${from} LIMIT ${SAMPLE_ROWS})`,
    )
    const kinds = rows.map((row) => String(row['t'])).filter((kind) => kind !== 'null' && kind !== 'NULL')
    if (kinds.length === 0) field.note = 'no value in the sample'
    else if (kinds.some((kind) => kind === 'OBJECT' || kind === 'ARRAY')) await become(field, { type: 'json' }, session)
    else field.note = `${[...new Set(kinds.map(wordOf))].sort().join(' and ')} mixed`
  }
  await readSample(file, fields, session)
}

function wordOf(jsonType: string): string {
  if (jsonType === 'VARCHAR') return 'texts'
  return jsonType === 'BOOLEAN' ? 'truth values' : 'numbers'
}

/** 00123 is no number. */
async function keepLeadingZeros(fields: readonly Field[], session: Session): Promise<void> {
  for (const field of fields.filter(({ tree }) => tree.kind === 'integer')) {
    const zeros = `SELECT count(*) FROM ${TABLE} WHERE regexp_matches(${field.raw}, '^0[0-9]')`
    if (Number(await session.value(zeros)) === 0) continue
    await become(field, { type: 'varchar' }, session)
    field.note = 'digits with leading zeros'
  }
}

function typed({ tree, choices, raw }: Field): string {
  return typedSql(tree, raw, choices[0]?.format)
}

async function countMisfits(fields: readonly Field[], session: Session): Promise<number[]> {
  const tests = fields.map((field, index) => {
    const unfit = unfitSql(field.tree, field.raw, `t${index}`)
    return `${unfit === undefined ? '0' : `count(*) FILTER (${unfit})`} AS c${index}`
  })
  const items = fields.map((field, index) => `${typed(field)} AS t${index}`)
  const [row] = await session.rows(`SELECT ${tests.join(', ')} FROM (SELECT *, ${items.join(', ')} FROM ${TABLE})`)
  return fields.map((_, index) => Number(row?.[`c${index}`] ?? 0))
}

const RANGED = /^(U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|DECIMAL.*|DOUBLE|FLOAT|DATE|TIMESTAMP.*|TIME)$/
const IDENTIFIER = /^(id|uuid|guid|key)$|_(id|uuid|guid|key)$/

async function describeColumns(
  { format: written }: SampleFile,
  fields: readonly Field[],
  records: number,
  session: Session,
): Promise<DraftColumn[]> {
  const exact = written === 'parquet'
  const dotted = written === 'json' || written === 'ndjson'
  const words = await session.rows(
    `SELECT keyword_name AS k FROM duckdb_keywords() WHERE keyword_category = 'reserved'`,
  )
  const reserved = new Set(words.map((row) => String(row['k'])))
  const names = columnNames(
    fields.map(({ name }) => name),
    reserved,
  )
  const columns: DraftColumn[] = []
  for (const [index, field] of fields.entries()) {
    const value = exact ? field.raw : typed(field)
    const range = RANGED.test(field.tree.sql) ? `min(${value})::VARCHAR AS low, max(${value})::VARCHAR AS high, ` : ''
    const [row] = await session.rows(
      `SELECT ${range}count(*) - count(${field.raw}) AS nulls, approx_count_distinct(${field.raw}) AS about FROM ${TABLE}`,
    )
    const nulls = Number(row?.['nulls'] ?? 0)
    // A dot in `from` would be a step into a map: such a field is a column under its own name.
    const name = dotted && field.name.includes('.') ? field.name : (names[index] ?? field.name)
    const format = field.choices[0]?.format
    const distinct = Number(row?.['about'] ?? 0)
    const unique = IDENTIFIER.test(name) && nulls === 0 && records > 0 ? await isUnique(field, session) : false
    columns.push({
      name,
      field: field.name,
      type: typeText(field, exact),
      ...(format === undefined ? {} : { format }),
      required: unique,
      nulls,
      distinct,
      ...(row?.['low'] == null ? {} : { range: [String(row['low']), String(row['high'])] as const }),
      ...(field.note === undefined ? {} : { note: field.note }),
    })
  }
  return columns
}

function typeText({ tree, choices }: Field, exact: boolean): string {
  const type = exact ? tree.sql : (choices[0]?.type ?? 'varchar')
  const plain = type === 'TIMESTAMP WITH TIME ZONE' ? 'timestamptz' : type
  // Names inside a struct keep their case.
  return /^(STRUCT|MAP|ENUM|UNION)|\]$/.test(plain) ? plain : plain.toLowerCase()
}

async function isUnique({ raw }: Field, session: Session): Promise<boolean> {
  const twice = `SELECT 1 FROM ${TABLE} GROUP BY ${raw} HAVING count(*) > 1 LIMIT 1`
  return (await session.rows(twice)).length === 0
}
