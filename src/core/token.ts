/** The identity of a batch everywhere: stores, ledger, spool and file names. */
import { hash } from 'node:crypto'
import type { Range } from './contracts.ts'

export interface TokenParts {
  readonly job: string
  readonly source: string
  readonly range: Range
  /** Rises only by an audited replay, so that a store's deduplication never swallows a wanted reload. */
  readonly epoch: string
  /** Name of the output, where it is not the main one. */
  readonly output?: string
}

/** sha256 hex. It holds no version of code or job: the same range is the same batch after any deployment. */
export function tokenOf({ job, source, range, epoch, output }: TokenParts): string {
  const parts = [job, source, range.lane, range.from, range.to, epoch, ...(output === undefined ? [] : [output])]
  return hash('sha256', JSON.stringify(parts))
}

/** A 64-bit number made of a token, for marks in state tables: it repeats whenever the range repeats. */
export function tokenNumber(token: string): bigint {
  return BigInt.asIntN(64, BigInt(`0x${token.slice(0, 16)}`))
}
