/** What stands in the topic of batches: an entry for each of the newest, and of those before the ranges that are there, by lane. */
import { hash } from 'node:crypto'
import { z } from 'zod'
import { AdflowError } from '../../core/errors.ts'
import { tokenOf } from '../../core/token.ts'
import type { LogRecord } from './log.ts'
import type { KafkaRecord } from './record-batch.ts'

const entrySchema = z.object({
  job: z.string(),
  loader: z.string(),
  source: z.string(),
  lane: z.string(),
  from: z.string(),
  to: z.string(),
  digest: z.string(),
  rows: z.int().nonnegative(),
  clock: z.string(),
})

/** Of one batch; its key is the token. */
export type BatchEntry = z.infer<typeof entrySchema>

const pieceSchema = z.object({
  from: z.string(),
  to: z.string(),
  batches: z.int().positive(),
  rows: z.int().nonnegative(),
})

/** Batches that touch each other, as one range. */
export type FoldedPiece = z.infer<typeof pieceSchema>

const foldedSchema = z.object({
  ...{ job: z.string(), loader: z.string(), source: z.string(), lane: z.string() },
  /** Under which the tokens were made, and the output, where it was not the main one. */
  epoch: z.string(),
  output: z.string().optional(),
  /** Ascending; none touches the next. */
  folded: z.array(pieceSchema),
})

/** All folded batches of a lane; its key begins with FOLDED. */
export type FoldedLane = z.infer<typeof foldedSchema>

const FOLDED = 'folded:'

export type TopicRecord =
  | { readonly type: 'entry'; readonly token: string; readonly entry: BatchEntry }
  | { readonly type: 'folded'; readonly key: string; readonly lane: FoldedLane }
  | { readonly type: 'gone'; readonly token: string }

/** @throws AdflowError STORE_DAMAGED */
export function parseRecord(topic: string, { key, offset, value }: LogRecord): TopicRecord {
  const name = String(key)
  try {
    if (value === null) return { type: 'gone', token: name }
    const json = JSON.parse(String(value))
    if (name.startsWith(FOLDED)) return { type: 'folded', key: name, lane: foldedSchema.parse(json) }
    return { type: 'entry', token: name, entry: entrySchema.parse(json) }
  } catch (error) {
    throw new AdflowError('STORE_DAMAGED', `record ${offset} of ${topic} is no entry of a batch`, {
      cause: error,
      hint: 'only adflow may write to this topic: find out who else does, and restore it; or an adflow newer than this one has written it',
    })
  }
}

export function foldedKey({ job, loader, source, lane, epoch, output }: Omit<FoldedLane, 'folded'>): string {
  return `${FOLDED}${hash('sha256', JSON.stringify([job, loader, source, lane, epoch, output ?? null]))}`
}

/** `content` undefined: a tombstone, by which the topic forgets the key. */
export function recordOf(key: string, content: BatchEntry | FoldedLane | undefined): KafkaRecord {
  return {
    key: Buffer.from(key),
    value: content === undefined ? undefined : Buffer.from(JSON.stringify(content)),
    headers: [],
    timestampMs: Date.now(),
  }
}

/** What one batch of the whole piece would be called. */
export function pieceToken({ job, source, lane, epoch, output }: FoldedLane, { from, to }: FoldedPiece): string {
  return tokenOf({ job, source, range: { lane, from, to }, epoch, ...(output === undefined ? {} : { output }) })
}
