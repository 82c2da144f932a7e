/** What PostgreSQL, or the way to it, has to say, in the words of adflow: try again, ask for access, or change something. */
import { AdflowError, type ErrorCode } from '../../core/errors.ts'

interface Meaning {
  readonly pattern: RegExp
  readonly code: ErrorCode
  readonly hint: string
}

/** Each has a digit, and so is none of Node's codes (EPIPE). */
const SQLSTATE = /^(?=.*\d)[0-9A-Z]{5}$/

/** By SQLSTATE, or by the code of Node where the server was not reached. The first that fits counts. */
const MEANINGS: readonly Meaning[] = [
  { pattern: /^28/, code: 'STORE_DENIED', hint: 'check user and password of the job, and pg_hba.conf of the server' },
  { pattern: /^42501$/, code: 'STORE_DENIED', hint: 'grant the user of the job the privilege that is named' },
  { pattern: /^25006$/, code: 'STORE_UNAVAILABLE', hint: 'this is a read-only replica: name the primary in `url`' },
  { pattern: /^53100$/, code: 'STORE_UNAVAILABLE', hint: 'the disk of the server is full: free space there' },
  {
    pattern: /^53300$/,
    code: 'STORE_UNAVAILABLE',
    hint: 'the server has no connection left: lower `connections`, or raise max_connections',
  },
  { pattern: /^(?:08|53|57|58|40|55P03|XX)/, code: 'STORE_UNAVAILABLE', hint: 'nothing of the batch was written' },
  { pattern: /^3D000$/, code: 'STORE_MISMATCH', hint: 'create the database, or name another in `url`' },
  { pattern: /^42P01$/, code: 'STORE_MISMATCH', hint: 'create the table, or set `create: missing`' },
  {
    pattern: /^22021$/,
    code: 'STORE_MISMATCH',
    hint: 'PostgreSQL holds no NUL characters: add a rule or a step that takes them out',
  },
  { pattern: SQLSTATE, code: 'STORE_MISMATCH', hint: 'nothing of the batch was written' },
  {
    pattern: /CERT|TLS|SELF_SIGNED|LEAF_SIGNATURE|ISSUER/,
    code: 'STORE_DENIED',
    hint: 'renew the certificate of the server, or name its authority in `tls.ca`',
  },
]

const NO_PASSWORD = '28P01'
const DOWN = 'check that the server runs and that its address is right'

/** Where it is read, not written. */
const SOURCE_MEANINGS: readonly Meaning[] = [
  { pattern: /^28/, code: 'SOURCE_DENIED', hint: 'check user and password of the job, and pg_hba.conf of the server' },
  { pattern: /^42501$/, code: 'SOURCE_DENIED', hint: 'grant the user of the job the privilege that is named' },
  { pattern: /^53300$/, code: 'SOURCE_UNREADABLE', hint: 'lower `parallel`, or raise max_connections of the server' },
  {
    pattern: /^55006$/,
    code: 'SOURCE_UNREADABLE',
    hint: 'another session reads from the slot: each job needs one of its own',
  },
  {
    pattern: /^55P03$/,
    code: 'SOURCE_UNREADABLE',
    hint: 'another session holds the table; `lock_timeout` waits longer',
  },
  { pattern: /^57014$/, code: 'SOURCE_UNREADABLE', hint: '`statement_timeout` allows a statement more time' },
  {
    pattern: /^(?:08|25P0|25006|53|57|58|40|XX)/,
    code: 'SOURCE_UNREADABLE',
    hint: 'the next run goes on where this one stopped',
  },
  { pattern: /^3D000$/, code: 'SOURCE_MISSING', hint: 'name a database that is there in `url`' },
  {
    pattern: /^(?:42P01|3F000)$/,
    code: 'SOURCE_MISSING',
    hint: 'check the name, its schema, and the search_path of the user',
  },
  {
    pattern: /^42703$/,
    code: 'SOURCE_MISSING',
    hint: 'check the names of columns in the job; `columns` leaves out what is not there any more',
  },
  { pattern: SQLSTATE, code: 'SOURCE_UNSUPPORTED', hint: 'see the message of the server' },
  {
    pattern: /CERT|TLS|SELF_SIGNED|LEAF_SIGNATURE|ISSUER/,
    code: 'SOURCE_DENIED',
    hint: 'renew the certificate of the server, or name its authority in `tls.ca`',
  },
]

/** Where it keeps the state of jobs. */
const STATE_MEANINGS: readonly Meaning[] = [
  { pattern: /^28/, code: 'STATE_DENIED', hint: 'check user and password in `state`, and pg_hba.conf of the server' },
  {
    pattern: /^42501$/,
    code: 'STATE_DENIED',
    hint: 'the user needs CREATE on the database for the first run, then its own schema',
  },
  { pattern: /^3D000$/, code: 'STATE_DENIED', hint: 'create the database, or name another in `state`' },
  {
    pattern: /CERT|TLS|SELF_SIGNED|LEAF_SIGNATURE|ISSUER/,
    code: 'STATE_DENIED',
    hint: 'renew the certificate of the server, or name its authority by `ca=` in `state`',
  },
  { pattern: /^25006$/, code: 'STATE_UNREACHABLE', hint: 'this is a read-only replica: name the primary in `state`' },
]

/** @returns an AdflowError; one that comes in is passed on. `doing` reads "write a batch to public.events". */
export function explainPostgres(error: unknown, doing: string): AdflowError {
  return explained(error, doing, MEANINGS, 'STORE_UNAVAILABLE')
}

/** As `explainPostgres`, of a source. */
export function explainSource(error: unknown, doing: string): AdflowError {
  return explained(error, doing, SOURCE_MEANINGS, 'SOURCE_UNREADABLE')
}

/** As `explainPostgres`, of the server that keeps the state. */
export function explainState(error: unknown, doing: string): AdflowError {
  return explained(error, doing, STATE_MEANINGS, 'STATE_UNREACHABLE')
}

function explained(error: unknown, doing: string, meanings: readonly Meaning[], other: ErrorCode): AdflowError {
  if (error instanceof AdflowError) return error
  const { code = '', message, detail } = asParts(error)
  // The client itself gives up where a password is asked for and there is none.
  const meaning = meanings.find(({ pattern }) => pattern.test(message.startsWith('SASL') ? NO_PASSWORD : code))
  const text = detail === undefined ? message : `${message} (${detail})`
  return new AdflowError(meaning?.code ?? other, `cannot ${doing}: ${text}`, {
    cause: error,
    hint: meaning?.hint ?? DOWN,
  })
}

interface Parts {
  readonly code?: string
  readonly message: string
  readonly detail?: string
}

/** The detail of a constraint shows a key, not a row; that of a failed row shows the row, and is left out. */
function asParts(error: unknown): Parts {
  if (!(error instanceof Error)) return { message: String(error) }
  const { code, detail } = error as Error & { readonly code?: string; readonly detail?: string }
  const inner = error instanceof AggregateError ? (error.errors[0] as Error | undefined) : undefined
  return {
    message: error.message === '' ? (inner?.message ?? 'no answer') : error.message,
    ...(code === undefined ? {} : { code }),
    ...(detail === undefined || /^Failing row/.test(detail) ? {} : { detail }),
  }
}
