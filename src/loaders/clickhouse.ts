/** A table of ClickHouse: one block for each batch, under its token, between two entries of the batch's own. */
import { z } from 'zod'
import { BatchLedger, type Entries, type Entry } from '../clients/clickhouse/batch-ledger.ts'
import { type FoundTable, findTable, findTables } from '../clients/clickhouse/catalog.ts'
import { ClickHouse, placeOf } from '../clients/clickhouse/connect.ts'
import { createViewSql, labelOf, type Making, type TableName } from '../clients/clickhouse/ddl.ts'
import { diagnoseClickHouse } from '../clients/clickhouse/diagnose.ts'
import { settleBatch } from '../clients/clickhouse/doubt.ts'
import { dropEncoded, encodeBatch } from '../clients/clickhouse/encode.ts'
import { beginBatch } from '../clients/clickhouse/insert.ts'
import { connectionShape } from '../clients/clickhouse/options.ts'
import { remarksOf } from '../clients/clickhouse/remarks.ts'
import { askServer, type Server } from '../clients/clickhouse/server.ts'
import { FILLING, resumeSwap, type Swap, swapTables } from '../clients/clickhouse/swap.ts'
import { type FitPlan, fitTable, makeDatabase } from '../clients/clickhouse/table.ts'
import { type Engine, engineFits, tableOptions } from '../clients/clickhouse/table-options.ts'
import { type ClickHouseColumn, clickHouseColumns, NARROW, type Years } from '../clients/clickhouse/types.ts'
import { ensureWindows, fedTables } from '../clients/clickhouse/views.ts'
import type { Column, HistoryContext, LoadBatch, Loader, LoaderEnv, Receipt, StoreRecord } from '../core/contracts.ts'
import { defineLoader } from '../core/define.ts'
import { AdflowError } from '../core/errors.ts'
import { keyGoesWithMerge, NEXT_TABLE, tableShape } from '../core/table-loader.ts'
import { isThisMachine } from '../core/this-machine.ts'
import { tokenNumber } from '../core/token.ts'

const options = z
  .strictObject({
    ...connectionShape,
    ...tableShape,
    create: z
      .enum(['missing', 'never'])
      .default('missing')
      .describe('`missing`: database, tables, views and deduplication windows are made where they are missing.'),
    ...tableOptions,
  })
  .superRefine((chosen, context) => {
    keyGoesWithMerge(chosen, context)
    const { key, order_by, write } = chosen
    engineFits({ ...chosen, engine: engineOf(chosen), order_by: order_by ?? key }, context)
    for (const [at, view] of chosen.materialized_views.entries()) engineFits(view, context, ['materialized_views', at])
    if (write !== 'merge') return
    const issue = (path: string, message: string) => context.addIssue({ code: 'custom', path: [path], message })
    if (engineOf(chosen) !== 'ReplacingMergeTree') issue('engine', '`write: merge` is done by ReplacingMergeTree')
    if (order_by !== undefined && key !== undefined && [...order_by].sort().join() !== [...key].sort().join())
      issue(
        'order_by',
        'rows are merged by their sorting key: `order_by` may only give the columns of `key` another order',
      )
  })

type Options = z.infer<typeof options>

/** Tables as they are for one list of columns. */
interface Fitted {
  readonly list: string
  readonly fed: readonly [FoundTable, ...FoundTable[]]
}

class ClickHouseLoader implements Loader {
  readonly replay = 'token'
  readonly order: 'lane' | 'none'
  readonly streams: Loader['streams']
  readonly #options: Options
  readonly #clickhouse: ClickHouse
  readonly #workDir: string
  readonly #target: TableName
  readonly #next: TableName
  readonly #ledger: BatchLedger
  #server: Promise<Server> | undefined
  #fitted: Fitted | undefined

  constructor(chosen: Options, env: LoaderEnv) {
    const { table, write } = chosen
    const { database } = placeOf(chosen)
    this.order = write === 'merge' ? 'lane' : 'none'
    // Under a key the batch is read twice: to count what the last rows replace.
    this.streams = write === 'merge' ? undefined : 'chunks'
    this.#options = chosen
    this.#clickhouse = new ClickHouse(chosen, env.baseDir)
    this.#workDir = env.workDir
    this.#target = { database, table }
    this.#next = { database, table: `${table}${NEXT_TABLE}` }
    this.#ledger = new BatchLedger(this.#clickhouse, { database, target: labelOf(this.#target), loader: env.id })
  }

