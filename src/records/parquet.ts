/** Row groups of a Parquet file, from its footer, read by a small private engine that sees nothing else. */
import type { DuckDBInstance } from '@duckdb/node-api'
import { AdflowError } from '../core/errors.ts'

export interface RowGroup {
  readonly rows: number
  /** Uncompressed: what reading the group costs. */
  readonly bytes: number
}

export class ParquetFooters {
  #instance: Promise<DuckDBInstance> | undefined

  /** Row groups in order. Throws SOURCE_DAMAGED where the file is no whole Parquet file. */
  async read(path: string): Promise<RowGroup[]> {
    this.#instance ??= openPrivate()
    const connection = await (await this.#instance).connect()
    try {
      const reader = await connection.runAndReadAll(
        `SELECT any_value(row_group_num_rows)::DOUBLE, sum(total_uncompressed_size)::DOUBLE
         FROM parquet_metadata($1) GROUP BY row_group_id ORDER BY row_group_id`,
        [path],
      )
      return reader.getRows().map(([rows, bytes]) => ({ rows: Number(rows), bytes: Number(bytes) }))
    } catch (error) {
      const found = error instanceof Error ? (error.message.split('\n', 1)[0] ?? '') : String(error)
      throw new AdflowError('SOURCE_DAMAGED', `cannot read the Parquet footer of ${path}: ${found}`, {
        cause: error,
        hint: 'the file is cut off, still being written, or no Parquet file; replace it by a whole copy',
      })
    } finally {
      connection.closeSync()
    }
  }

  async close(): Promise<void> {
    const instance = await this.#instance
    this.#instance = undefined
    instance?.closeSync()
  }
}

async function openPrivate(): Promise<DuckDBInstance> {
  const { DuckDBInstance } = await import('@duckdb/node-api')
  return DuckDBInstance.create(':memory:', { threads: '1', memory_limit: '256MB' })
}

/** Cuts `[from, rows)` into ranges of whole row groups that add up to about `targetBytes` each. */
export function rowRanges(
  groups: readonly RowGroup[],
  from: number,
  targetBytes: number,
): { from: number; to: number }[] {
  const ranges: { from: number; to: number }[] = []
  let start = from
  let end = 0
  let bytes = 0
  for (const group of groups) {
    if (end + group.rows <= from) {
      end += group.rows
      continue
    }
    if (end > start && bytes + group.bytes > targetBytes) {
      ranges.push({ from: start, to: end })
      start = end
      bytes = 0
    }
    end += group.rows
    bytes += group.bytes
  }
  if (end > start) ranges.push({ from: start, to: end })
  return ranges
}
