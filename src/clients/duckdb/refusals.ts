/** What the warehouse refuses, in words for people. */
import { AdflowError } from '../../core/errors.ts'

export function requireKey(
  key: readonly string[] | undefined,
  columns: readonly { readonly name: string }[],
  label: string,
): void {
  const names = new Set(columns.map(({ name }) => name.toLowerCase()))
  const missing = key?.find((column) => !names.has(column.toLowerCase()))
  if (missing === undefined) return
  throw new AdflowError('JOB_INVALID', `the key column ${missing} of ${label} does not reach the loader`, {
    hint: `columns here: ${columns.map(({ name }) => name).join(', ')}`,
  })
}

export function explained(error: unknown, doing: string, file: string): unknown {
  if (!(error instanceof AdflowError) || error.code === 'STORE_MISMATCH' || error.code === 'JOB_INVALID') return error
  const refused = /^(Constraint|Catalog) Error/.test(error.message)
  // Any other may be a record on which the relation itself fails: the runtime finds it, and must see the error as it is.
  if (error.code === 'ENGINE_FAILED' && !refused) return error
  return new AdflowError(refused ? 'STORE_MISMATCH' : error.code, `cannot ${doing} in ${file}: ${error.message}`, {
    cause: error,
    hint: error.hint ?? 'nothing of the batch was written',
  })
}
