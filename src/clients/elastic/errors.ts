/** What the store, or the way to it, has to say, in the words of adflow: try again, ask for access, or change something. */
import { AdflowError, type ErrorCode } from '../../core/errors.ts'

/** As the store tells it, for a request or for one document. */
export interface Complaint {
  readonly status: number
  /** `cluster_block_exception`, `mapper_parsing_exception` … */
  readonly type: string
  readonly reason: string
}

interface Meaning {
  readonly pattern: RegExp
  readonly code: ErrorCode
  readonly hint: string
}

/** By `status type reason`. The first that fits counts. */
const MEANINGS: readonly Meaning[] = [
  {
    pattern: /flood-stage|read-only-allow-delete/,
    code: 'STORE_UNAVAILABLE',
    hint: 'the disk of a node is full: free space there, or add a node; then the block goes, or is taken away by hand',
  },
  {
    pattern: /cluster_block_exception/,
    code: 'STORE_UNAVAILABLE',
    hint: 'the index or the cluster is set to read-only: take the block away (`index.blocks.*`)',
  },
  { pattern: /^401 /, code: 'STORE_DENIED', hint: 'check `user` and `password`, or `api_key`' },
  { pattern: /^403 /, code: 'STORE_DENIED', hint: 'give the user of the job the privilege that is named' },
  { pattern: /index_not_found/, code: 'STORE_MISMATCH', hint: 'create the index, or set `create: missing`' },
  {
    pattern: /^413 /,
    code: 'STORE_MISMATCH',
    hint: 'lower `requests.bytes`, or raise `http.max_content_length` of the server',
  },
  {
    pattern: /^(?:408|409|429|5\d\d) /,
    code: 'STORE_UNAVAILABLE',
    hint: 'the batch is tried again; what is there of it is not doubled',
  },
  {
    pattern: /^3\d\d /,
    code: 'STORE_MISMATCH',
    hint: 'name in `url` the address that answers itself: no redirect is followed',
  },
]

const OTHER: Omit<Meaning, 'pattern'> = {
  code: 'STORE_MISMATCH',
  hint: 'compare the columns with the mapping of the index; a field may be given another one by `fields`',
}

/** `doing` reads "write a batch to events". */
export function complaintError(complaint: Complaint, doing: string): AdflowError {
  const { status, type, reason } = complaint
  const { code, hint } = MEANINGS.find(({ pattern }) => pattern.test(`${status} ${type} ${reason}`)) ?? OTHER
  return new AdflowError(code, `cannot ${doing}: ${describe(complaint)}`, { hint, details: { status, type } })
}

export function describe({ status, type, reason }: Complaint): string {
  return [`status ${status}`, type, reason].filter((part) => part !== '').join(', ')
}

/** The body of an answer, or the `error` of one document in it. Values are left out: the store quotes them in its reasons. */
export function complaintOf(status: number, error: unknown): Complaint {
  if (typeof error === 'string') return { status, type: '', reason: error.slice(0, 300) }
  const { type = '', reason = '', caused_by } = (error ?? {}) as Told
  // Where it names a field, what caused it quotes a value; else only that says anything.
  const cause = /\bfield\b/.test(reason) ? undefined : caused_by?.reason
  const text = cause === undefined ? reason : `${reason}: ${cause}`
  return { status, type, reason: withoutValues(text).slice(0, 500) }
}

interface Told {
  readonly type?: string
  readonly reason?: string
  readonly caused_by?: { readonly reason?: string }
}

function withoutValues(reason: string): string {
  return reason
    .replace(/\.? Preview of field's value:.*$/s, '')
    .replace(/For input string: .*$/s, 'not a number')
    .replace(/\.? *The prefix of the first immense term is:.*$/s, '')
}

/** No answer came: refused, cut off, too slow, or nobody to be trusted. */
export function noAnswer(error: unknown, doing: string): AdflowError {
  if (error instanceof AdflowError) return error
  const { code, message } = partsOf(error)
  const distrusted = /CERT|TLS|SSL|SELF_SIGNED|LEAF_SIGNATURE|ISSUER/.test(code)
  return new AdflowError(distrusted ? 'STORE_DENIED' : 'STORE_UNAVAILABLE', `cannot ${doing}: ${message}`, {
    cause: error,
    hint: distrusted
      ? 'renew the certificate of the server, or name its authority in `tls.ca`'
      : 'check that the server runs and that its address is right',
  })
}

export function partsOf(error: unknown): { code: string; message: string } {
  if (!(error instanceof Error)) return { code: '', message: String(error) }
  const inner = error instanceof AggregateError ? (error.errors[0] as Error | undefined) : undefined
  const { code = '' } = error as NodeJS.ErrnoException
  return { code, message: error.message === '' ? (inner?.message ?? 'no answer') : error.message }
}
