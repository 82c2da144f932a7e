/** One error class and one code table. docs/errors.md is tested against the table both ways. */

/** Exit codes of every command; printed by `adflow help exit-codes` and docs/errors.md. */
export const EXIT = {
  done: 0,
  unexpected: 1,
  usage: 2,
  warnings: 10,
  differences: 11,
  rejected: 65,
  unavailable: 69,
  localIo: 74,
  tryAgain: 75,
  denied: 77,
  config: 78,
  interrupted: 130,
  pipeClosed: 141,
  terminated: 143,
} as const

/** What the exit codes mean; the text of docs/errors.md. */
export const EXIT_ABOUT: Readonly<Record<keyof typeof EXIT, string>> = {
  done: 'Done.',
  unexpected: 'Unexpected: a defect in adflow, or a test of a job that failed.',
  usage: 'The command line is wrong.',
  warnings: 'Done, with warnings, under `--strict`.',
  differences: 'Differences are left.',
  rejected: 'Data were rejected, or a range of a source is lost.',
  unavailable: 'A source or a store is down; a store may be owed batches.',
  localIo: 'A local disk failed: full, read-only, broken.',
  tryAgain: 'Try again later: another run holds the job, or the run was cut short.',
  denied: 'Fenced off, or access denied.',
  config: 'The configuration or the state is damaged or missing.',
  interrupted: 'Ended by SIGINT.',
  pipeClosed: 'The reader of standard output went away, as with any program in a pipe.',
  terminated: 'Ended by SIGTERM.',
}

interface CodeSpec {
  readonly exit: number
  readonly retryable: boolean
  /** What it means and what to do; the text of docs/errors.md. */
  readonly about: string
}

const spec = (exit: number, about: string, retryable = false): CodeSpec => ({ exit, retryable, about })

