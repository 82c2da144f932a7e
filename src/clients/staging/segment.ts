/**
 * What stands in the staging folder of a lane. A segment is the bytes of one or several pages, `<from>.ndjson`, and a
 * description, `<from>.json`, which is written last and makes the segment exist: it has the cursor from which the source goes
 * on. Offsets are of the bytes of the lane since it was begun.
 */
import { hash } from 'node:crypto'
import { join } from 'node:path'
import { z } from 'zod'
import type { ChunkFormat } from '../../core/contracts.ts'

/** How the bytes of a segment are read. CSV: without header line. */
export type SegmentFormat = Exclude<ChunkFormat, { type: 'parquet' }>

const format = z.discriminatedUnion('type', [
  z.object({ type: z.literal('ndjson') }),
  z.object({
    type: z.literal('csv'),
    delimiter: z.string(),
    quote: z.string(),
    header: z.array(z.string()).readonly(),
  }),
])

const cursor = z.string().nullable()

const shape = z.object({
  v: z.literal(1),
  lane: z.string(),
  from: z.int().nonnegative(),
  /** As `from`: a cursor that went on without bytes. Such a description has no file beside it. */
  to: z.int().nonnegative(),
  /** Line ends of the lane before `from`, and those of the segment. */
  lines: z.int().nonnegative(),
  lineEnds: z.int().nonnegative(),
  crc32: z.int().nonnegative(),
  format,
  /** Where the source goes on at `from` and at `to`; null: at its beginning. */
  before: cursor,
  cursor,
  /** ISO 8601 UTC: when it was there. */
  staged: z.string(),
})

export type Segment = Readonly<z.infer<typeof shape>>

const DIGITS = 16

/** Data files and descriptions; what else lies in the folder is none of a lane's business. */
export const SEGMENT_FILE = /^\d{16}\.(?:json|ndjson|csv)$/
export const DESCRIPTION = /^\d{16}\.json$/

function numbered(at: number): string {
  return String(at).padStart(DIGITS, '0')
}

export function descriptionName({ from }: Pick<Segment, 'from'>): string {
  return `${numbered(from)}.json`
}

export function dataName({ from, format: { type } }: Pick<Segment, 'from' | 'format'>): string {
  return `${numbered(from)}.${type}`
}

/** undefined: it is none, or not one of this version. */
export function parseSegment(text: string): Segment | undefined {
  try {
    return shape.safeParse(JSON.parse(text)).data
  } catch {
    return undefined
  }
}

/** Names of lanes may be anything: the folder says enough of it for people, and a hash keeps it apart from others. */
export function laneFolder(stageDir: string, lane: string): string {
  const readable = lane.replace(/[^A-Za-z0-9_-]+/g, '-').slice(0, 48)
  return join(stageDir, `${readable}.${hash('sha256', lane).slice(0, 12)}`)
}
