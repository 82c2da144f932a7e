/** The identity of a batch everywhere: stores, ledger, spool and file names. */
import { hash } from 'node:crypto'
import type { Range, StoreRecord } from './contracts.ts'

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

/** The first 16 digits of the tokens that have the number. */
export function tokenHead(number: bigint): string {
  return BigInt.asUintN(64, number).toString(16).padStart(16, '0')
}

/** A job is reloaded by hand, a few times. */
const FARTHEST_EPOCH = 100n

/** The epoch that the token of a record was made under: stores keep the token only. `input`: the output that the store reads. */
export function epochOf(
  job: string,
  input: string,
  { source, range, token }: Pick<StoreRecord, 'source' | 'range' | 'token'>,
  newest = FARTHEST_EPOCH,
): bigint | undefined {
  const output = input === 'main' ? {} : { output: input }
  for (let epoch = 0n; epoch <= newest; epoch += 1n)
    if (token === tokenOf({ job, source, range, epoch: String(epoch), ...output })) return epoch
  return undefined
}
