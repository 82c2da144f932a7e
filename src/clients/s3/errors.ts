/** What S3, or the way to it, has to say, in the words of adflow: try again, ask for access, or change something. */
import { AdflowError, type ErrorCode } from '../../core/errors.ts'

interface Meaning {
  readonly pattern: RegExp
  readonly code: ErrorCode
  readonly hint: string
}

/** By the name that S3 gives, or by the code of Node where the server was not reached. The first that fits counts. */
const MEANINGS: readonly Meaning[] = [
  {
    pattern: /^(?:InvalidAccessKeyId|SignatureDoesNotMatch|InvalidToken|ExpiredToken|AuthFailure)/,
    code: 'STORE_DENIED',
    hint: 'check `access_key_id`, `secret_access_key` and `session_token` of the job, or what the environment gives instead',
  },
  {
    pattern: /^(?:CredentialsProviderError|TokenProviderError|ProviderError)$/,
    code: 'STORE_DENIED',
    hint: 'set `access_key_id` and `secret_access_key`, or give credentials as AWS tools take them',
  },
  {
    pattern: /^RequestTimeTooSkewed$/,
    code: 'STORE_DENIED',
    hint: 'the clock of this machine is wrong: set it by NTP',
  },
  {
    pattern: /^(?:AccessDenied|Forbidden|403|AllAccessDisabled|KMS\..*|AccountProblem)/,
    code: 'STORE_DENIED',
    hint: 'grant the user of the job what the page of the loader names under least privilege',
  },
  {
    pattern: /^NoSuchBucket$/,
    code: 'STORE_MISMATCH',
    hint: 'create the bucket, name another in `bucket`, or set `create: missing`',
  },
  {
    pattern: /^(?:PermanentRedirect|AuthorizationHeaderMalformed|IllegalLocationConstraint|301)/,
    code: 'STORE_MISMATCH',
    hint: 'set `region` to where the bucket is',
  },
  {
    pattern: /^(?:NotImplemented|MethodNotAllowed|501|405)/,
    code: 'STORE_MISMATCH',
    hint: 'the server lacks something that refuses repetitions or was asked for in the options (conditional writes, SHA-256, encryption, storage classes)',
  },
  {
    pattern: /^(?:EntityTooLarge|EntityTooSmall|KeyTooLong.*|Invalid.*|BadRequest|400)/,
    code: 'STORE_MISMATCH',
    hint: 'change the option that is named; nothing of the batch was published',
  },
  {
    pattern: /CERT|TLS|SELF_SIGNED|LEAF_SIGNATURE|ISSUER/,
    code: 'STORE_DENIED',
    hint: 'renew the certificate of the server, or name its authority in `tls.ca`',
  },
  {
    pattern: /^(?:QuotaExceeded|NoSpaceLeft.*|InsufficientStorage|XMinioStorageFull|507)/,
    code: 'STORE_UNAVAILABLE',
    hint: 'the disk of the server, or the quota there, is full: free space; nothing of the batch was published',
  },
  {
    pattern: /^(?:SlowDown|Throttl.*|TooManyRequests|RequestLimitExceeded|503|429)/,
    code: 'STORE_UNAVAILABLE',
    hint: 'the server is busy: fewer and larger batches (`resources.chunk`), or fewer partitions, ask less of it',
  },
  { pattern: /^[A-Z][a-z]+[A-Za-z]*$|^\d{3}$/, code: 'STORE_UNAVAILABLE', hint: 'nothing of the batch was published' },
]

const DOWN = 'check that the server runs and that `endpoint` is right'

/** @returns an AdflowError; one that comes in is passed on. `doing` reads "write s3://bucket/key". */
export function explainS3(error: unknown, doing: string): AdflowError {
  if (error instanceof AdflowError) return error
  const text = error instanceof Error ? error.message : String(error)
  if (/^Region is missing/.test(text))
    return new AdflowError('JOB_INVALID', `cannot ${doing}: no region is named`, {
      cause: error,
      hint: 'set `region`, or AWS_REGION',
    })
  const name = nameOf(error)
  const meaning = MEANINGS.find(({ pattern }) => pattern.test(name))
  // With no body the client has no better message than that.
  const found = /^(?:UnknownError)?$/.test(text) || text === name ? name : `${text} (${name})`
  return new AdflowError(meaning?.code ?? 'STORE_UNAVAILABLE', `cannot ${doing}: ${found}`, {
    cause: error,
    hint: meaning?.hint ?? DOWN,
  })
}

/** true: the condition under which it was to be written did not hold, or somebody else is writing there just now. */
export function isConflict(error: unknown): boolean {
  return ['PreconditionFailed', 'ConditionalRequestConflict', '412', '409'].includes(nameOf(error))
}

export function isMissing(error: unknown): boolean {
  return ['NoSuchKey', 'NotFound', '404'].includes(nameOf(error))
}

/** The code of S3; of Node where no answer came; the status where there was one without a body. */
export function nameOf(error: unknown): string {
  if (!(error instanceof Error)) return ''
  const { code, Code, $metadata } = error as Error & {
    readonly code?: string
    readonly Code?: string
    readonly $metadata?: { readonly httpStatusCode?: number }
  }
  const name = Code ?? (error.name === 'Error' ? code : error.name) ?? ''
  if (!/^(?:Unknown(?:Error)?|S3ServiceException|)$/.test(name)) return name
  return code ?? ($metadata?.httpStatusCode === undefined ? '' : String($metadata.httpStatusCode))
}
