/** From the columns of the traffic SQL to records: one line per record for the text formats, typed columns for Parquet. */
import { literal } from '../engine/sql-text.ts'
import { codeOf, type DefectClass } from './defects.ts'
import { sqlPick } from './random.ts'
import { DEVICE_OS, PLACES, PUBLISHERS } from './reference.ts'

export const SAMPLE_FORMATS = ['ndjson', 'csv', 'parquet'] as const
export type SampleFormat = (typeof SAMPLE_FORMATS)[number]

/** Columns of every format, in their order. Flat, so that one contract fits all three. */
export const SAMPLE_COLUMNS = [
  'event_id',
  'event_type',
  'event_time',
  'received_at',
  'campaign_id',
  'crid',
  'impid',
  'publisher',
  'user_id',
  'ip',
  'os',
  'country',
  'city',
  'cost_micros',
] as const

type ColumnName = (typeof SAMPLE_COLUMNS)[number]

/** What stands in `cost_micros` of a `wrong_type` record. */
const NO_NUMBERS = ['n/a', 'free', 'unknown', '1.2e'] as const
/** What a proxy or a crashed writer leaves between the records of an NDJSON file. */
const NO_JSON = [
  'upstream timed out (110: Connection timed out) while reading response header',
  '<html><body><h1>502 Bad Gateway</h1></body></html>',
  '{event_id: 1, event_type: impression}',
  '-- log rotated --',
] as const

const isa = (name: DefectClass): string => `defect = ${codeOf(name)}`

/** SQL of each column. `text` writes a string constant as the format wants it inside a field. */
function columnSql(text: (value: string) => string): Record<ColumnName, string> {
  const pick = (values: readonly string[], index: string): string => sqlPick(values.map(text), index)
  const time = (ms: string): string => `strftime(make_timestamp_ms(${ms}), '%Y-%m-%dT%H:%M:%S.%gZ')`
  // Odd factor, modulo 2^36: a permutation, so impression ids stay unique; the leading 1 fixes their length.
  const imp = `(imp * 1640531527 & ${2 ** 36 - 1}) + ${2 ** 36}`
  return {
    event_id: 'event_id',
    event_type: 'event_type',
    event_time: time('event_ms'),
    received_at: time('received_ms'),
    campaign_id: `CASE WHEN ${isa('missing_field')} THEN NULL ELSE campaign_id END`,
    crid: `concat(campaign_id, '-', creative + 1)`,
    impid: `lower(hex(${imp}))`,
    publisher: pick(PUBLISHERS, 'publisher'),
    user_id: `concat('u', user_no + 100000)`,
    // 198.18.0.0/15 is reserved for benchmarks (RFC 2544): no address of a person.
    ip: `concat('198.', 18 + (ip_no >> 16), '.', (ip_no >> 8) & 255, '.', ip_no & 255)`,
    os: pick(DEVICE_OS, 'os'),
    country: pick(
      PLACES.map(([, country]) => country),
      'place',
    ),
    city: pick(
      PLACES.map(([city]) => city),
      'place',
    ),
    cost_micros: `CASE WHEN ${isa('wrong_type')} THEN ${pick(NO_NUMBERS, 'dice & 3')} ELSE cost_micros::VARCHAR END`,
  }
}

/** SELECT of the records to write: the column `line` for NDJSON and CSV, all columns for Parquet. */
export function recordsSql(format: SampleFormat, events: string): string {
  if (format === 'ndjson') return ndjsonSql(events)
  return format === 'csv' ? csvSql(events) : parquetSql(events)
}

function ndjsonSql(events: string): string {
  const inner = (value: string): string => JSON.stringify(value).slice(1, -1)
  const columns = columnSql(inner)
  const quoted = SAMPLE_COLUMNS.map((name, i) => {
    const label = `${i === 0 ? '{' : ','}"${name}":`
    if (name === 'event_id') return `${literal(label)}, event_id`
    if (name === 'campaign_id')
      return `CASE WHEN ${isa('missing_field')} THEN CASE WHEN dice & 1 = 0 THEN '' ELSE ${literal(`${label}null`)} END
        ELSE concat(${literal(label)}, campaign_id) END`
    if (name === 'cost_micros')
      return `CASE WHEN ${isa('wrong_type')} THEN concat(${literal(`${label}"`)}, ${columns[name]}, '"')
        ELSE concat(${literal(label)}, cost_micros) END`
    return `${literal(`${label}"`)}, ${columns[name]}, '"'`
  })
  const broken = `CASE WHEN dice & 1 = 0 THEN left(line, 20 + (dice >> 3) % (length(line) - 20))
    ELSE ${sqlPick(NO_JSON, '(dice >> 1) & 3')} END`
  return `SELECT CASE WHEN ${isa('malformed')} THEN ${broken} ELSE line END AS line
    FROM (SELECT defect, dice, concat(${quoted.join(', ')}, '}') AS line FROM (${events}))`
}

/** RFC 4180: a field with comma or quote stands in quotes, quotes inside are doubled. */
export const csvField = (value: string): string => (/[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value)

function csvSql(events: string): string {
  const columns = columnSql(csvField)
  const fields = (names: readonly ColumnName[]): string => `concat(${names.map((n) => columns[n]).join(`, ',', `)})`
  const line = fields(SAMPLE_COLUMNS)
  return `SELECT CASE WHEN NOT ${isa('malformed')} THEN ${line}
    WHEN dice & 1 = 0 THEN ${fields(SAMPLE_COLUMNS.slice(0, 4))}
    ELSE concat(${line}, ',surplus') END AS line FROM (${events})`
}

function parquetSql(events: string): string {
  const columns = columnSql((value) => value)
  const typed = { ...columns, event_time: instant('event_ms'), received_at: instant('received_ms') }
  return `SELECT ${SAMPLE_COLUMNS.map((name) => `${typed[name]} AS ${name}`).join(', ')} FROM (${events})`
}

const instant = (ms: string): string => `make_timestamp_ms(${ms})::TIMESTAMPTZ`
