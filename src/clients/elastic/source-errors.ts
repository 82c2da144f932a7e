/** What Elasticsearch or OpenSearch, or the way to it, has to say to whoever reads from it. */
import { AdflowError, type ErrorCode } from '../../core/errors.ts'
import { type Complaint, complaintOf, describe, partsOf } from './errors.ts'

interface Meaning {
  readonly pattern: RegExp
  readonly code: ErrorCode
  readonly hint: string
}

const GOES_ON = 'the next run goes on where this one stopped'

/** A point in time has ended: it was not asked for so long, its node has gone, or somebody closed it. */
const VIEW_IS_GONE = /search_context_missing|no search context found|(?:pit|point in time) id/i

export function viewIsGone(error: unknown): error is AdflowError {
  return error instanceof AdflowError && error.code === 'SOURCE_CHANGED' && VIEW_IS_GONE.test(error.message)
}

/** By `status type reason`. The first that fits counts. */
const MEANINGS: readonly Meaning[] = [
  { pattern: /^401 /, code: 'SOURCE_DENIED', hint: 'check `user` and `password`, or `api_key`' },
  {
    pattern: /^403 /,
    code: 'SOURCE_DENIED',
    hint: 'give the user of the job the privilege that is named, or `read` on the index',
  },
  {
    pattern: /index_not_found|no such index/,
    code: 'SOURCE_MISSING',
    hint: 'check `index`; an index that was deleted while it was read cannot give the rest',
  },
  {
    // Not worth the same request again: a new view must be opened.
    pattern: VIEW_IS_GONE,
    code: 'SOURCE_CHANGED',
    hint: `raise \`keep_alive\` where the engine takes so long; ${GOES_ON}`,
  },
  { pattern: /index_closed/, code: 'SOURCE_UNREADABLE', hint: 'open the index, or name others in `index`' },
  {
    pattern: /^429 /,
    code: 'SOURCE_UNREADABLE',
    hint: `the cluster is asked too much: lower \`slices\`, \`size\` or \`requests_per_second\`; ${GOES_ON}`,
  },
  { pattern: /^(?:408|5\d\d) /, code: 'SOURCE_UNREADABLE', hint: `look at the health of the cluster; ${GOES_ON}` },
  { pattern: /^404 /, code: 'SOURCE_MISSING', hint: 'check `url` and `index`' },
  {
    pattern: /^3\d\d /,
    code: 'SOURCE_UNSUPPORTED',
    hint: 'name in `url` the address that answers itself: no redirect is followed',
  },
]

/** `body`: of an answer that is no success. `doing` reads "read events". */
export function refusalError(status: number, body: string, doing: string): AdflowError {
  if (/^\s*</.test(body)) return htmlError(doing, status)
  const complaint = deepest(complaintOf(status, errorOf(body)), body)
  const { type, reason } = complaint
  const meaning = MEANINGS.find(({ pattern }) => pattern.test(`${status} ${type} ${reason}`))
  return new AdflowError(meaning?.code ?? 'SOURCE_UNSUPPORTED', `cannot ${doing}: ${describe(complaint)}`, {
    hint: meaning?.hint ?? 'change `query`, `incremental` or `source` of the source',
    details: { status, type },
  })
}

export function htmlError(doing: string, status: number): AdflowError {
  return new AdflowError(
    'SOURCE_UNREADABLE',
    `cannot ${doing}: an HTML page came in the place of an answer (status ${status})`,
    {
      hint: 'a proxy answers in the place of the server: check `url`',
    },
  )
}

/** No answer came, or not all of it. */
export function brokenOff(error: unknown, doing: string): AdflowError {
  if (error instanceof AdflowError) return error
  const { code, message } = partsOf(error)
  const distrusted = /CERT|TLS|SSL|SELF_SIGNED|LEAF_SIGNATURE|ISSUER/.test(code)
  return new AdflowError(distrusted ? 'SOURCE_DENIED' : 'SOURCE_UNREADABLE', `cannot ${doing}: ${message}`, {
    cause: error,
    hint: distrusted
      ? 'renew the certificate of the server, or name its authority in `tls.ca`'
      : `check that the server runs and that its address is right; ${GOES_ON}`,
  })
}

/** Where shards failed, one of them says why; where a query was not understood, what caused that. */
function deepest(complaint: Complaint, body: string): Complaint {
  if (/pars/.test(complaint.type)) {
    const cause = rootOf(errorOf(body))
    return cause === complaint.reason
      ? complaint
      : { ...complaint, reason: `${complaint.reason}: ${cause}`.slice(0, 500) }
  }
  if (!/search_phase_execution|all shards failed/.test(`${complaint.type} ${complaint.reason}`)) return complaint
  const { root_cause: [cause] = [] } = (errorOf(body) ?? {}) as { root_cause?: readonly object[] }
  return cause === undefined ? complaint : complaintOf(complaint.status, cause)
}

interface Caused {
  readonly reason?: string
  readonly caused_by?: Caused
}

function rootOf(error: unknown): string {
  const { reason = '', caused_by } = (error ?? {}) as Caused
  return caused_by === undefined ? reason : rootOf(caused_by)
}

function errorOf(body: string): unknown {
  try {
    return (JSON.parse(body) as { error?: unknown }).error ?? body
  } catch {
    return body
  }
}