export const ERROR_CODES = {
  UNEXPECTED: spec(EXIT.unexpected, 'A defect in adflow. Please report it with the log of the run.'),
  USAGE: spec(EXIT.usage, 'The command line is wrong: see the message and `--help`.'),
  NOT_FOUND: spec(EXIT.usage, 'There is no such row, record, range, batch or run. Nothing was changed.'),
  JOB_NOT_FOUND: spec(EXIT.config, 'No job file at that path, or no job of that name in the folder.'),
  JOB_INVALID: spec(EXIT.config, 'The job file has mistakes; each is listed with file:line:column and how to mend it.'),
  SQL_INVALID: spec(EXIT.config, 'An SQL expression of the job file does not parse or does not fit its columns.'),
  VARIABLE_MISSING: spec(EXIT.config, 'A `${…}` of the job file has no value: set the variable or give a default.'),
  SECRET_UNREADABLE: spec(EXIT.config, 'A `${file:…}` of the job file cannot be read.'),
  STATE_DAMAGED: spec(EXIT.config, 'Both checkpoint slots are unreadable. Run `adflow recover`; nothing was touched.'),
  STATE_MISSING: spec(
    EXIT.config,
    'A store holds batches of this job but the state directory has no checkpoint. Point --state-dir at the right one, or run `adflow recover`.',
  ),
  STATE_SHARDS: spec(
    EXIT.config,
    'The job is run in shards, and this is not the state of one of them as they are now, or it cannot be divided anew. Nothing was touched.',
  ),
  STATE_NEWER: spec(EXIT.config, 'The state was written by a newer adflow. Upgrade; nothing was touched.'),
  LEDGER_DAMAGED: spec(
    EXIT.config,
    'The hash chain of the ledger does not hold at the named segment, line and byte. Nothing was touched: keep the folder as evidence and restore it from a backup.',
  ),
  NODE_TOO_OLD: spec(EXIT.config, 'This Node.js is too old for adflow.'),
  JOB_LOCKED: spec(
    EXIT.tryAgain,
    'Another run of the same job holds its state directory. Wait for it, or stop it.',
    true,
  ),
  FENCED: spec(
    EXIT.denied,
    'Another process has taken over the state: this one, and what it had just started, did nothing more. It was stopped, or cut off, for longer than its lease.',
  ),
  STATE_UNREACHABLE: spec(
    EXIT.tryAgain,
    'The PostgreSQL server that keeps the state cannot be reached, or was away for as long as the lease. Nothing more was written; the next run goes on from what the server has.',
    true,
  ),
  STATE_DENIED: spec(
    EXIT.denied,
    'The PostgreSQL server that keeps the state refuses the user or a privilege, or shows a certificate that is not trusted.',
  ),
  DAEMON_ADDRESS: spec(
    EXIT.unavailable,
    'The daemon, or the gateway, cannot listen at the address that it was given: another program does, or it is not an address of this machine.',
  ),
  DAEMON_UNREACHABLE: spec(
    EXIT.unavailable,
    'No daemon leads in the state directory, or it does not answer. Start one with `adflow daemon`.',
    true,
  ),
  DAEMON_REFUSED: spec(
    EXIT.usage,
    'The daemon did not do what it was asked: there is no such job, or the job is in no state for it.',
  ),
  TOKEN_UNSAFE: spec(
    EXIT.denied,
    'The token of the daemon is too short, or its file can be read by others: `chmod 600` it. Without tokens the daemon and the gateway listen on loopback only.',
  ),
  INTERRUPTED: spec(
    EXIT.tryAgain,
    'A signal ended what was under way: the second one at once, before the run had drained. The state is consistent; run again.',
    true,
  ),
  SOURCE_MISSING: spec(EXIT.unavailable, 'A source has nothing at the configured place.', true),
  SOURCE_UNREADABLE: spec(EXIT.unavailable, 'A source exists but cannot be opened or read.', true),
  SOURCE_TIMEOUT: spec(
    EXIT.unavailable,
    'A source gave nothing for as long as its `give_up_after`, or was not at its end after its `time_limit`. What it gave before is loaded; the next run goes on there.',
    true,
  ),
  SOURCE_STALLED: spec(
    EXIT.tryAgain,
    'A source of a job that runs for ever has records to be read, and gave none for `stream.stalled_after`, nor once more after its connections were made anew. Start the job again; `adflow daemon` does.',
    true,
  ),
  ENGINE_STALLED: spec(
    EXIT.tryAgain,
    'In a job that runs for ever a statement of the embedded engine did not return for ten times `stream.stalled_after`. The process ends as by a kill: nothing is lost, and nothing will be loaded twice. Start the job again; `adflow daemon` does.',
    true,
  ),
  SOURCE_DENIED: spec(
    EXIT.denied,
    'A source refuses the credentials of the job or a privilege, or shows a certificate that is not trusted.',
  ),
  SOURCE_UNSUPPORTED: spec(
    EXIT.rejected,
    'Something of a source is there and cannot be read as it is: an unknown extension, UTF-16, a pipe or a folder. Say its `format`, convert it or exclude it.',
  ),
  SOURCE_DAMAGED: spec(
    EXIT.rejected,
    'A source ends in the middle of its encoding (truncated gzip, broken Parquet …).',
  ),
  SOURCE_CHANGED: spec(EXIT.rejected, 'Bytes that were planned or read before are no longer there or are different.'),
  SOURCE_BOMB: spec(EXIT.rejected, 'A compressed source expands beyond `max_ratio`.'),
  RECORD_TOO_LARGE: spec(EXIT.rejected, 'A record exceeds `max_record_bytes`; it is quarantined by reference.'),
  RECORD_MALFORMED: spec(EXIT.rejected, 'A record does not parse in the format of its source; it is quarantined.'),
  DATA_REJECTED: spec(EXIT.rejected, 'A rule with `on_fail: fail`, a batch rule or the error budget stopped the run.'),
  NOTHING_ACCEPTED: spec(EXIT.rejected, 'Records were read but not one passed: the source or the contract is wrong.'),
  UNACCOUNTED: spec(
    EXIT.rejected,
    'The books of a batch do not close: read ≠ loaded + quarantined + filtered + deduplicated.',
  ),
  STORE_UNAVAILABLE: spec(
    EXIT.unavailable,
    'A store cannot be reached or refuses; its batches are owed from the spool.',
    true,
  ),
  STORE_DENIED: spec(
    EXIT.denied,
    'A store refuses the credentials of the job or a privilege, shows a certificate that is not trusted, or has fenced this process off in favour of another. Its batches are owed from the spool.',
  ),
  STORE_LOCKED: spec(
    EXIT.tryAgain,
    'Another process has the DuckDB file of a store open. Wait for it, or stop it.',
    true,
  ),
  STORE_DAMAGED: spec(
    EXIT.unavailable,
    'A file of a store (a DuckDB file, a manifest) is there but is not what it should be. Restore it; nothing was changed.',
  ),
  STORE_OWED: spec(EXIT.unavailable, 'The run ended with batches owed to a store. The next run pays them.', true),
  STORE_MISMATCH: spec(
    EXIT.rejected,
    'A store holds this token with other bytes, or its table does not fit the columns.',
  ),
  CONSUMER_OWED: spec(
    EXIT.unavailable,
    'The run ended while rows wait for a consumer. The next run, or `adflow distribute`, hands them over.',
    true,
  ),
  CONSUMER_UNAVAILABLE: spec(
    EXIT.unavailable,
    'A consumer cannot be reached, or does not take what it is given.',
    true,
  ),
  SPOOL_FULL: spec(EXIT.unavailable, 'The spool has reached `max_bytes`.', true),
  STAGE_FULL: spec(
    EXIT.unavailable,
    'What was fetched of a source and cannot be loaded has reached `staging.max_bytes`, or one page of it is larger than that.',
    true,
  ),
  DISK_FULL: spec(EXIT.localIo, 'No space left on a local disk. Free some and run again; nothing was acknowledged.'),
  LOCAL_IO: spec(EXIT.localIo, 'A local file cannot be written or synced. Nothing was acknowledged.'),
  ENGINE_FAILED: spec(EXIT.unexpected, 'The embedded engine refused a statement that adflow made.'),
  OUT_OF_MEMORY: spec(EXIT.localIo, 'The work does not fit `memory_limit` and could not be spilled.'),
  TEST_FAILED: spec(EXIT.unexpected, 'A test of a job file did not give what it expects.'),
} as const satisfies Record<string, CodeSpec>

