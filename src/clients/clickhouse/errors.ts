/** What ClickHouse, or the way to it, has to say, in the words of adflow: try again, ask for access, or change something. */
import { AdflowError, type ErrorCode } from '../../core/errors.ts'

interface Meaning {
  /** Matched against `<number> <message>`, or the code of Node and its message where the server was not reached. */
  readonly pattern: RegExp
  readonly code: ErrorCode
  readonly hint: string
}

/** The server or the net is in a bad way: later it may go well. */
export const PASSING =
  /^(?:3|23|24|32|33|74|75|76|95|107|159|198|202|203|209|210|236|279|299|394|425|439|473|499|574|666|667|668|700|734|735|745|999|1000|1001|1002) /

/** The first that fits counts. */
const MEANINGS: readonly Meaning[] = [
  {
    pattern: /^(?:192|193|194|516) /,
    code: 'STORE_DENIED',
    hint: 'check user and password of the job, and the networks that the server lets the user come from',
  },
  { pattern: /^497 /, code: 'STORE_DENIED', hint: 'grant the user of the job the privilege that is named' },
  {
    pattern: /^164 /,
    code: 'STORE_DENIED',
    hint: 'the user of the job is read-only: give it a profile with readonly = 0',
  },
  {
    pattern: /^(?:242) /,
    code: 'STORE_UNAVAILABLE',
    hint: 'the table is read-only now (a replica without its Keeper, a read-only disk): mend that on the server',
  },
  {
    pattern: /^243 |No space left|NOT_ENOUGH_SPACE|errno: 28/,
    code: 'STORE_UNAVAILABLE',
    hint: 'the disk of the server is full: free space there',
  },
  {
    pattern: /^241 /,
    code: 'STORE_UNAVAILABLE',
    hint: 'the server has too little memory for the batch: lower `resources.chunk`, or raise max_memory_usage',
  },
  {
    pattern: /^252 .*Too many partitions/s,
    code: 'STORE_MISMATCH',
    hint: 'partition by something coarser; nothing was written',
  },
  {
    pattern: /^252 /,
    code: 'STORE_UNAVAILABLE',
    hint: 'the server merges slower than it is written to: it is tried again',
  },
  {
    pattern: /^319 |^285 |^286 /,
    code: 'STORE_UNAVAILABLE',
    hint: 'the outcome is unknown: the next attempt repeats the batch under the same token, which cannot double it',
  },
  { pattern: /^81 /, code: 'STORE_MISMATCH', hint: 'create the database, or set `create: missing`' },
  { pattern: /^60 /, code: 'STORE_MISMATCH', hint: 'create the table, or set `create: missing`' },
  {
    pattern: /^349 /,
    code: 'STORE_MISMATCH',
    hint: 'the column is not Nullable: give it a value in a step, or make the column Nullable',
  },
  {
    pattern: PASSING,
    code: 'STORE_UNAVAILABLE',
    hint: 'what is there of the batch is found out by the next attempt',
  },
  { pattern: /^\d+ /, code: 'STORE_MISMATCH', hint: 'change the job, or the table' },
  {
    pattern: /CERT|TLS|SELF_SIGNED|LEAF_SIGNATURE|ISSUER|ALTNAME/,
    code: 'STORE_DENIED',
    hint: 'renew the certificate of the server, or name its authority in `tls.ca`',
  },
]

const DOWN = 'check that the server runs and that its address is right'
/** The server's text may end with a stack trace, or with the values of a row. */
export const LONGEST_TEXT = 600

/** @returns an AdflowError; one that comes in is passed on. `doing` reads "write a batch to ads.events". */
export function explainClickHouse(error: unknown, doing: string): AdflowError {
  if (error instanceof AdflowError) return error
  const { code, message } = asParts(error)
  const meaning = MEANINGS.find(({ pattern }) => pattern.test(`${code} ${message}`))
  return new AdflowError(meaning?.code ?? 'STORE_UNAVAILABLE', `cannot ${doing}: ${message.slice(0, LONGEST_TEXT)}`, {
    cause: error,
    hint: meaning?.hint ?? DOWN,
  })
}

export function asParts(error: unknown): { readonly code: string; readonly message: string } {
  if (!(error instanceof Error)) return { code: '', message: String(error) }
  const inner = error instanceof AggregateError ? (error.errors[0] as Error | undefined) : undefined
  const { code = '' } = (inner ?? error) as Error & { readonly code?: string }
  const { message } = error.message === '' && inner !== undefined ? inner : error
  return { code, message: message === '' ? 'no answer' : message }
}
