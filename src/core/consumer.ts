/**
 * The contract between the dispatcher and consumers: what an output is distributed to. Types only. A consumer hands one
 * thing over at a time and says what came of it; order, pauses, deadlines and dead letters are the dispatcher's.
 */
import type { BatchInfo, Column, ComponentEnv, EngineAccess, LoadBatch } from './contracts.ts'
import type { Definition } from './definitions.ts'
import type { Diagnosable } from './diagnosis.ts'
import type { LoaderRemark } from './loader-check.ts'
import type { Analysis } from './step-contract.ts'

/** What one attempt has come to. A thrown error counts as `again`. */
export type Answer =
  /** The consumer has it, and says so. */
  | { readonly outcome: 'delivered'; readonly outputs?: readonly string[] }
  /** It may take it later; not before `afterMs` where it has said so. */
  | { readonly outcome: 'again'; readonly reason: string; readonly afterMs?: number }
  /** It will never take this one: a dead letter at once. */
  | { readonly outcome: 'refused'; readonly reason: string }
  /** It wants nothing any more: it is switched off until somebody switches it on. */
  | { readonly outcome: 'gone'; readonly reason: string }

/** What is handed over at once: one or more rows. The same id has the same bytes for ever. */
export interface Message {
  /** `<consumer>_<32 digits of the token>_<first row>`, and `-<last row>` where it may hold several. */
  readonly id: string
  /** Rows in it. */
  readonly rows: number
  readonly body: string
  /** What `attributes()` said when the message was made. */
  readonly attributes: Readonly<Record<string, string>>
}

export interface SendContext {
  /** One of `endpoints`. */
  readonly endpoint: string
  readonly signal: AbortSignal
}

/** SQL of the parts of one event, over a row of the batch. */
export interface EventSql {
  /** A VARCHAR, constant for ever: `<consumer>_<32 digits of the token>_<row>`. */
  readonly id: string
  /** A STRUCT whose JSON has every value exactly. */
  readonly data: string
  /** A VARCHAR literal: when the batch was planned, ISO 8601 UTC. */
  readonly time: string
  /** A VARCHAR or NULL: rows with the same key keep their order. Absent where the job gives no key. */
  readonly key?: string
}

interface AnyConsumer {
  /** Where it can be handed over, any of them: a circuit breaker stands before each. At least one. */
  readonly endpoints: readonly string[]
  close(): Promise<void>
}

/** Takes messages, made of rows by SQL and kept on disk before the first is sent. */
export interface MessageConsumer extends AnyConsumer {
  readonly takes: 'messages'
  /** Most rows of a message, and about how many bytes of JSON. */
  readonly batch: { readonly rows: number; readonly bytes: number }
  /** `one`: the body is the event. `list`: a JSON array of events. `lines`: an event per line. */
  readonly body: 'one' | 'list' | 'lines'
  /** SQL of one event: a value whose JSON goes into the body. Must give the same value whenever it is evaluated. */
  event(sql: EventSql): string
  /** Kept with every message of the batch: what else the receiver sees (headers) must not change with the job file. */
  attributes(batch: BatchInfo): Readonly<Record<string, string>>
  send(message: Message, context: SendContext): Promise<Answer>
}

/** Takes all rows of a batch at once. The same token again must change nothing. */
export interface BatchConsumer extends AnyConsumer {
  readonly takes: 'batches'
  send(batch: LoadBatch, context: SendContext): Promise<Answer>
}

export type Consumer = MessageConsumer | BatchConsumer

export interface ConsumerCheckEnv {
  /** Path of the consumer in the job file. */
  readonly path: readonly (string | number)[]
  /** What reaches it, after `where` and `select`. */
  readonly columns: readonly Column[]
  readonly analysis: Analysis
}

export interface ConsumerDefinition<Options = unknown> extends Definition<'consumer', Options>, Diagnosable<Options> {
  /** For lint: what can be known without the consumer. Changes nothing. */
  check?(options: Options, env: ConsumerCheckEnv): Promise<readonly LoaderRemark[]>
  /** What it needs of the engine; called before the session is locked. */
  access?(options: Options, env: ComponentEnv): EngineAccess
  create(options: Options, env: ComponentEnv): Consumer
}
