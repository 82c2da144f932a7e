/** What a status of gRPC means to a job. */
import { AdflowError, type ErrorCode } from '../../core/errors.ts'

/** As a call of grpc-js rejects. */
export interface GrpcStatus {
  readonly code: number
  readonly details: string
  readonly metadata?: { get(key: string): readonly unknown[] }
}

const STATUS = [
  ...['OK', 'CANCELLED', 'UNKNOWN', 'INVALID_ARGUMENT', 'DEADLINE_EXCEEDED', 'NOT_FOUND', 'ALREADY_EXISTS'],
  ...['PERMISSION_DENIED', 'RESOURCE_EXHAUSTED', 'FAILED_PRECONDITION', 'ABORTED', 'OUT_OF_RANGE', 'UNIMPLEMENTED'],
  ...['INTERNAL', 'UNAVAILABLE', 'DATA_LOSS', 'UNAUTHENTICATED'],
]

/** May go well when they are tried again. */
const AGAIN = new Set(['UNKNOWN', 'DEADLINE_EXCEEDED', 'RESOURCE_EXHAUSTED', 'ABORTED', 'INTERNAL', 'UNAVAILABLE'])

const MEANINGS: Readonly<Record<string, { readonly code: ErrorCode; readonly hint: string }>> = {
  UNAUTHENTICATED: { code: 'SOURCE_DENIED', hint: 'check the credentials in `metadata`' },
  PERMISSION_DENIED: { code: 'SOURCE_DENIED', hint: 'check the credentials in `metadata`, and what their user may do' },
  NOT_FOUND: { code: 'SOURCE_MISSING', hint: 'check `request`' },
  UNIMPLEMENTED: {
    code: 'SOURCE_MISSING',
    hint: 'the server has no such method: check `method` and `address`; `adflow discover` lists what it has',
  },
  INVALID_ARGUMENT: { code: 'SOURCE_UNREADABLE', hint: 'the server does not take the request: correct `request`' },
  FAILED_PRECONDITION: { code: 'SOURCE_UNREADABLE', hint: 'the server is not in a state to answer: see what it says' },
  OUT_OF_RANGE: {
    code: 'SOURCE_UNREADABLE',
    hint: 'the server has nothing there any more: correct `request`, or `position.start`',
  },
  DATA_LOSS: { code: 'SOURCE_DAMAGED', hint: 'the server has lost what was asked for' },
  RESOURCE_EXHAUSTED: { code: 'SOURCE_UNREADABLE', hint: 'run less often, or ask for less at once' },
  DEADLINE_EXCEEDED: {
    code: 'SOURCE_UNREADABLE',
    hint: 'ask for less at once, or raise `timeout`; the next run goes on where this one stopped',
  },
}

const OTHERS = {
  code: 'SOURCE_UNREADABLE',
  hint: 'check `address` and that the server runs; the next run goes on where this one stopped',
} as const

export interface Refusal {
  readonly error: AdflowError
  readonly again: boolean
  /** The server asks for this pause; negative: for no other attempt. */
  readonly afterMs: number | undefined
}

export function isGrpcStatus(error: unknown): error is GrpcStatus & Error {
  return error instanceof Error && typeof (error as Partial<GrpcStatus>).code === 'number' && 'details' in error
}

/** `what`: the address and the method. */
export function refusalOf(status: GrpcStatus & Error, what: string): Refusal {
  const { details } = status
  const name = STATUS[status.code] ?? String(status.code)
  const found = `${what} answers ${name}${details === '' ? '' : `: ${details}`}`
  const refused = (code: ErrorCode, hint: string): Refusal => ({
    error: new AdflowError(code, found, { cause: status, hint }),
    again: false,
    afterMs: undefined,
  })
  if (/certificate|self.signed|CERT_|altnames/i.test(details))
    return refused('SOURCE_DENIED', 'name the authority of the certificate in `tls.ca`, or have the server renew it')
  if (name === 'RESOURCE_EXHAUSTED' && /larger than max/i.test(details))
    return refused('SOURCE_BOMB', 'ask for smaller messages, or raise `max_message`')
  const { code, hint } = MEANINGS[name] ?? OTHERS
  const [pushback] = status.metadata?.get('grpc-retry-pushback-ms') ?? []
  const afterMs = pushback === undefined ? undefined : Number(String(pushback))
  return {
    error: new AdflowError(code, found, { cause: status, hint }),
    again: AGAIN.has(name),
    afterMs: afterMs === undefined || Number.isNaN(afterMs) ? undefined : afterMs,
  }
}
