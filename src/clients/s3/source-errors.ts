/** What S3 has to say to whoever reads. */
import { AdflowError, type ErrorCode } from '../../core/errors.ts'
import { ofSource } from '../objects/remote-faults.ts'
import { explainS3, nameOf } from './errors.ts'

interface Meaning {
  readonly pattern: RegExp
  readonly code: ErrorCode
  readonly hint: string
}

/** What means something else here than to a loader. */
const MEANINGS: readonly Meaning[] = [
  {
    pattern: /^(?:NoSuchKey|NotFound|404)$/,
    code: 'SOURCE_MISSING',
    hint: 'it was removed after it was listed; what is loaded of it stays',
  },
  {
    pattern: /^(?:PreconditionFailed|412|InvalidRange|416)$/,
    code: 'SOURCE_CHANGED',
    hint: 'it was replaced after it was listed; the next run reads what stands there now',
  },
  {
    pattern: /^InvalidObjectState$/,
    code: 'SOURCE_UNSUPPORTED',
    hint: 'it is archived: restore it, or leave it out with `exclude`',
  },
  { pattern: /^NoSuchBucket$/, code: 'SOURCE_MISSING', hint: 'create the bucket, or name another in `bucket`' },
  {
    pattern: /^(?:AccessDenied|Forbidden|403|AllAccessDisabled)/,
    code: 'SOURCE_DENIED',
    hint: 'grant the user of the job s3:ListBucket on the bucket and s3:GetObject on its objects',
  },
  {
    pattern: /^(?:SlowDown|Throttl.*|TooManyRequests|RequestLimitExceeded|503|429)/,
    code: 'SOURCE_UNREADABLE',
    hint: 'the server is busy: lower `resources.parallel`; the next run goes on where this one stopped',
  },
]

/** @returns an AdflowError SOURCE_…, with `details.outage` where the server did not answer at all. `doing` reads "read s3://bucket/key". */
export function explainSource(error: unknown, doing: string): AdflowError {
  const meaning = MEANINGS.find(({ pattern }) => pattern.test(nameOf(error)))
  const told = explainS3(error, doing)
  const said =
    meaning === undefined
      ? ofSource(told)
      : new AdflowError(meaning.code, told.message, { cause: error, hint: meaning.hint })
  if (said.code !== 'SOURCE_UNREADABLE' || hasAnswered(error)) return said
  return new AdflowError(said.code, said.message, {
    cause: error,
    hint: 'check that the server runs and that `endpoint` is right; the next run goes on where this one stopped',
    details: { outage: true },
  })
}

function hasAnswered(error: unknown): boolean {
  const { $metadata } = error as { readonly $metadata?: { readonly httpStatusCode?: number } }
  return $metadata?.httpStatusCode !== undefined
}
