/** Records that were refused, kept whole: original bytes, source, byte range, line, every rule they break. */
import { isUtf8 } from 'node:buffer'
import { join } from 'node:path'
import type { BatchInfo, Chunk } from '../core/contracts.ts'
import { writeDurably } from '../core/durable.ts'
import { redact } from '../core/job/secrets.ts'
import type { Failure, Rejected } from '../engine/admit.ts'
import { CONTRACT_RULES } from '../engine/read-plan.ts'
import type { Session } from '../engine/session.ts'
import { sourceFault } from '../engine/source-fault.ts'
import { literal } from '../engine/sql-text.ts'

export interface QuarantineRecord {
  readonly byte_from: number
  readonly byte_to: number
  readonly line: number
  /** The first rule that the record breaks. */
  readonly rule: string
  readonly field: string | null
  readonly reason: string
  readonly failures: readonly Failure[]
  /** The record as text, where it is valid UTF-8; otherwise `raw_base64` has its bytes. */
  readonly raw: string | null
  readonly raw_base64: string | null
}

export async function quarantineRecords(
  chunk: Chunk,
  rejected: readonly Rejected[],
  session: Session,
): Promise<QuarantineRecord[]> {
  const sorted = [...rejected].sort((a, b) => a.ordinal - b.ordinal)
  const ordinals = sorted.map(({ ordinal }) => ordinal)
  const places = ordinals.length === 0 ? [] : await chunk.locate(ordinals)
  const raws = ordinals.length === 0 ? [] : await rawRecords(chunk, ordinals, session)
  const records = sorted.map(({ failures }, index) => {
    const place = places[index]
    const first = failures[0]
    return {
      byte_from: place?.byteFrom ?? -1,
      byte_to: place?.byteTo ?? -1,
      line: place?.line ?? -1,
      rule: first?.rule ?? 'type',
      field: first?.field ?? null,
      reason: first?.reason ?? '',
      failures,
      ...rawFields(raws[index] ?? Buffer.alloc(0)),
    }
  })
  const refused = chunk.refused.map(({ byteFrom, byteTo, line, reason, message, raw }) => ({
    byte_from: byteFrom,
    byte_to: byteTo,
    line,
    rule: refusedRule(reason),
    field: null,
    reason: message,
    failures: [{ rule: refusedRule(reason), field: null, reason: message }],
    ...rawFields(raw),
  }))
  return [...records, ...refused]
}

/** Parquet has no bytes of a record: its JSON image stands for them. */
export async function rawRecords(chunk: Chunk, ordinals: readonly number[], session: Session): Promise<Buffer[]> {
  if (chunk.format.type !== 'parquet') return chunk.raw(ordinals)
  const base = chunk.format.fromRow
  const reading = session.rows(
    `SELECT to_json(r)::VARCHAR AS j FROM (SELECT * EXCLUDE (file_row_number) FROM (SELECT * FROM read_parquet(${literal(chunk.file)}, file_row_number = true) WHERE file_row_number IN (${ordinals.map((ordinal) => base + ordinal).join(', ')}) ORDER BY file_row_number)) r`,
  )
  // Columns that the contract does not name are read here for the first time.
  const rows = await reading.catch((error: unknown) => {
    throw sourceFault(chunk, error) ?? error
  })
  return rows.map((row) => Buffer.from(String(row['j'])))
}

export function rawFields(raw: Buffer): { raw: string | null; raw_base64: string | null } {
  return isUtf8(raw)
    ? { raw: raw.toString('utf8'), raw_base64: null }
    : { raw: null, raw_base64: raw.toString('base64') }
}

/** Where the records of a batch come from. */
export type BatchPlace = Pick<BatchInfo, 'token' | 'source' | 'range' | 'clock'> & { readonly origin: string }

/** One file per batch, named by its token: a repeated batch writes the same file again. */
export async function writeQuarantine(
  folder: string,
  place: BatchPlace,
  records: readonly QuarantineRecord[],
): Promise<void> {
  await writeDurably(join(folder, `${place.token}.ndjson`), quarantineLines(place, records))
}

export function quarantineLines(
  { token, source, range, origin, clock }: BatchPlace,
  records: readonly QuarantineRecord[],
): string {
  const head = { token, source, lane: range.lane, origin, at: clock }
  return records.map((record) => `${JSON.stringify({ ...head, ...record, ...told(record) })}\n`).join('')
}

/** A reason may quote SQL of the job file, and that may hold a secret. The record itself stays as it came. */
function told({ reason, failures }: QuarantineRecord): Pick<QuarantineRecord, 'reason' | 'failures'> {
  return {
    reason: redact(reason),
    failures: failures.map((failure) => ({ ...failure, reason: redact(failure.reason) })),
  }
}

/** RECORD_MALFORMED of an extractor is the same finding as the engine's. */
export function refusedRule(reason: string): string {
  return reason === 'RECORD_MALFORMED' ? CONTRACT_RULES.malformed : reason.toLowerCase()
}
