/** Fetches what a table or a query of ClickHouse gives, in the order of the cursor's columns. All that it knows from one run to the next is in its cursor. */
import type { Dataset } from '../../core/contracts.ts'
import { AdflowError } from '../../core/errors.ts'
import type { HostGate } from '../../core/source-watch.ts'
import { jsonField } from '../../records/json-field.ts'
import { HostGates } from '../http/host-gate.ts'
import { persistently, type RetryOptions } from '../staging/attempts.ts'
import type { Fetcher, FetchLane, FetchTask } from '../staging/fetcher.ts'
import { KnownKeys } from '../staging/known-keys.ts'
import { OrderedPass, type PassOptions } from '../staging/ordered-pass.ts'
import { RowPages, textOf } from '../staging/row-pages.ts'
import { compareSince, sinceText } from '../staging/since.ts'
import type { ClickHouse } from './connect.ts'
import { Doubtful, readRows } from './row-stream.ts'
import { type CursorColumn, cursorColumn, type SourceColumn } from './source-columns.ts'
import { fromSql, laneCondition, rowsSql, type SourceOptions } from './source-query.ts'
import { type ReadSettings, UserSettings } from './source-settings.ts'

export interface TableFetcherOptions extends SourceOptions {
  readonly server: string
  readonly statementMs: number
  readonly idleMs: number
  readonly concurrency: number
  readonly perSecond: number | undefined
  readonly hosts?: HostGate | undefined
  readonly retry: RetryOptions
}

/** What is read, as the server describes it. */
export interface Described {
  readonly columns: readonly SourceColumn[]
  readonly cursor: readonly CursorColumn[]
  readonly reading: ReadSettings
}

/** Pages of a segment: what a kill costs, at most. */
const PAGES = 8
const LEAST_PAGE_BYTES = 256
/** A row may be so many times as long as one that is taken: it is staged, and quarantined where it is cut. */
const LONGER = 8

export class TableFetcher implements Fetcher {
  readonly #clickhouse: ClickHouse
  readonly #options: TableFetcherOptions
  readonly #gate: HostGate

  constructor(clickhouse: ClickHouse, options: TableFetcherOptions) {
    this.#clickhouse = clickhouse
    this.#options = options
    this.#gate = options.hosts ?? new HostGates()
  }