  dataset() {
    return { namespace: `clickhouse://${placeOf(this.#options).server}`, name: labelOf(this.#target) }
  }

  async open({ columns }: { readonly columns: readonly Column[] }): Promise<void> {
    const { cluster, create, write } = this.#options
    // Asked at once: over a network each question costs a way there and back before anything is read.
    const [wanted, noted, [next, target]] = await Promise.all([
      this.#columns(columns),
      this.#ledger.exists(),
      findTables(this.#clickhouse, [this.#next, this.#target]),
      create === 'missing' ? makeDatabase(this.#clickhouse, this.#target.database, cluster) : undefined,
    ])
    // Who may write but not create must not be refused for a table that is there.
    if (!noted) await this.#ledger.create(this.#making)
    const unfinished = await resumeSwap(this.#clickhouse, this.#swap, [next, target])
    if (write !== 'replace') {
      if (unfinished) throw this.#unfinishedReplace()
      await this.#fit(wanted, { table: target })
      return
    }
    if (target !== undefined && target.views.length > 0) throw this.#replaceUnderViews(target)
  }

  async write(batch: LoadBatch, { signal }: { readonly signal: AbortSignal }): Promise<Receipt> {
    const { begun, nextAttempt, written } = await this.#held(batch)
    if (written !== undefined) return this.#receipt(written.rows, true)
    const { key, write } = this.#options
    // A replace has its table made by the first batch, with rows or without.
    if (batch.empty === true && begun === undefined && write !== 'replace') {
      await this.#ledger.add('written', batch, { rows: 0, content: '', attempt: 0, blocks: {} })
      return this.#receipt(0, false)
    }
    const encoded = await encodeBatch(batch, await this.#columns(batch.columns, batch.token), {
      workDir: this.#workDir,
      key,
      compression: isThisMachine(placeOf(this.#options).host) ? 'uncompressed' : 'lz4_raw',
    })
    try {
      const fed = await this.#fit(encoded.columns)
      const batchColumn = numberedBy(this.#options)
      const { settings } = await this.#asked()
      const insertion = {
        clickhouse: this.#clickhouse,
        ledger: this.#ledger,
        fed,
        batchColumn,
        encoded,
        settings,
        signal,
      }
      if (begun !== undefined) await settleBatch(insertion, batch, begun)
      else if (encoded.written > 0) await beginBatch(insertion, batch, nextAttempt)
      const { content, rows } = encoded
      await this.#ledger.add('written', batch, { rows, content, attempt: 0, blocks: {} })
      return this.#receipt(encoded.rows, false)
    } finally {
      await dropEncoded(encoded)
    }
  }

  async finish({ complete }: { readonly complete: boolean }): Promise<void> {
    if (this.#options.write === 'replace' && complete) await swapTables(this.#clickhouse, this.#swap)
  }

  async probe(token: string): Promise<Receipt | undefined> {
    const { written } = await this.#ledger.find(token)
    return written === undefined ? undefined : this.#receipt(written.rows, true)
  }

  history(job: string, { since }: HistoryContext): Promise<readonly StoreRecord[]> {
    return this.#ledger.history(job, since)
  }

  close(): Promise<void> {
    return this.#clickhouse.close()
  }

  /** Makes the table and its views fit; repeats harmlessly. The target, and behind it what its views feed. */
  async #fit(
    columns: readonly ClickHouseColumn[],
    known?: { readonly table: FoundTable | undefined },
  ): Promise<Fitted['fed']> {
    const list = JSON.stringify(columns.map(({ name, type }) => [name, type]))
    if (this.#fitted?.list === list) return this.#fitted.fed
    const { cluster, create, deduplication_window: window, materialized_views: views, write } = this.#options
    const table = write === 'replace' ? this.#next : this.#target
    const making = this.#making
    const found = await fitTable(this.#clickhouse, table, columns, { plan: this.#plan, making, known })
    if (create === 'missing' && write !== 'replace')
      for (const view of views)
        for (const statement of createViewSql(table, view, making))
          await this.#clickhouse.command(`make the view ${view.name}`, statement)
    const target = (views.length === 0 ? found : await findTable(this.#clickhouse, table)) ?? found
    const fed = await fedTables(this.#clickhouse, target)
    const [first = found, ...rest] = await ensureWindows(this.#clickhouse, fed, {
      create: create === 'missing',
      cluster,
      window,
    })
    this.#fitted = { list, fed: [first, ...rest] }
    return this.#fitted.fed
  }

  get #plan(): FitPlan {
    const { create, evolve, key, order_by, partition_by, projections, sum, ttl, version, write } = this.#options
    return {
      create: create === 'missing' || write === 'replace',
      evolve,
      engine: engineOf(this.#options),
      order_by: order_by ?? key,
      partition_by,
      projections,
      sum,
      ttl,
      version,
      ...(write === 'replace' ? { comment: FILLING } : {}),
    }
  }

  get #making(): Making {
    const { cluster, deduplication_window: window, replicated } = this.#options
    return { cluster, replicated, window }
  }

  get #swap(): Swap {
    return { next: this.#next, target: this.#target, cluster: this.#options.cluster }
  }

  async #columns(columns: readonly Column[], token?: string): Promise<ClickHouseColumn[]> {
    return columnsOf(columns, this.#options, (await this.#asked()).years, token)
  }

  #asked(): Promise<Server> {
    this.#server ??= askServer(this.#clickhouse).catch((error: unknown) => {
      this.#server = undefined
      throw error
    })
    return this.#server
  }

  async #held(batch: LoadBatch): Promise<Entries> {
    const entries = await this.#ledger.find(batch.token)
    const held = entries.written ?? entries.begun
    if (held !== undefined && held.digest !== batch.digest) throw this.#otherBytes(batch, held)
    return entries
  }

  #otherBytes({ range, source, token }: LoadBatch, held: Entry): AdflowError {
    return new AdflowError(
      'STORE_MISMATCH',
      `${labelOf(this.#target)} holds batch ${token.slice(0, 12)} (${source}, ${range.lane} ${range.from}–${range.to}) with the digest ${held.digest}; it now has other bytes`,
      { hint: 'the source has changed under a range that was loaded; load it anew with an audited replay' },
    )
  }

  #receipt(rows: number, repeated: boolean): Receipt {
    return { rows, repeated, outputs: [this.dataset().name] }
  }

  #unfinishedReplace(): AdflowError {
    return new AdflowError(
      'STORE_MISMATCH',
      `${labelOf(this.#next)} holds batches of a replace that never became complete`,
      { hint: 'run the job once more with `write: replace`, or take over or drop that table by hand' },
    )
  }

  #replaceUnderViews(target: FoundTable): AdflowError {
    return new AdflowError(
      'STORE_MISMATCH',
      `materialized views hang on ${labelOf(target)} (${target.views.map(labelOf).join(', ')}), and a replace does not feed them`,
      { hint: 'use `write: append`, or take the views off the table' },
    )
  }
}

function engineOf({ engine, write }: Pick<Options, 'engine' | 'write'>): Engine {
  return engine ?? (write === 'merge' ? 'ReplacingMergeTree' : 'MergeTree')
}

/** Rows of several batches become one in a SummingMergeTree: no number would be right. */
function numberedBy(chosen: Options): string | undefined {
  return chosen.batch_column === false || engineOf(chosen) === 'SummingMergeTree' ? undefined : chosen.batch_column
}

function columnsOf(columns: readonly Column[], chosen: Options, years: Years, token?: string): ClickHouseColumn[] {
  const { nested, not_null, version } = chosen
  const notNull = version === undefined ? not_null : [...not_null, version]
  const own = clickHouseColumns(columns, { nested, notNull, years })
  const name = numberedBy(chosen)
  if (name === undefined) return own
  const number = token === undefined ? 0n : tokenNumber(token)
  return [...own, { name, type: 'Nullable(Int64)', zoned: false, sql: `(${number})::BIGINT` }]
}

export default defineLoader({
  summary: 'Loads into a table of ClickHouse, as one block of Parquet for each batch.',
  description: `A batch is one INSERT of one block, under its token. ClickHouse makes one part of it for each partition, whole or not at all, and a
table refuses a part whose token it remembers. Because there is no transaction over several partitions, tables and views, the batch has
two entries in the table \`_adflow_batches\` of the database: \`begun\` before its rows are sent, \`written\` when they are in the table and in
every table behind its materialized views. A batch that was begun and not written is sent once more, in the same way: what is there is
refused, what is missing comes. See [decision 015](../decisions/015-clickhouse.md).

**Windows.** A table of ClickHouse remembers no token by itself. \`deduplication_window\` is set on every table that adflow makes, and on a
table or the target of a view that has none; with \`create: never\` such a table is an error. A token is not trusted where other inserts have
pushed it out of a window, or the server was started again since the batch was begun: then the rows are counted by \`batch_column\`, and only what is missing comes.
Where counting does not help the batch is refused with STORE_MISMATCH, and the hint says how to settle it by hand. A batch that was
written is never asked about again: its entry is enough, however long ago.

**Large files** make a part for each chunk, and ClickHouse merges parts as soon as it has five of about one size, which is a third of its work then. So a chunk should be about
a fifth of a large file: \`resources: { chunk: 256MB, in_flight: 3 }\` for one of 1.3 GB, \`512MB\` for 2.6 GB; larger ones have not been found faster. ClickHouse holds the batches that come in memory: with chunks of 512 MB it took 1.5 GB at most, as it does for a single INSERT of the same file. A chunk with rejected
records holds eight times as many of them in memory as one of 64 MB.

**batch_column** costs next to nothing: all rows of a batch have the same number. Without it, and with SummingMergeTree, a batch in doubt whose token was pushed out
is refused, and nobody notices where a server that is killed keeps a token and loses its part.

**append** adds the rows, several batches at a time. **merge** is a ReplacingMergeTree, sorted by \`key\`: the rows of a batch stand beside the older
ones until ClickHouse merges them, so read with \`FINAL\`. Whole rows are replaced: a column that the batch does not have is NULL afterwards. Of
rows with the same key in one batch the last one wins; of batches the later one of the lane, or what \`version\` says. **replace** collects
what a run reads in \`<table>__adflow_next\` and puts it in the place of the table by \`EXCHANGE TABLES\`, when the run has read everything and
nothing is owed; tables with materialized views are refused, because these would not be fed.

**SummingMergeTree** sums rows with one sorting key: \`_batch\` is not written there, a row whose sums are all zero goes, and columns that are
neither key nor sum keep any one value.

**Types.** Integers, decimals, floats, text, UUIDs have their like; HUGEINT is Int128, TIMESTAMP and TIMESTAMPTZ are DateTime64(6, 'UTC'), DATE is Date32, ENUM
is LowCardinality(String), BLOB is String; JSON, TIME and INTERVAL are text. A date outside of 1900 to 2299 is refused, with its batch; so is a timestamp outside of
the years that the server keeps (1 to 9999, in older ones 1900 to 2299). Columns are Nullable but for those in \`not_null\`. Lists, structs and maps are JSON text, or
Array, Tuple and Map with \`nested: native\`. A column that is there already must hold every value of the batch exactly.

**Durable** means synced: tables that adflow makes have \`fsync_after_insert\` and \`fsync_part_directory\`. A table that was there keeps its settings.

**Clusters.** \`cluster\` makes everything \`ON CLUSTER\`, \`replicated\` makes Replicated tables; inserts into these ask for a quorum
(\`insert_quorum = 'auto'\`). Name one replica or one shard in \`url\`, never a Distributed table. The project's tests have no replicated tables.

**Least privilege.** With \`create: never\` the user needs INSERT and SELECT on the table, on \`_adflow_batches\` and SELECT on what the views read, and must see
(\`SHOW TABLES\`, \`SHOW COLUMNS\`) the views and the tables behind them; \`_adflow_batches\` must be there.`,
  options,
  example: {
    url: 'https://adflow@clickhouse.example:8443/ads',
    table: 'events',
    not_null: ['event_time'],
    order_by: ['campaign_id', 'event_time'],
    partition_by: 'toYYYYMM(event_time)',
    ttl: 'toDateTime(event_time) + INTERVAL 2 YEAR',
    materialized_views: [
      {
        name: 'spend_by_day_view',
        to: 'spend_by_day',
        query:
          'SELECT campaign_id, toDate(event_time) AS day, sum(cost_micros) AS cost_micros FROM {table} GROUP BY campaign_id, day',
        engine: 'SummingMergeTree',
        order_by: ['campaign_id', 'day'],
      },
    ],
  },
  async check(chosen, { path, columns }) {
    return remarksOf(chosen, engineOf(chosen), columns, path)
  },
  diagnose(chosen, env) {
    const { create, deduplication_window: window, evolve, materialized_views: views, table, write } = chosen
    const columns = env.columns === undefined ? undefined : columnsOf(env.columns, chosen, NARROW)
    const target = { database: placeOf(chosen).database, table }
    return diagnoseClickHouse(
      chosen,
      { target, write, create: create === 'missing', evolve, window, views, columns },
      env,
    )
  },
  create: (chosen, env) => new ClickHouseLoader(chosen, env),
})
