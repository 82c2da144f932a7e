/**
 * The file format of one checkpoint slot: one line of JSON, and one line with the sha256 over all bytes before it.
 * Later formats keep the checksum line, so that a newer file is told apart from a damaged one.
 */
import { hash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import type { LanePosition, PlannedRange, Position } from '../core/contracts.ts'
import { localIoError } from '../core/errors.ts'

export const CHECKPOINT_FORMAT = 1

/** Where a lane stands for the job (`at`), and for each loader that stands elsewhere. */
export interface LaneCheckpoint extends LanePosition {
  readonly loaders?: Readonly<Record<string, Position>>
}

/** A batch whose edges are fixed: after a crash exactly this range is cut again, under the same clock. */
export interface PlannedBatch extends PlannedRange {
  readonly sequence: string
  readonly source: string
  /** ISO 8601 UTC. */
  readonly clock: string
  /** Reference data that are read again → the version that the batch sees. */
  readonly references?: Readonly<Record<string, string>>
}

/** What a run changes. Integers are decimal strings. */
export interface CheckpointState {
  /** Rises only by an audited replay; part of every token. */
  readonly epoch: string
  /** Sequence number of the next batch. */
  readonly sequence: string
  /** Source id → lane → where it stands. */
  readonly sources: Readonly<Record<string, Readonly<Record<string, LaneCheckpoint>>>>
  readonly planned: readonly PlannedBatch[]
  /** Columns that the contract's `evolve` has added: name → engine type. */
  readonly evolved?: Readonly<Record<string, string>>
  readonly extra?: Readonly<Record<string, unknown>>
}

export interface Checkpoint extends CheckpointState {
  readonly format: typeof CHECKPOINT_FORMAT
  readonly job: string
  /** Rises with every save. */
  readonly generation: string
  /** ISO 8601 UTC. */
  readonly saved_at: string
  /** Checksum of the checkpoint before this one; NO_PREVIOUS for the first of its chain. */
  readonly previous: string
}

/** In `extra`: plans may be lost, because a slot was damaged or somebody moved a position, and only the stores know what they
 *  have of them. It stays until a run has asked them all. */
export const ASK_STORES = 'ask_stores'

export const NO_PREVIOUS = '0'.repeat(64)

export type Slot = 'a' | 'b'

export type SlotReading =
  | { readonly slot: Slot; readonly state: 'absent' }
  | { readonly slot: Slot; readonly state: 'damaged'; readonly reason: string; readonly claimed?: string }
  | { readonly slot: Slot; readonly state: 'newer'; readonly format: number }
  | { readonly slot: Slot; readonly state: 'valid'; readonly checkpoint: Checkpoint; readonly checksum: string }

/** The bytes of a slot for a line of JSON, and the checksum that the next checkpoint names as `previous`. */
export function sealSlot(json: string): { readonly text: string; readonly checksum: string } {
  const body = `${json}\n`
  const checksum = hash('sha256', body)
  return { text: `${body}sha256:${checksum}\n`, checksum }
}

/** What the slot file holds. Throws only where the file may be sound but cannot be opened (no permission …). */
export async function readSlot(slot: Slot, path: string): Promise<SlotReading> {
  let bytes: Buffer
  try {
    bytes = await readFile(path)
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    if (code === 'ENOENT') return { slot, state: 'absent' }
    if (code === 'EIO' || code === 'EISDIR' || code === 'ELOOP') return { slot, state: 'damaged', reason: code }
    throw localIoError(error, `read the checkpoint ${path}`)
  }
  return decodeSlot(slot, bytes)
}

const TRAILER = /^sha256:([0-9a-f]{64})\n$/
const TRAILER_BYTES = 'sha256:'.length + 64 + 1

function decodeSlot(slot: Slot, bytes: Buffer): SlotReading {
  // What it says of itself may still be read, and must not be issued again.
  const claimed = /"generation":"([1-9]\d{0,17})"/.exec(bytes.toString('latin1'))?.[1]
  const damaged = (reason: string): SlotReading => ({
    slot,
    state: 'damaged',
    reason,
    ...(claimed === undefined ? {} : { claimed }),
  })
  if (bytes.length === 0) return damaged('it is empty')
  const split = bytes.length - TRAILER_BYTES
  const trailer = split > 0 ? TRAILER.exec(bytes.toString('latin1', split)) : null
  const checksum = trailer?.[1]
  if (checksum === undefined) return damaged(`it does not end in a checksum line (${bytes.length} bytes)`)
  const body = bytes.subarray(0, split)
  if (hash('sha256', body) !== checksum) return damaged('its checksum does not hold')
  let content: unknown
  try {
    content = JSON.parse(body.toString('utf8'))
  } catch {
    return damaged('its checksum holds but it is not JSON')
  }
  const format = (content as { format?: unknown } | null)?.format
  if (typeof format === 'number' && format > CHECKPOINT_FORMAT) return { slot, state: 'newer', format }
  const wrong = firstWrongField(content)
  if (wrong !== undefined) return damaged(`its checksum holds but its field ${wrong} is missing or wrong`)
  return { slot, state: 'valid', checkpoint: content as Checkpoint, checksum }
}

const isText = (value: unknown) => typeof value === 'string'
const isInteger = (value: unknown) => typeof value === 'string' && /^(0|[1-9]\d*)$/.test(value)
const isRecord = (value: unknown) => typeof value === 'object' && value !== null && !Array.isArray(value)
const FIELDS: Readonly<Record<keyof Checkpoint, (value: unknown) => boolean>> = {
  format: (value) => value === CHECKPOINT_FORMAT,
  job: isText,
  generation: isInteger,
  epoch: isInteger,
  saved_at: isText,
  previous: isText,
  sequence: isInteger,
  sources: isRecord,
  planned: Array.isArray,
  evolved: (value) => value === undefined || isRecord(value),
  extra: (value) => value === undefined || isRecord(value),
}

/** The checksum guards against damage; this guards against a file that someone wrote by hand. */
function firstWrongField(content: unknown): string | undefined {
  const record = (isRecord(content) ? content : {}) as Readonly<Record<string, unknown>>
  return Object.entries(FIELDS).find(([field, holds]) => !holds(record[field]))?.[0]
}
