/** What a system that is reached over a network has to say when it is read from: the words of stores, said of a source. */
import pRetry from 'p-retry'
import { AdflowError, type ErrorCode } from '../../core/errors.ts'
import type { RetryOptions } from './reading-options.ts'

const OF_A_SOURCE: Readonly<Partial<Record<ErrorCode, ErrorCode>>> = {
  STORE_DENIED: 'SOURCE_DENIED',
  STORE_UNAVAILABLE: 'SOURCE_UNREADABLE',
  STORE_MISMATCH: 'SOURCE_MISSING',
}

/** `hint` takes the place of one that speaks of writing. */
export function ofSource(error: AdflowError, hint?: string): AdflowError {
  const code = OF_A_SOURCE[error.code]
  if (code === undefined) return error
  const said = hint ?? (/published|disk/.test(error.hint ?? '') ? undefined : error.hint)
  return new AdflowError(code, error.message, {
    cause: error.cause ?? error,
    hint: said ?? 'the next run goes on where this one stopped',
  })
}

/** Tries again what may be otherwise next time. */
export function patiently<T>(work: () => Promise<T>, retry: RetryOptions, signal: AbortSignal): Promise<T> {
  return pRetry(work, {
    retries: retry.attempts - 1,
    minTimeout: retry.initial,
    maxTimeout: retry.max,
    randomize: true,
    signal,
    shouldRetry: ({ error }) => error instanceof AdflowError && error.code === 'SOURCE_UNREADABLE',
  })
}

export function tooMany(place: string, most: number): AdflowError {
  return new AdflowError('SOURCE_UNSUPPORTED', `${place} has more than ${most} files that are wanted`, {
    hint: 'narrow `files`, or raise `max_files`: their names are in memory',
  })
}
