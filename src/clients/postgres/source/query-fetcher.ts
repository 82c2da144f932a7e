/** Reads what a query gives, in the order of its cursor. Its rows know no transaction: late ones are met by a lag, and known ones left out by their key. */
import type { Dataset } from '../../../core/contracts.ts'
import { AdflowError } from '../../../core/errors.ts'
import { ident, literal } from '../../../engine/sql-text.ts'
import { jsonField } from '../../../records/json-field.ts'
import { persistently } from '../../staging/attempts.ts'
import type { Fetcher, FetchLane, FetchTask } from '../../staging/fetcher.ts'
import { KnownKeys } from '../../staging/known-keys.ts'
import { OrderedPass, type PassOptions } from '../../staging/ordered-pass.ts'
import { RowPages, textOf } from '../../staging/row-pages.ts'
import { Postgres, placeOf } from '../connect.ts'
import { explainSource } from '../errors.ts'
import { jsonSql, requireColumn, type SourceColumn, typesOf } from './columns.ts'
import type { CursorOption } from './extent.ts'
import type { SourceOptions } from './options.ts'
import { ReadSession } from './session.ts'

export interface QueryOptions extends SourceOptions {
  readonly query: string
  readonly cursor: CursorOption | undefined
  readonly key: readonly string[]
  readonly again: 'changed' | 'all'
  readonly idle_timeout: number
}

type Overlap = NonNullable<PassOptions['overlap']>

const AHEAD_BYTES = 4 << 20
const PAGES = 8
const LEAST_PAGE_BYTES = 64 << 10
const NEWLINE = 10
const LANE = 'query'

export class QueryFetcher implements Fetcher {
  readonly #options: QueryOptions
  readonly #postgres: Postgres

  constructor(options: QueryOptions, baseDir: string) {
    this.#options = options
    this.#postgres = new Postgres({ ...options, connections: 1 }, baseDir, explainSource)
  }

