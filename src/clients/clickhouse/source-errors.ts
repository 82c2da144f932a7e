/** What ClickHouse, or the way to it, has to say to whoever reads from it. */
import { AdflowError, type ErrorCode } from '../../core/errors.ts'
import { asParts, LONGEST_TEXT, PASSING } from './errors.ts'

interface Meaning {
  /** Matched against `<number> <message>`, or the code of Node and its message where the server was not reached. */
  readonly pattern: RegExp
  readonly code: ErrorCode
  readonly hint: string
}

/** The first that fits counts. */
const MEANINGS: readonly Meaning[] = [
  {
    pattern: /^(?:192|193|194|516) /,
    code: 'SOURCE_DENIED',
    hint: 'check user and password of the job, and the networks that the server lets the user come from',
  },
  { pattern: /^497 /, code: 'SOURCE_DENIED', hint: 'grant the user of the job SELECT on what is named' },
  {
    pattern: /^(?:164|452) /,
    code: 'SOURCE_DENIED',
    hint: 'the user of the job may not set what is named: take the constraint away, or give its profile readonly = 1 or 2',
  },
  { pattern: /^(?:60|81) /, code: 'SOURCE_MISSING', hint: 'check the database in `url`, and `table` or `query`' },
  {
    pattern: /^(?:8|10|16|47) /,
    code: 'SOURCE_MISSING',
    hint: 'check the columns that the job names: `columns`, `cursor`, `key`, `where`, `query`, `parallel`',
  },
  {
    pattern: /^(?:158|191|307|396) /,
    code: 'SOURCE_UNSUPPORTED',
    hint: 'a limit of the server or of the user forbids so large a query: lower `query_rows`, or raise the limit',
  },
  {
    pattern: /^241 /,
    code: 'SOURCE_UNREADABLE',
    hint: 'the server has too little memory for the query: lower `query_rows`, or take columns of the sorting key as `cursor`',
  },
  {
    pattern: /^15[9]|^160 /,
    code: 'SOURCE_UNREADABLE',
    hint: 'raise `statement_timeout`, or lower `query_rows`; the next run goes on where this one stopped',
  },
  { pattern: PASSING, code: 'SOURCE_UNREADABLE', hint: 'the next run goes on where this one stopped' },
  {
    pattern: /^20[12] /,
    code: 'SOURCE_UNREADABLE',
    hint: 'the server is asked too much: lower `parallel`, or run less often',
  },
  {
    pattern: /^\d+ /,
    code: 'SOURCE_UNSUPPORTED',
    hint: 'change `query`, `where`, `columns` or `cursor` of the source',
  },
  {
    pattern: /CERT|TLS|SELF_SIGNED|LEAF_SIGNATURE|ISSUER|ALTNAME/,
    code: 'SOURCE_DENIED',
    hint: 'renew the certificate of the server, or name its authority in `tls.ca`',
  },
  {
    pattern: /^Z_|ZSTD|unexpected end of file/i,
    code: 'SOURCE_DAMAGED',
    hint: 'the server, or a proxy before it, is broken; nothing of the page was taken',
  },
  {
    pattern: /<html|<!doctype/i,
    code: 'SOURCE_UNREADABLE',
    hint: 'a proxy answers in the place of the server: check `url`',
  },
]

const DOWN = 'check that the server runs and that its address is right; the next run goes on where this one stopped'

/** @returns an AdflowError SOURCE_…; one that comes in is passed on. `doing` reads "read ads.events". */
export function explainSource(error: unknown, doing: string): AdflowError {
  if (error instanceof AdflowError) return error
  const parts = asParts(error)
  // Not every error has the form that the client knows.
  const { code, message } = /^\d+$/.test(parts.code) ? parts : asParts(toldIn(parts.message) ?? error)
  const meaning = MEANINGS.find(({ pattern }) => pattern.test(`${code} ${message}`))
  const text = /<html|<!doctype/i.test(message) ? 'an HTML page came in the place of an answer' : message
  return new AdflowError(meaning?.code ?? 'SOURCE_UNREADABLE', `cannot ${doing}: ${text.slice(0, LONGEST_TEXT)}`, {
    cause: error,
    hint: meaning?.hint ?? DOWN,
  })
}

/** What a server wrote where rows should be. undefined: not of ClickHouse. */
export function toldIn(text: string): Error | undefined {
  const [, code, message] = /Code: (\d+)\.\s*(?:DB::Exception: )?([\s\S]*)/.exec(text) ?? []
  return code === undefined ? undefined : Object.assign(new Error(message?.split(/\r?\n/, 1)[0]), { code })
}