  dataset(): Dataset {
    return { namespace: `clickhouse://${this.#options.server}`, name: this.#name }
  }

  async lanes(signal: AbortSignal): Promise<readonly FetchLane[]> {
    const { lanes, database, table, retry } = this.#options
    const named = (part: string): FetchLane => ({ lane: `${this.#name}#${part}`, origin: `${this.#origin}#${part}` })
    if (lanes === undefined) return [{ lane: this.#name, origin: this.#origin }]
    if (lanes.by === 'modulo') return Array.from({ length: lanes.count }, (_, n) => named(`${n}/${lanes.count}`))
    const [row] = await persistently(retry, signal, () =>
      this.#clickhouse.rows(
        `list the partitions of ${this.#origin}`,
        'SELECT arraySort(groupUniqArray(partition_id)) AS ids FROM system.parts WHERE active AND database = {database:String} AND table = {table:String}',
        { database, table: table ?? '' },
      ),
    )
    const ids = (row?.['ids'] ?? []) as readonly string[]
    if (ids.length === 0) await this.#describe() // nothing in it, or not there
    return ids.map(named)
  }

  async fetch(task: FetchTask): Promise<void> {
    const { retry, again } = this.#options
    const described = await persistently(retry, task.signal, () => this.#describe())
    const { cursor } = described
    const pass = new OrderedPass(task, { by: cursor.map(({ name }) => name), again, overlap: this.#overlap(cursor[0]) })
    let { keptBack } = described.reading
    for (;;) {
      const answer = await persistently(retry, task.signal, (progressed) =>
        this.#gate.pass(this.#options.server, this.#options, task.signal, () =>
          this.#answer(task, pass, described, { keptBack, progressed }).catch((error: unknown) => {
            if (!(error instanceof Doubtful)) throw error
            keptBack = true
            return undefined
          }),
        ),
      )
      if (answer === undefined) continue
      const short = described.reading.endsShort ? this.#options.queryRows : 1
      if (cursor.length === 0 || answer.rows < short) return pass.end(answer.place)
      if (answer.place !== undefined) await pass.cut(answer.place)
    }
  }

  close(): Promise<void> {
    return this.#clickhouse.close()
  }

  /** @throws AdflowError SOURCE_… where it cannot be read, or not as it is */
  async #describe(): Promise<Described> {
    return describe(this.#clickhouse, this.#options, this.#origin)
  }

  /** The rows of one statement, which are staged now; those behind the last edge in a page that is not ended. */
  async #answer(
    task: FetchTask,
    pass: OrderedPass,
    { columns, cursor, reading }: Described,
    { keptBack, progressed }: { readonly keptBack: boolean; readonly progressed: () => void },
  ): Promise<RowPages> {
    const { origin, signal, segmentBytes, maxRecordBytes, sink, lane } = task
    const { key, idleMs, lag, lanes } = this.#options
    await pass.forget()
    const names = cursor.map(({ name }) => name)
    const identity = [...new Set([...key, ...names])]
    const pages = new RowPages(sink, {
      cursor: names,
      pageBytes: Math.max(LEAST_PAGE_BYTES, Math.floor(segmentBytes / PAGES)),
      ...(key.length === 0 || lag === 0
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
    const condition = lanes === undefined ? undefined : laneCondition(lanes, lane.slice(lane.lastIndexOf('#') + 1))
    const query = rowsSql(this.#options, columns, cursor, {
      from: fromSql(this.#options, condition),
      place: { after: pass.after, high: pass.since },
    })
    const settings = keptBack ? { ...reading.settings, wait_end_of_query: 1 as const } : reading.settings
    const answer = await this.#clickhouse.open(`read ${origin}`, query, {
      settings,
      compressed: reading.compressed,
      signal,
    })
    const [first] = columns
    await readRows(
      answer,
      { origin, first: first?.name ?? '', idleMs, maxRowBytes: maxRecordBytes * LONGER, keptBack, signal },
      (bytes, from, to) => pages.take(bytes, from, to),
    )
    return pages
  }

  #overlap(first: CursorColumn | undefined): PassOptions['overlap'] {
    const { lag } = this.#options
    if (lag === 0 || first === undefined) return undefined
    const { kind } = first
    if (kind === 'decimal' || kind === 'text')
      throw new AdflowError('SOURCE_UNSUPPORTED', `\`lag\` has no meaning for ${first.name} of ${this.#origin}`, {
        hint: 'the first column of `cursor` must be a time, a date or an integer',
      })
    return {
      compare: (a, b) => compareSince(a, b, kind),
      from: (high) => (kind === 'number' ? String(BigInt(high) - BigInt(lag)) : sinceText(high, kind, lag)),
    }
  }

  get #name(): string {
    const { database, table } = this.#options
    return table === undefined ? `${database}.query` : `${database}.${table}`
  }

  get #origin(): string {
    return `${this.#options.server}/${this.#name}`
  }
}

/** @throws AdflowError SOURCE_… where it cannot be read, or not as it is */
export async function describe(
  clickhouse: ClickHouse,
  options: TableFetcherOptions,
  origin: string,
): Promise<Described> {
  const user = await UserSettings.ask(clickhouse)
  const reading = user.reading(options.statementMs)
  const rows = await clickhouse.rows(
    `look at the columns of ${origin}`,
    `DESCRIBE TABLE (${fromSql(options)})`,
    {},
    reading.settings,
  )
  const columns = rows.map((row) => ({ name: String(row['name']), type: String(row['type']) }))
  user.check(columns, origin)
  const cursor = options.cursor.map((name) => cursorColumn(columns, name, origin))
  for (const name of options.key)
    if (!columns.some((column) => column.name === name)) cursorColumn(columns, name, origin)
  return { columns, cursor, reading }
}
