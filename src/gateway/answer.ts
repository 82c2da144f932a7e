/** What the gateway answers. docs/push.md says the same for clients. */
import type { RejectedRecord } from './records.ts'

export interface Answer {
  readonly status: number
  readonly body: Readonly<Record<string, unknown>>
  readonly headers?: Readonly<Record<string, string>>
}

/** An answer that ends the request where it is thrown. */
export class Refusal extends Error {
  override readonly name = 'Refusal'
  readonly answer: Answer

  constructor(status: number, code: string, message: string, headers: Readonly<Record<string, string>> = {}) {
    super(message)
    this.answer = { status, body: { schema_version: 1, error: { code, message }, accepted: 0 }, headers }
  }
}

/** Come again after so long. */
export function later(status: 429 | 503, code: string, message: string, afterMs: number): Refusal {
  return new Refusal(status, code, message, { 'retry-after': String(Math.max(1, Math.ceil(afterMs / 1000))) })
}

export interface Receipt {
  readonly receipt: Buffer
  readonly records: number
  /** The answer was given before. */
  readonly replayed: boolean
}

/** 202 where all were taken; 422 names those that were not, and says that the others are kept. */
export function receiptAnswer(taken: Receipt | undefined, rejected: readonly RejectedRecord[]): Answer {
  const accepted = taken?.records ?? 0
  const body = {
    schema_version: 1,
    receipt: taken === undefined ? null : receiptText(taken.receipt),
    accepted,
    rejected: rejected.length,
  }
  const headers = taken?.replayed === true ? { 'idempotent-replayed': 'true' } : {}
  if (rejected.length === 0) return { status: 202, body, headers }
  const error = {
    code: 'bad_records',
    message: `${rejected.length} of ${accepted + rejected.length} records are none; mend and send these alone, under another key`,
  }
  return { status: 422, body: { ...body, error, records: rejected }, headers }
}

/** A UUID. */
function receiptText(receipt: Buffer): string {
  return receipt.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-')
}
