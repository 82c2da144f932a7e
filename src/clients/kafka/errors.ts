/** What Kafka, or the way to it, has to say, in the words of adflow: try again, ask for access, or change something. */
import { AdflowError, type ErrorCode } from '../../core/errors.ts'

interface Meaning {
  readonly pattern: RegExp
  readonly code: ErrorCode
  readonly hint: string
}

const NOTHING = 'nothing of the batch can be read'

/** By the name that Kafka gives the error, or by the code of Node where no broker was reached. The first that fits counts. */
const MEANINGS: readonly Meaning[] = [
  { pattern: /^(?:SASL_|UNSUPPORTED_SASL|ILLEGAL_SASL)/, code: 'STORE_DENIED', hint: 'check `sasl` of the job' },
  {
    pattern: /^TRANSACTIONAL_ID_AUTHORIZATION_FAILED$/,
    code: 'STORE_DENIED',
    hint: 'grant the user WRITE and DESCRIBE on the transactional ids that begin with `adflow-`',
  },
  {
    pattern: /^TOPIC_AUTHORIZATION_FAILED$/,
    code: 'STORE_DENIED',
    hint: 'grant the user WRITE and DESCRIBE on the topic, and READ and DESCRIBE_CONFIGS too on the topic of batches',
  },
  { pattern: /_AUTHORIZATION_FAILED$/, code: 'STORE_DENIED', hint: 'grant the user CREATE, or set `create: never`' },
  {
    pattern: /^NOT_ENOUGH_REPLICAS/,
    code: 'STORE_UNAVAILABLE',
    hint: 'fewer replicas are in sync than min.insync.replicas of the topic asks for: bring brokers back',
  },
  {
    pattern: /^CONCURRENT_TRANSACTIONS$/,
    code: 'STORE_UNAVAILABLE',
    hint: 'the brokers cannot complete the transaction before: see whether fewer replicas are in sync than min.insync.replicas asks for',
  },
  { pattern: /^KAFKA_STORAGE_ERROR$/, code: 'STORE_UNAVAILABLE', hint: 'a disk of the broker is full or broken' },
  {
    pattern: /^(?:MESSAGE_TOO_LARGE|RECORD_LIST_TOO_LARGE)$/,
    code: 'STORE_MISMATCH',
    hint: 'lower `max_message`, or raise max.message.bytes of the topic',
  },
  {
    pattern: /^UNKNOWN_TOPIC_OR_PARTITION$/,
    code: 'STORE_MISMATCH',
    hint: 'the topic was deleted: the next run makes it again under `create: missing`',
  },
  {
    pattern: /^INVALID_RECORD$/,
    code: 'STORE_MISMATCH',
    hint: 'a compacted topic takes only records with a `key`',
  },
  {
    pattern: /^INVALID_TRANSACTION_TIMEOUT$/,
    code: 'STORE_MISMATCH',
    hint: 'lower `transaction_timeout`, or raise transaction.max.timeout.ms of the brokers',
  },
  { pattern: /^UNSUPPORTED_VERSION$/, code: 'STORE_MISMATCH', hint: 'adflow needs Apache Kafka 3.6 or newer' },
  {
    pattern: /^(?:INVALID_(?!PRODUCER|TXN)|POLICY_VIOLATION|UNSUPPORTED_)/,
    code: 'STORE_MISMATCH',
    hint: NOTHING,
  },
  { pattern: /^[A-Z_]+$/, code: 'STORE_UNAVAILABLE', hint: NOTHING },
]

const TLS: Meaning = {
  pattern: /CERT|TLS|SELF_SIGNED|LEAF_SIGNATURE|ISSUER|SSL/,
  code: 'STORE_DENIED',
  hint: 'renew the certificate of the broker, name its authority in `tls.ca`, or see whether this listener speaks TLS',
}

const DOWN =
  'check that the brokers run and that the addresses are right; a listener that wants TLS or SASL hangs up without a word'

/** Somebody else holds the transactions now. */
const FENCED = new Set(['INVALID_PRODUCER_EPOCH', 'PRODUCER_FENCED'])

export function isFenced(error: unknown): boolean {
  return namesOf(error).some((name) => FENCED.has(name))
}

/** Kafka's own name of the error, such as NOT_COORDINATOR; undefined where no broker answered. */
export function kafkaErrorName(error: unknown): string | undefined {
  return namesOf(error)[0]
}

/** @returns an AdflowError; one that comes in is passed on. `doing` reads "write batch 0123 to events". */
export function explainKafka(error: unknown, doing: string): AdflowError {
  if (error instanceof AdflowError) return error
  const name = kafkaErrorName(error)
  const chain = chainOf(error)
  if (name !== undefined) {
    const meaning = MEANINGS.find(({ pattern }) => pattern.test(name))
    return new AdflowError(meaning?.code ?? 'STORE_UNAVAILABLE', `cannot ${doing}: ${said(chain, name)}`, {
      cause: error,
      hint: meaning?.hint ?? NOTHING,
    })
  }
  const last = chain.at(-1)
  const text = chain.map(({ message }) => message).join(': ')
  const secured = TLS.pattern.test((last as NodeJS.ErrnoException | undefined)?.code ?? '') || TLS.pattern.test(text)
  return new AdflowError(secured ? TLS.code : 'STORE_UNAVAILABLE', `cannot ${doing}: ${text}`, {
    cause: error,
    hint: secured ? TLS.hint : DOWN,
  })
}

/** `NAME: what it means`. */
function said(chain: readonly Error[], name: string): string {
  const found = chain.find((error) => (error as { apiId?: string }).apiId === name)
  const own = (found as { serverErrorMessage?: string | null } | undefined)?.serverErrorMessage
  return `${name}: ${own ?? found?.message ?? 'refused'}`
}

function namesOf(error: unknown): string[] {
  return chainOf(error).flatMap((own) => {
    const { apiId } = own as { apiId?: unknown }
    // The number that stands beside what is said of a single record.
    return typeof apiId === 'string' && apiId !== 'UNKNOWN_SERVER_ERROR' ? [apiId] : []
  })
}

/** The error and what is behind it, from the outside in. */
function chainOf(error: unknown): Error[] {
  if (!(error instanceof Error)) return [new Error(String(error))]
  const inner = error instanceof AggregateError ? (error.errors as unknown[]) : []
  const causes = error.cause === undefined ? [] : [error.cause]
  return [error, ...[...inner, ...causes].flatMap(chainOf)]
}
