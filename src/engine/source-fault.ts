/** A Parquet file cannot be cut into records that are looked at one by one: what the engine cannot read of it is damaged. */
import type { Chunk } from '../core/contracts.ts'
import { AdflowError } from '../core/errors.ts'

/** The error as a fault of the source; undefined where it is none. Asked for only when no expression can have failed. */
export function sourceFault({ format, origin }: Chunk, error: unknown): AdflowError | undefined {
  if (format.type !== 'parquet' || !(error instanceof AdflowError) || error.code !== 'ENGINE_FAILED') return undefined
  const found = (error.message.split('\n', 1)[0] ?? '')
    .replace(/^[A-Za-z ]+ Error: /, '')
    .replace(/^Failed to read file "[^"]*": /, '')
  return new AdflowError(
    'SOURCE_DAMAGED',
    `cannot read the rows ${format.fromRow + 1} to ${format.toRow} of ${origin}: ${found}`,
    {
      cause: error,
      hint: 'replace the file by a whole copy; nothing of these rows was loaded',
    },
  )
}
