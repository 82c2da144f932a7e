/** PostgreSQL and ClickHouse, as a reader sees them. */
import { Client } from 'pg'
import { CAMPAIGNS, DIGEST, IDS, PARTITIONS, type Sums, sumsOf } from './ad-events.ts'
import { queryClickHouse } from './clickhouse-query.ts'
import { keyed, MEASURED_OF, type Row, type SeenEvent, type StoreView, type WindowRows } from './store-view.ts'

/** `ask` gives rows of text or numbers, none while the table is not there. */
abstract class SqlView implements StoreView {
  abstract readonly name: string
  /** SQL of the milliseconds of a timestamp. */
  protected abstract readonly startMs: string
  /** Newest window of which all campaigns were seen. */
  #complete = 0
  #seen = new Map<number, Set<string>>()
  /** Of each partition: up to which id all that are measured were seen, and what was seen beyond it. */
  readonly #lanes = Array.from({ length: PARTITIONS }, (_, lane) => ({
    next: lane * IDS + lane,
    ahead: new Set<number>(),
  }))

  abstract close(): Promise<void>
  protected abstract ask(sql: string): Promise<readonly Row[]>

  async windows(seen: (key: string) => void): Promise<void> {
    const at = `SELECT ${this.startMs} AS at, campaign_id FROM windows`
    for (const [start, campaign] of await this.ask(`SELECT * FROM (${at}) w WHERE at > ${this.#complete}`)) {
      const of = this.#seen.get(Number(start)) ?? new Set<string>()
      this.#seen.set(Number(start), of)
      const key = `${start}:${campaign}`
      if (!of.has(key)) seen(key)
      of.add(key)
    }
    for (const [start, keys] of this.#seen)
      if (keys.size >= CAMPAIGNS) {
        this.#complete = Math.max(this.#complete, start)
        this.#seen.delete(start)
      }
  }

  async events(seen: SeenEvent): Promise<void> {
    const parts = this.#lanes.map(
      ({ next }, lane) =>
        `SELECT event_id, sent FROM events WHERE event_id >= ${next} AND event_id < ${(lane + 1) * IDS} AND event_id % ${MEASURED_OF} < ${PARTITIONS}`,
    )
    const rows = await this.ask(parts.join(' UNION ALL '))
    const now = Date.now()
    for (const [id, sent] of rows) {
      const { ahead } = this.#laneOf(Number(id))
      if (!ahead.has(Number(id))) seen(Number(sent), now)
      ahead.add(Number(id))
    }
    for (const lane of this.#lanes) for (; lane.ahead.delete(lane.next); lane.next += MEASURED_OF);
  }

  async count(table: string): Promise<number> {
    return Number((await this.ask(`SELECT count(*) FROM ${table}`))[0]?.[0] ?? 0)
  }

  async allWindows(): Promise<WindowRows> {
    const sums = ['events', 'spend * 1000000', 'ids', 'digest'].map((sql) => this.text(sql))
    const rows = await this.ask(`SELECT ${this.startMs}, campaign_id, ${sums.join(', ')} FROM windows`)
    return keyed(rows)
  }

  async allEvents(): Promise<Sums> {
    const sums = ['count(*)', 'sum(cost) * 1000000', 'sum(event_id)', `sum(${DIGEST})`].map((sql) => this.text(sql))
    return sumsOf((await this.ask(`SELECT ${sums.join(', ')} FROM events`))[0] ?? [])
  }

  /** A whole number of any size, as text. */
  protected abstract text(sql: string): string

  #laneOf(id: number) {
    return this.#lanes[Math.floor(id / IDS)] as { next: number; ahead: Set<number> }
  }
}

export class PostgresView extends SqlView {
  readonly name = 'postgres'
  protected readonly startMs = '(extract(epoch FROM window_start) * 1000)::bigint'
  readonly #client: Promise<Client>

  constructor(url: string) {
    super()
    const client = new Client({ connectionString: url })
    this.#client = client.connect().then(() => client)
    this.#client.catch(() => undefined) // whoever asks is told
  }

  async close(): Promise<void> {
    await (await this.#client).end()
  }

  protected text(sql: string): string {
    return `(${sql})::numeric(38, 0)::text`
  }

  protected async ask(sql: string): Promise<readonly Row[]> {
    try {
      return (await (await this.#client).query({ text: sql, rowMode: 'array' })).rows
    } catch (error) {
      if ((error as { code?: string }).code === '42P01') return [] // no table yet
      throw error
    }
  }
}

export class ClickHouseView extends SqlView {
  readonly name = 'clickhouse'
  protected readonly startMs = 'toUnixTimestamp64Milli(assumeNotNull(window_start))'
  readonly #url: string

  constructor(url: string) {
    super()
    this.#url = url
  }

  async close(): Promise<void> {}

  protected text(sql: string): string {
    return `toString(toInt128(${sql}))`
  }

  protected async ask(sql: string): Promise<readonly Row[]> {
    try {
      const said = await queryClickHouse(this.#url, `${sql} FORMAT JSONCompactEachRow`)
      return said.split('\n').flatMap((line) => (line === '' ? [] : [JSON.parse(line) as Row]))
    } catch (error) {
      if (String(error).includes('UNKNOWN_TABLE')) return []
      throw error
    }
  }
}