  dataset(): Dataset {
    const { host, port, database } = placeOf(this.#options)
    return { namespace: `postgres://${host}:${port}`, name: `${database}.${LANE}` }
  }

  async lanes(): Promise<readonly FetchLane[]> {
    const { namespace, name } = this.dataset()
    return [{ lane: LANE, origin: `${namespace}/${name}` }]
  }

  async fetch(task: FetchTask): Promise<void> {
    const { cursor, again, retry } = this.#options
    const by = cursor?.columns ?? []
    let pass: OrderedPass | undefined
    await persistently(retry, task.signal, async (progressed) => {
      const session = await this.#begin(task)
      try {
        const columns = await this.#columns(session)
        const overlap = overlapOf(columns, cursor, this.#options.key)
        pass ??= new OrderedPass(task, { by, again: again === 'all' ? 'all' : 'newer', overlap })
        await this.#read(task, session, columns, { pass, overlap, progressed })
      } catch (error) {
        await session.end(error as Error)
        throw error
      }
      await session.end()
    })
  }

  async close(): Promise<void> {
    await this.#postgres.close()
  }

  async #read(
    task: FetchTask,
    session: ReadSession,
    columns: readonly SourceColumn[],
    {
      pass,
      overlap,
      progressed,
    }: { readonly pass: OrderedPass; readonly overlap: Overlap | undefined; progressed(): void },
  ): Promise<void> {
    const { key, cursor } = this.#options
    await pass.forget()
    const names = cursor?.columns ?? []
    const identity = [...new Set([...key, ...names])]
    const pages = new RowPages(task.sink, {
      cursor: names,
      pageBytes: Math.max(LEAST_PAGE_BYTES, Math.floor(task.segmentBytes / PAGES)),
      ...(key.length === 0
        ? {}
        : {
            isKnown: (bytes, from, to) => {
              const field = (name: string) => jsonField(bytes, from, to, [name])
              return pass.isKnown(KnownKeys.of(identity.map(field)), textOf(field(names[0] ?? '') ?? ''))
            },
          }),
      ended: async (place) => {
        await pass.cut(place)
        progressed()
      },
    })
    for await (const lines of whole(session.copy(this.#sql(columns, pass, overlap), 'lines', AHEAD_BYTES))) {
      task.signal.throwIfAborted()
      await pages.take(lines, 0, lines.length)
    }
    await pass.end(pages.place)
  }

  /** Values are those of the job and of the server's own rows; the query stands as it was written. */
  #sql(columns: readonly SourceColumn[], { after, since }: OrderedPass, overlap: Overlap | undefined): string {
    const { query, cursor } = this.#options
    const by = (cursor?.columns ?? []).map((name) => requireColumn(columns, name, 'the query'))
    const value = (index: number, text: string) => `${literal(text)}::${by[index]?.type}`
    const conditions = by.map(({ name }) => `${ident(name)} IS NOT NULL`)
    if (after !== undefined && by.length > 0)
      conditions.push(
        `${ident(by[0]?.name ?? '')} >= ${value(0, after[0] ?? '')}`,
        `(${by.map(({ name }) => ident(name)).join(', ')}) > (${after.map((text, index) => value(index, text)).join(', ')})`,
      )
    else if (since !== undefined && overlap !== undefined)
      conditions.push(`${ident(by[0]?.name ?? '')} >= ${value(0, overlap.from(since))}`)
    const where = conditions.length === 0 ? '' : ` WHERE ${conditions.join(' AND ')}`
    const order = by.length === 0 ? '' : ` ORDER BY ${by.map(({ name }) => `q.${ident(name)}`).join(', ')}`
    const items = columns.map((column) => `${jsonSql(column)} AS ${ident(column.name)}`)
    return `SELECT replace(row_to_json(r)::text, e'\\n', ' ') FROM (SELECT ${items.join(', ')} FROM (${query}\n) AS q${where}${order}) AS r`
  }

  async #columns(session: ReadSession): Promise<readonly SourceColumn[]> {
    const { cursor, key } = this.#options
    const columns = await typesOf(
      session,
      await session.fields(`SELECT * FROM (${this.#options.query}\n) AS q LIMIT 0`),
    )
    for (const name of [...(cursor?.columns ?? []), ...key]) requireColumn(columns, name, 'the query')
    return columns
  }

  #begin(task: FetchTask): Promise<ReadSession> {
    const { lock_timeout: lockMs, statement_timeout: statementMs, idle_timeout: idleMs } = this.#options
    return ReadSession.begin(this.#postgres, `read ${task.origin}`, { lockMs, statementMs, idleMs }, task.signal)
  }
}

/** Pieces of whole lines. */
async function* whole(pieces: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let rest: Buffer = Buffer.alloc(0)
  for await (const piece of pieces) {
    const bytes = rest.length === 0 ? piece : Buffer.concat([rest, piece])
    const end = bytes.lastIndexOf(NEWLINE) + 1
    rest = bytes.subarray(end)
    if (end > 0) yield bytes.subarray(0, end)
  }
}

/** What is read again by a later pass. Times are compared as their texts: the server writes them all in one way. */
function overlapOf(
  columns: readonly SourceColumn[],
  cursor: CursorOption | undefined,
  key: readonly string[],
): Overlap | undefined {
  if (cursor === undefined || key.length === 0) return undefined
  const { lag } = cursor
  const { name, type, category } = requireColumn(columns, cursor.columns[0] ?? '', 'the query')
  if (typeof lag === 'number' && /^int[248]$/.test(type))
    return {
      compare: (a, b) => (BigInt(a) < BigInt(b) ? -1 : BigInt(a) > BigInt(b) ? 1 : 0),
      from: (high) => String(BigInt(high) - BigInt(lag)),
    }
  if (typeof lag === 'object' && category === 'D')
    return {
      compare: (a, b) => (a < b ? -1 : a > b ? 1 : 0),
      from: (high) => {
        const time = new Date(Date.parse(/Z|[+-]\d\d:\d\d$|^.{10}$/.test(high) ? high : `${high}Z`) - lag.ms)
        return time.toISOString().slice(0, type === 'date' ? 10 : -1)
      },
    }
  throw new AdflowError(
    'SOURCE_UNSUPPORTED',
    `the cursor ${name} of the query is a ${type}, to which the \`lag\` does not fit`,
    {
      hint: 'a time needs one such as `1h`, an integer a number; of other types it cannot be said how late is late',
    },
  )
}