export type ErrorCode = keyof typeof ERROR_CODES

export interface AdflowErrorOptions {
  readonly cause?: unknown
  /** What to do next. */
  readonly hint?: string
  /** file:line:column where the error belongs to a job file. */
  readonly at?: string
  readonly details?: Readonly<Record<string, unknown>>
}

/** The message says what was being done, to what, and what was found; `hint` says what to do next. */
export class AdflowError extends Error {
  override readonly name = 'AdflowError'
  readonly code: ErrorCode
  readonly hint: string | undefined
  readonly at: string | undefined
  readonly details: Readonly<Record<string, unknown>> | undefined

  constructor(code: ErrorCode, message: string, options: AdflowErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    this.hint = options.hint
    this.at = options.at
    this.details = options.details
  }

  get exit(): number {
    return ERROR_CODES[this.code].exit
  }

  get retryable(): boolean {
    return ERROR_CODES[this.code].retryable
  }
}

const LOCAL_IO_CODES = new Set(['EIO', 'EROFS', 'EACCES', 'EPERM', 'EDQUOT', 'ENOTDIR', 'EISDIR', 'EMFILE'])

/** Wraps an error of a local file operation; passes AdflowErrors through. `doing` reads "save the checkpoint to /x". */
export function localIoError(error: unknown, doing: string): AdflowError {
  if (error instanceof AdflowError) return error
  const code = (error as NodeJS.ErrnoException | undefined)?.code
  const text = error instanceof Error ? error.message : String(error)
  if (code === 'ENOSPC' || /No space left on device/i.test(text))
    return new AdflowError('DISK_FULL', `cannot ${doing}: no space left on the device`, {
      cause: error,
      hint: 'free space and run again; nothing was acknowledged',
    })
  if (code !== undefined && !LOCAL_IO_CODES.has(code))
    return new AdflowError('LOCAL_IO', `cannot ${doing}: ${text}`, { cause: error })
  return new AdflowError('LOCAL_IO', `cannot ${doing}: ${text}`, {
    cause: error,
    hint: 'check the path, its owner and its mount; nothing was acknowledged',
  })
}
