/** Records of a repeated batch as people know them: file, bytes, line, and the bytes themselves. */

import type { Session } from '../engine/session.ts'
import { rawFields, rawRecords } from '../runtime/quarantine.ts'
import type { RepeatedBatch } from '../runtime/rerun.ts'

export interface TracedRecord {
  readonly origin: string
  /** Of the decompressed file; -1 where the format has none. */
  readonly byte_from: number
  readonly byte_to: number
  /** From 1; Parquet: row. */
  readonly line: number
  /** The record as text, where it is valid UTF-8; otherwise `raw_base64` has its bytes. Parquet: its JSON image. */
  readonly raw: string | null
  readonly raw_base64: string | null
}

/** By 0-based ordinal in the chunk. */
export async function recordsOf(
  { chunk }: RepeatedBatch,
  ordinals: readonly number[],
  session: Session,
): Promise<Map<number, TracedRecord>> {
  const sorted = [...new Set(ordinals)].sort((a, b) => a - b)
  if (sorted.length === 0) return new Map()
  const places = await chunk.locate(sorted)
  const raws = await rawRecords(chunk, sorted, session)
  return new Map(
    sorted.map((ordinal, index) => {
      const { byteFrom = -1, byteTo = -1, line = -1 } = places[index] ?? {}
      const raw = rawFields(raws[index] ?? Buffer.alloc(0))
      return [ordinal, { origin: chunk.origin, byte_from: byteFrom, byte_to: byteTo, line, ...raw }]
    }),
  )
}
