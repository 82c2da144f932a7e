/** Reads samples back without any code of the project that makes or loads them, and counts what is in them. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { DuckDBInstance } from '@duckdb/node-api'
import type { Truth } from '../../src/sample/truth.ts'

/** One record: its text (for exact copies) and its fields, or undefined where it does not parse. */
export interface ReadRecord {
  readonly text: string
  readonly fields: Record<string, string> | undefined
}

export async function readSample(dir: string, truth: Truth): Promise<ReadRecord[][]> {
  const files: ReadRecord[][] = []
  for (const { name } of truth.files) {
    const file = join(dir, name)
    if (truth.format === 'parquet') files.push(await readParquet(file))
    else {
      const bytes = readFileSync(file)
      const text = (truth.compression === 'gzip' ? gunzipSync(bytes) : bytes).toString('utf8')
      files.push(truth.format === 'csv' ? readCsv(text) : readNdjson(text))
    }
  }
  return files
}

function readNdjson(text: string): ReadRecord[] {
  return linesOf(text).map((line) => ({ text: line, fields: parseJson(line) }))
}

function linesOf(text: string): string[] {
  if (!text.endsWith('\n')) throw new Error('the last line is cut off')
  return text.slice(0, -1).split('\n')
}

/** Values as text; numbers as their source digits, which a JavaScript number would not keep. Null counts as absent. */
function parseJson(line: string): Record<string, string> | undefined {
  const keep = (_: string, value: unknown, context: { source?: string }): unknown =>
    typeof value === 'number' ? context.source : value
  try {
    const parsed = JSON.parse(line, keep as Parameters<typeof JSON.parse>[1]) as Record<string, string | null>
    return Object.fromEntries(Object.entries(parsed).filter((entry): entry is [string, string] => entry[1] !== null))
  } catch {
    return undefined
  }
}

function readCsv(text: string): ReadRecord[] {
  const [header = '', ...lines] = linesOf(text)
  const names = header.split(',')
  return lines.map((line) => {
    const values = [...line.matchAll(/(?:^|,)(?:"((?:[^"]|"")*)"|([^",]*))/g)].map(
      ([, quoted, plain]) => quoted?.replaceAll('""', '"') ?? plain ?? '',
    )
    if (values.length !== names.length) return { text: line, fields: undefined }
    const pairs = names.map((name, i): [string, string] => [name, values[i] ?? ''])
    return { text: line, fields: Object.fromEntries(pairs.filter(([, value]) => value !== '')) }
  })
}

async function readParquet(file: string): Promise<ReadRecord[]> {
  const instance = await DuckDBInstance.create(':memory:')
  const connection = await instance.connect()
  const reader = await connection.runAndReadAll(
    `SELECT * REPLACE (epoch_ms(event_time) AS event_time, epoch_ms(received_at) AS received_at) FROM read_parquet('${file}')`,
  )
  const records = reader.getRowObjects().map((row): ReadRecord => {
    const present = Object.entries(row).filter(([, value]) => value !== null)
    const fields = Object.fromEntries(present.map(([name, value]) => [name, String(value)]))
    for (const name of ['event_time', 'received_at']) fields[name] = new Date(Number(fields[name])).toISOString()
    return { text: JSON.stringify(fields), fields }
  })
  connection.closeSync()
  instance.closeSync()
  return records
}

const HOUR = 3_600_000

/** Every defect that a record has, seen for itself; copies are not seen here. */
export function defectsOf({ fields }: ReadRecord): string[] {
  if (fields === undefined) return ['malformed']
  const lag = Date.parse(fields['received_at'] ?? '') - Date.parse(fields['event_time'] ?? '')
  const cost = fields['cost_micros'] ?? ''
  return [
    ...(/^-?\d+$/.test(cost) ? [] : ['wrong_type']),
    ...(fields['campaign_id'] === undefined ? ['missing_field'] : []),
    ...(['impression', 'click', 'conversion'].includes(fields['event_type'] ?? '') ? [] : ['unknown_type']),
    ...(cost.startsWith('-') ? ['negative_cost'] : []),
    ...(lag > 6 * HOUR ? ['late'] : []),
    ...(lag < -5 * 60_000 ? ['future'] : []),
  ]
}
