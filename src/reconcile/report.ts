/** What a reconciliation has found, for people and programs. */
import { extname, resolve } from 'node:path'
import type { CompareScope } from '../core/comparison.ts'
import { AdflowError } from '../core/errors.ts'
import { Engine, type Session } from '../engine/session.ts'
import { list, literal } from '../engine/sql-text.ts'
import type { BucketDifference } from './bisect.ts'
import { DIFFERENCES, type Kind, type KindCounts } from './differences.ts'
import type { HealReport } from './heal.ts'

export interface Reconciliation {
  readonly schema_version: 1
  readonly job: string
  /** No difference is left. */
  readonly clean: boolean
  readonly exit: number
  readonly comparisons: readonly ComparisonReport[]
}

export interface ComparisonReport {
  /** `sources`, the id of a source, or of a store. */
  readonly left: string
  readonly right: string
  readonly rows: { readonly left: number; readonly right: number }
  readonly by: 'time' | 'key'
  /** Time column and width of a bucket in milliseconds, or the number of buckets by key. */
  readonly column: string | null
  readonly bucket: number
  readonly key: readonly string[]
  readonly digest: string
  /** Batches at the fixed position that was compared. */
  readonly batches: number
  readonly buckets: number
  readonly differing: readonly DifferingBucket[]
  readonly differences: KindCounts
  /** The first of them. */
  readonly sample: readonly RowDifference[]
  /** Ranges of the sources that no run has loaded yet. */
  readonly not_loaded: { readonly lanes: number; readonly bytes: number; readonly batches: number }
  readonly owed: { readonly batches: number; readonly rows: number }
  /** Batches that the store has and the ledger has not: a run is going on, or was cut off. Their rows were left out. */
  readonly later: number
  readonly unreadable: readonly {
    readonly lane: string
    readonly from: string
    readonly to: string
    readonly code: string
    readonly message: string
  }[]
  readonly remarks: readonly string[]
  readonly heal: (HealReport & { readonly remaining: KindCounts }) | null
  readonly clean: boolean
}

export interface DifferingBucket {
  /** ISO 8601 UTC of its beginning, `no time`, or the number of the bucket. */
  readonly bucket: string
  readonly left: number
  readonly right: number
  readonly sums: Readonly<Record<string, readonly [string, string]>>
}

export interface RowDifference {
  readonly kind: Kind
  readonly bucket: string
  readonly key: unknown
  /** Columns that differ. */
  readonly columns: readonly string[]
  readonly source: unknown
  readonly store: unknown
  /** Where the row comes from, as the ledger has it. */
  readonly lane: string | null
  readonly from: string | null
  readonly to: string | null
}

function bucketName(bucket: bigint, { bucket: { by } }: CompareScope): string {
  if (by === 'key') return String(bucket)
  if (bucket === -(2n ** 63n)) return 'no time'
  const date = new Date(Number(bucket / 1000n))
  return Number.isNaN(date.getTime()) ? `${bucket} µs` : date.toISOString()
}

export function differingBuckets(found: readonly BucketDifference[], scope: CompareScope): DifferingBucket[] {
  return found.map(({ bucket, rows, sums }) => ({
    bucket: bucketName(bucket, scope),
    left: Number(rows[0]),
    right: Number(rows[1]),
    sums,
  }))
}

/** Table of the batches by number, with their place in the source. */
export const BATCHES = 'reconcile_batches'
const PLACED = `SELECT d.*, b.lane, b.range_from AS "from", b.range_to AS "to" FROM ${DIFFERENCES} d LEFT JOIN ${BATCHES} b ON b.number = coalesce(d.source_batch, d.store_batch)`
const ORDER = 'ORDER BY kind, bucket, "key"'

export async function sampleRows(session: Session, scope: CompareScope, limit: number): Promise<RowDifference[]> {
  const { rows } = await session.jsonRows(
    `SELECT kind, bucket::VARCHAR, "key", columns, source, store, lane, "from", "to" FROM (${PLACED}) ${ORDER} LIMIT ${limit}`,
  )
  return rows.map(([kind, bucket, key, columns, source, store, lane, from, to]) => ({
    kind: kind as Kind,
    bucket: bucketName(BigInt(String(bucket)), scope),
    key,
    columns: columns as string[],
    source: source ?? null,
    store: store ?? null,
    lane: (lane as string | null) ?? null,
    from: (from as string | null) ?? null,
    to: (to as string | null) ?? null,
  }))
}

const FORMATS: Readonly<Record<string, string>> = {
  '.ndjson': 'FORMAT json',
  '.csv': 'FORMAT csv, HEADER true',
  '.parquet': 'FORMAT parquet',
}

/** @throws AdflowError USAGE where the ending names no format */
export function outFormat(file: string): string {
  const format = FORMATS[extname(file)]
  if (format !== undefined) return format
  throw new AdflowError('USAGE', `--out ${file}: its ending names no format`, {
    hint: `end it with ${Object.keys(FORMATS).join(', ')}`,
  })
}

/** All differing rows of one comparison, as a Parquet file of the scratch folder. Rows stand as JSON text, which keeps every digit. */
export async function keepRows(
  session: Session,
  file: string,
  sides: { readonly left: string; readonly right: string },
): Promise<void> {
  const text = (name: string) => `CASE WHEN "${name}" IS NOT NULL THEN to_json("${name}")::VARCHAR END AS "${name}"`
  const select = `SELECT ${literal(sides.left)} AS "left", ${literal(sides.right)} AS "right", kind, ${text('key')}, columns, ${text('source')}, ${text('store')}, lane, "from", "to" FROM (${PLACED}) ${ORDER}`
  await session.run(`COPY (${select}) TO ${literal(file)} (FORMAT parquet)`)
}

/** Those files as one, in the format of its ending. @throws AdflowError LOCAL_IO */
export async function writeRows(parts: readonly string[], file: string, scratch: string): Promise<void> {
  const engine = await Engine.open({ memoryBytes: 256_000_000, threads: 1, tempFolder: scratch, locked: false })
  const session = await engine.connect()
  try {
    const json = ['key', 'source', 'store'].map((name) => `"${name}"::JSON AS "${name}"`).join(', ')
    const rows = `SELECT *${extname(file) === '.ndjson' ? ` REPLACE (${json})` : ''} FROM read_parquet(${list(parts)})`
    await session.run(`COPY (${rows}) TO ${literal(resolve(file))} (${outFormat(file)})`)
  } finally {
    session.close()
    engine.close()
  }
}
