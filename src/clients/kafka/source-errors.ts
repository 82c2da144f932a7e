/** What Kafka has to say to one who reads, in the words of adflow. */
import { AdflowError, type ErrorCode } from '../../core/errors.ts'
import { explainKafka, kafkaErrorName } from './errors.ts'

const CODES: Partial<Record<ErrorCode, ErrorCode>> = {
  STORE_UNAVAILABLE: 'SOURCE_UNREADABLE',
  STORE_DENIED: 'SOURCE_DENIED',
  STORE_MISMATCH: 'SOURCE_UNSUPPORTED',
}
const HINTS: Readonly<Record<string, string>> = {
  TOPIC_AUTHORIZATION_FAILED: 'grant the user READ and DESCRIBE on the topic',
  UNKNOWN_TOPIC_OR_PARTITION: 'check `topics`, and whether the topic was deleted',
  UNKNOWN_TOPIC_ID: 'the topic was deleted, or made anew',
  UNSUPPORTED_VERSION: 'adflow needs Apache Kafka 3.6 or newer',
}
const MISSING = new Set(['UNKNOWN_TOPIC_OR_PARTITION', 'UNKNOWN_TOPIC_ID'])
const NOTHING = 'what was read before is loaded; the next run goes on from there'

/** `doing` reads "read events/0 of kafka:9092". */
export function explainSource(error: unknown, doing: string): AdflowError {
  if (error instanceof AdflowError) return error
  const found = explainKafka(error, doing)
  const name = kafkaErrorName(error)
  const code = name !== undefined && MISSING.has(name) ? 'SOURCE_MISSING' : (CODES[found.code] ?? found.code)
  const hint = name === undefined ? found.hint : (HINTS[name] ?? NOTHING)
  return new AdflowError(code, found.message, { cause: error, ...(hint === undefined ? {} : { hint }) })
}

/** No broker answered, or one that will do so soon: worth asking again. Who is refused for a reason is refused again. */
export function isPassing(error: unknown): boolean {
  if (error instanceof AdflowError) return false
  const name = kafkaErrorName(error)
  if (name === undefined) return explainKafka(error, '').code === 'STORE_UNAVAILABLE'
  return PASSING.has(name)
}

const PASSING = new Set([
  ...['NOT_LEADER_OR_FOLLOWER', 'LEADER_NOT_AVAILABLE', 'FENCED_LEADER_EPOCH', 'UNKNOWN_LEADER_EPOCH'],
  ...['REPLICA_NOT_AVAILABLE', 'NETWORK_EXCEPTION', 'REQUEST_TIMED_OUT', 'BROKER_NOT_AVAILABLE', 'NOT_CONTROLLER'],
  ...['KAFKA_STORAGE_ERROR', 'OFFSET_NOT_AVAILABLE', 'UNSTABLE_OFFSET_COMMIT', 'COORDINATOR_LOAD_IN_PROGRESS'],
  // A broker that has just started has not heard of the topic yet.
  ...['UNKNOWN_TOPIC_ID', 'UNKNOWN_TOPIC_OR_PARTITION', 'INCONSISTENT_TOPIC_ID'],
])
