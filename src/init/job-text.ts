/** A drafted job as text, with what was seen in the sample as comments. */
import { stringify } from 'yaml'
import type { Draft, DraftColumn } from './draft.ts'

export const SCHEMA_LINE = '# yaml-language-server: $schema='

export interface JobTextOptions {
  readonly name: string
  /** The source, as it stands in the job file. */
  readonly extractor: Readonly<Record<string, unknown>>
  /** Path or address of the JSON Schema, as an editor finds it from the job file. */
  readonly schema: string
}

const PERSONAL = /(^|_)(e_?mail|phone|ip|ip_address|user_id|user|first_name|last_name|full_name|address|birthday)($|_)/

export function jobText(draft: Draft, { name, extractor, schema }: JobTextOptions): string {
  const { records, whole, columns } = draft
  const seen = `${records.toLocaleString('en-US')} records`
  const noId = columns.some(({ required }) => required)
    ? ''
    : '\n    # Say `required: true` where a record without a value is wrong.'
  return `${SCHEMA_LINE}${schema}
# Drafted by \`adflow init\` from ${whole ? 'all' : 'the first'} ${seen} of the source: every one of them fits the contract.
version: 1
name: ${name}

extract:
  ${name}: ${flow(extractor)}

contract:
  # Fields that are not named here are dropped; \`evolve\` would take them up.
  unknown: discard_value
  columns:${noId}
${columns.map((column) => `    ${columnLine(column, records)}`).join('\n')}

# Rules a record must keep; the others go to quarantine with their original bytes.
# validate:
#   - { id: in_range, check: "${rule(columns)}" }

# Steps, in order; \`adflow components --kind step\` lists them.
# transform:
#   - ${step(columns)}

load:
  warehouse: { type: duckdb, path: "../warehouse.duckdb", table: ${name} }
`
}

/** A `$\{` of a name is no variable. */
export function escaped(path: string): string {
  return path.replaceAll('${', () => '$${')
}

function columnLine(column: DraftColumn, records: number): string {
  const { name, field, type, format, required } = column
  const options = {
    type,
    ...(field === name ? {} : { from: escaped(field) }),
    ...(format === undefined ? {} : { format }),
    ...(required ? { required } : {}),
  }
  const value = Object.keys(options).length === 1 ? scalar(type) : flow(options)
  return `${scalar(name)}: ${value} # ${aboutColumn(column, records)}`
}

function aboutColumn({ name, nulls, range, distinct, note }: DraftColumn, records: number): string {
  const share = records === 0 ? 0 : nulls / records
  const missing = nulls === 0 ? 'no nulls' : `${share < 0.001 ? `${nulls} null` : `${(share * 100).toFixed(1)}% null`}`
  const values = range === undefined ? `about ${distinct.toLocaleString('en-US')} values` : `${range[0]} … ${range[1]}`
  const personal = PERSONAL.test(name) ? ['personal? then say `personal: true` and mask it'] : []
  return [missing, values, ...(note === undefined ? [] : [note]), ...personal].join('; ').replaceAll(/\s+/g, ' ')
}

function flow(map: Readonly<Record<string, unknown>>): string {
  return stringify(map, { collectionStyle: 'flow', lineWidth: 0, defaultStringType: 'PLAIN' }).trim()
}

function scalar(text: string): string {
  return stringify(text, { lineWidth: 0 }).trim()
}

function rule(columns: readonly DraftColumn[]): string {
  const number = columns.find(({ type, range }) => range !== undefined && /^(bigint|integer|double)$/.test(type))
  return number === undefined ? '… is an SQL expression over one record' : `${number.name} >= ${number.range?.[0] ?? 0}`
}

function step(columns: readonly DraftColumn[]): string {
  const id = columns.find(({ required }) => required)
  if (id !== undefined) return `dedupe: { key: [${id.name}] }`
  return `derive: { more: "an SQL expression, such as upper(${columns[0]?.name ?? 'name'})" }`
}
