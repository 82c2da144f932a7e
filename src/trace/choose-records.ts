/** Which records of a chunk are asked for: by bytes, line or content. */
import type { Chunk, RecordSource, RefusedRecord } from '../core/contracts.ts'

export interface RecordRange {
  /** Half open; of the decompressed file. */
  readonly bytes?: { readonly from: number; readonly to: number }
  /** From 1; Parquet: row. A record of several lines is found by each of them. */
  readonly line?: number
  /** The record itself, without its line end. */
  readonly record?: string
}

export interface Chosen {
  /** 0-based ordinals in the chunk, ascending. */
  readonly ordinals: readonly number[]
  readonly refused: readonly RefusedRecord[]
}

export async function chooseRecords(chunk: Chunk, range: RecordRange, limit: number): Promise<Chosen> {
  const all = Array.from({ length: chunk.records }, (_, index) => index)
  const places = all.length === 0 ? [] : await chunk.locate(all)
  const readable = chunk.format.type !== 'parquet'
  const { record, line } = range
  let ordinals = all.filter((ordinal) => inBytes(places[ordinal], range))
  if (line !== undefined) {
    const last = ordinals.findLast((ordinal) => (places[ordinal]?.line ?? 0) <= line)
    ordinals = last === undefined ? [] : [last]
    const found = places[last ?? -1]?.line
    const [raw] = last === undefined || found === line || !readable ? [] : await chunk.raw([last])
    if (found !== line && (raw === undefined || (found ?? 0) + lineFeeds(raw) < line)) ordinals = []
  }
  if (record !== undefined) {
    const wanted = Buffer.from(record)
    const raws = readable && ordinals.length > 0 ? await chunk.raw(ordinals) : []
    ordinals = ordinals.filter((_, index) => raws[index]?.equals(wanted) === true)
  }
  const refused = chunk.refused.filter(
    (own) =>
      inBytes(own, range) &&
      (line === undefined || own.line === line) &&
      (record === undefined || own.raw.equals(Buffer.from(record))),
  )
  return { ordinals: ordinals.slice(0, limit), refused: refused.slice(0, limit) }
}

function inBytes(place: RecordSource | undefined, { bytes }: RecordRange): boolean {
  if (bytes === undefined) return true
  return place !== undefined && place.byteFrom >= 0 && place.byteFrom < bytes.to && place.byteTo > bytes.from
}

function lineFeeds(raw: Buffer): number {
  let count = 0
  for (let at = raw.indexOf(10); at >= 0; at = raw.indexOf(10, at + 1)) count += 1
  return count
}
