/** A table of PostgreSQL: COPY and the batch's own entry in one transaction. */
import type { PoolClient } from 'pg'
import { z } from 'zod'
import {
  batchesOf,
  claimBatch,
  createLedger,
  findBatch,
  type HeldBatch,
  indexStatements,
  type LedgerPlace,
} from '../clients/postgres/batch-ledger.ts'
import { Postgres, placeOf } from '../clients/postgres/connect.ts'
import { copyIn, dropEncoded, encodeBatch } from '../clients/postgres/copy.ts'
import { diagnosePostgres } from '../clients/postgres/diagnose.ts'
import { indexOption } from '../clients/postgres/indexes.ts'
import { mergeIn, ORDINAL } from '../clients/postgres/merge.ts'
import { connectionShape } from '../clients/postgres/options.ts'
import { makePartitions, partitionOption } from '../clients/postgres/partitions.ts'
import { remarksOf } from '../clients/postgres/remarks.ts'
import { pastStanding } from '../clients/postgres/standing.ts'
import { swapTables } from '../clients/postgres/swap.ts'
import { fitTable, type TableName, tableColumns, tableSql, unfinishedReplace } from '../clients/postgres/table.ts'
import { type PostgresColumn, postgresColumns } from '../clients/postgres/types.ts'
import type { Column, HistoryContext, LoadBatch, Loader, LoaderEnv, Receipt, StoreRecord } from '../core/contracts.ts'
import { defineLoader } from '../core/define.ts'
import { AdflowError } from '../core/errors.ts'
import { keyGoesWithMerge, NEXT_TABLE, tableShape } from '../core/table-loader.ts'
import { tokenNumber } from '../core/token.ts'

const options = z
  .strictObject({
    ...connectionShape,
    schema: z.string().min(1).default('public').describe('Schema of the table. Created when it is missing.'),
    ...tableShape,
    create: z
      .enum(['missing', 'never'])
      .default('missing')
      .describe('`missing`: schema, table, partitions and indexes are made where they are missing.'),
    partition: partitionOption.optional(),
    indexes: z.array(indexOption).default([]).describe('Indexes that the table gets when it is created.'),
  })
  .superRefine(keyGoesWithMerge)

type Options = z.infer<typeof options>

/** An index waits for transactions that were under way when it began. */
const TURN_MS = 10_000

/** Whoever takes over from a process that stands still in a batch must not wait for it. Rows are encoded before the transaction begins. */
const STANDING_MS = 30_000

class PostgresLoader implements Loader {
  readonly replay = 'transaction'
  readonly order: 'lane' | 'none'
  readonly streams: Loader['streams']
  readonly #options: Options
  readonly #postgres: Postgres
  readonly #workDir: string
  readonly #target: TableName
  readonly #next: TableName
  readonly #label: string
  readonly #place: LedgerPlace
  readonly #log: LoaderEnv['log']
  readonly #fitted = new Set<string>()

  constructor(chosen: Options, env: LoaderEnv) {
    const { schema, table, write, partition } = chosen
    this.order = write === 'merge' ? 'lane' : 'none'
    this.streams = partition === undefined ? 'chunks' : undefined
    this.#options = chosen
    this.#postgres = new Postgres({ ...chosen, idleMs: STANDING_MS }, env.baseDir)
    this.#workDir = env.workDir
    this.#log = env.log
    this.#target = { schema, table }
    this.#next = { schema, table: `${table}${NEXT_TABLE}` }
    this.#label = `${schema}.${table}`
    this.#place = { schema, target: this.#label, loader: env.id }
  }

  dataset() {
    const { host, port, database } = placeOf(this.#options)
    return { namespace: `postgres://${host}:${port}`, name: `${database}.${this.#label}` }
  }

  async open({ columns }: { readonly columns: readonly Column[] }): Promise<void> {
    const wanted = this.#columns(columns)
    await this.#index()
    await this.#postgres.transaction(`open ${this.#label}`, async (client) => {
      await this.#alone(client)
      if (this.#options.create === 'missing' && !(await this.#hasSchema(client)))
        await client.query(`CREATE SCHEMA IF NOT EXISTS "${this.#target.schema.replaceAll('"', '""')}"`)
      await createLedger(client, this.#target.schema)
      const unfinished = (await tableColumns(client, this.#next)).size > 0
      if (this.#options.write === 'replace') return
      if (unfinished) throw unfinishedReplace(this.#next)
      await fitTable(client, this.#target, wanted, this.#plan())
      this.#fitted.add(listOf(wanted))
    })
  }

  async write(batch: LoadBatch, { signal }: { readonly signal: AbortSignal }): Promise<Receipt> {
    // A replace has its table made by the first batch, with rows or without.
    if (batch.empty === true && this.#options.write !== 'replace') return this.#enter(batch, signal)
    const held = await this.#find(batch.token)
    if (held !== undefined) return this.#repeated(batch, held)
    const columns = this.#columns(batch.columns, batch.token)
    const { write, key } = this.#options
    const ordinal = write === 'merge' ? { ordinal: ORDINAL } : {}
    const encoded = await encodeBatch(batch, columns, { workDir: this.#workDir, ...ordinal })
    try {
      await this.#fit(columns, batch)
      const claimed = await this.#postgres.transaction(
        `write batch ${batch.token.slice(0, 12)} to ${this.#label}`,
        async (client) => {
          if (!(await this.#claim(client, batch, encoded.rows))) return false
          if (key === undefined) {
            await copyIn(client, tableSql(write === 'replace' ? this.#next : this.#target), encoded, signal)
            return true
          }
          await pastStanding(this.#postgres, client, () => this.#alone(client))
          await mergeIn(client, this.#target, encoded, { columns, key, signal })
          return true
        },
        signal,
      )
      return claimed ? this.#receipt(encoded.rows, false) : await this.#taken(batch)
    } finally {
      await dropEncoded(encoded)
    }
  }

  async finish({ complete }: { readonly complete: boolean }): Promise<void> {
    if (this.#options.write !== 'replace' || !complete) return
    await this.#postgres.transaction(`replace ${this.#label}`, async (client) => {
      await this.#alone(client)
      // Nothing was read: the table stays. A run that was killed after its last batch left this table to the next run.
      if ((await tableColumns(client, this.#next)).size > 0) await swapTables(client, this.#next, this.#target)
    })
  }

  async probe(token: string): Promise<Receipt | undefined> {
    const held = await this.#find(token)
    return held === undefined ? undefined : this.#receipt(held.rows, true)
  }

  history(job: string, { since }: HistoryContext): Promise<readonly StoreRecord[]> {
    return this.#postgres.with(`read the batches of ${this.#label}`, (client) =>
      batchesOf(client, this.#place, { job, since }),
    )
  }

  close(): Promise<void> {
    return this.#postgres.close()
  }

  #find(token: string): Promise<HeldBatch | undefined> {
    return this.#postgres.with(`look for a batch in ${this.#label}`, (client) => findBatch(client, this.#place, token))
  }

  /** A batch without rows is its entry, and that one statement. */
  async #enter(batch: LoadBatch, signal: AbortSignal): Promise<Receipt> {
    const doing = `write batch ${batch.token.slice(0, 12)} to ${this.#label}`
    const claimed = await this.#postgres.with(doing, (client) => this.#claim(client, batch, 0), signal)
    if (claimed) return this.#receipt(0, false)
    return this.#taken(batch)
  }

  #claim(client: PoolClient, batch: LoadBatch, rows: number): Promise<boolean> {
    return pastStanding(this.#postgres, client, () => claimBatch(client, this.#place, batch, rows))
  }

  async #taken(batch: LoadBatch): Promise<Receipt> {
    const other = await this.#find(batch.token)
    if (other !== undefined) return this.#repeated(batch, other)
    throw new AdflowError(
      'STORE_UNAVAILABLE',
      `another process has taken batch ${batch.token.slice(0, 12)} of ${this.#label} back`,
      {
        hint: 'nothing of the batch was written',
      },
    )
  }

  /** For the start of a run, which asks for the last batches. Where it cannot be made they are found all the same. */
  async #index(): Promise<void> {
    const { schema } = this.#target
    const statements = await this.#postgres.with(`open ${this.#label}`, (client) => indexStatements(client, schema))
    if (statements.length === 0) return
    this.#log.info(`making an index of the batches in ${schema}: others go on writing`)
    try {
      const client = await this.#postgres.apart({ options: `-c statement_timeout=0 -c lock_timeout=${TURN_MS}` })
      client.on('error', () => undefined) // told by whatever uses the connection
      try {
        await client.connect()
        for (const statement of statements) await client.query(statement)
      } finally {
        await client.end()
      }
    } catch (error) {
      this.#log.warn(
        { err: error },
        `no index of the batches in ${schema} could be made: this start reads them all, the next tries again`,
      )
    }
  }

  /** Makes the table fit, and the partitions that the batch needs. Both repeat harmlessly. */
  async #fit(columns: readonly PostgresColumn[], batch: LoadBatch): Promise<void> {
    const { partition, write } = this.#options
    const list = listOf(columns)
    if (this.#fitted.has(list) && partition === undefined) return
    const table = write === 'replace' ? this.#next : this.#target
    await this.#postgres.transaction(`open ${this.#label}`, async (client) => {
      await this.#alone(client)
      await fitTable(client, table, columns, this.#plan())
      if (partition !== undefined && this.#options.create === 'missing')
        await makePartitions(client, batch.engine, table, partition, batch.relation)
    })
    this.#fitted.add(list)
  }

  #plan() {
    const { create, evolve, indexes, key, partition } = this.#options
    return { create: create === 'missing', evolve, indexes, key, partition }
  }

  #columns(columns: readonly Column[], token?: string): PostgresColumn[] {
    return numberedColumns(columns, this.#options.batch_column, token)
  }

  /** One process at a time changes the table, or merges into it; until the end of the transaction. */
  async #alone(client: Parameters<typeof findBatch>[0]): Promise<void> {
    await client.query('SELECT pg_advisory_xact_lock(hashtextextended($1, 0))', [`adflow ${this.#label}`])
  }

  async #hasSchema(client: Parameters<typeof findBatch>[0]): Promise<boolean> {
    const { rows } = await client.query('SELECT 1 FROM pg_namespace WHERE nspname = $1', [this.#target.schema])
    return rows.length > 0
  }

  #repeated({ range, source, token, digest }: LoadBatch, held: HeldBatch): Receipt {
    if (held.digest === digest) return this.#receipt(held.rows, true)
    throw new AdflowError(
      'STORE_MISMATCH',
      `${this.#label} holds batch ${token.slice(0, 12)} (${source}, ${range.lane} ${range.from}–${range.to}) with the digest ${held.digest}; it now has other bytes`,
      { hint: 'the source has changed under a range that was loaded; load it anew with an audited replay' },
    )
  }

  #receipt(rows: number, repeated: boolean): Receipt {
    return { rows, repeated, outputs: [this.dataset().name] }
  }
}

/** The columns of the table: those of the rows, and the one that numbers the batches. */
function numberedColumns(columns: readonly Column[], name: string | false, token?: string): PostgresColumn[] {
  const own = postgresColumns(columns)
  if (name === false) return own
  return [...own, { name, type: 'bigint', sql: `(${token === undefined ? 0 : tokenNumber(token)})` }]
}

function listOf(columns: readonly PostgresColumn[]): string {
  return JSON.stringify(columns.map(({ name, type }) => [name, type]))
}

export default defineLoader({
  summary: 'Loads into a table of PostgreSQL, by COPY.',
  description: `A batch is one transaction: its entry in the table \`_adflow_batches\` (in the schema of the table; token and target are
its primary key) and a \`COPY\`. It is in the table once or not at all, whatever is killed and when, also where the connection breaks
just after the commit was sent: the next attempt finds the entry.

**append** adds the rows, several batches at a time. **merge** copies into a temporary table, updates the rows whose \`key\` the table has
and inserts the others; of rows with the same key in one batch the last one wins; one batch at a time. **replace** collects what a run
reads in \`<table>__adflow_next\` and puts it in the place of the table in one transaction, when the run has read everything and
nothing is owed: by renaming, with the grants of the old table; where views or foreign keys depend on it, by truncating and inserting.

**Large files** load faster where more batches are under way than the engine has threads, for then each thread encodes a batch of its own while others are sent. On two cores
\`resources: { chunk: 32MB, in_flight: 4 }\` takes a tenth less than the default, and less memory.

**Types.** Integers, decimals, timestamps (microseconds), dates, text, UUIDs, intervals have their like; UBIGINT becomes numeric(20,0), HUGEINT
numeric(39,0), BLOB bytea; JSON, structs, lists and maps become jsonb, in which numbers stay exact. TIMESTAMP_NS and TIME WITH TIME ZONE are
refused by lint. Text with NUL characters, and NaN inside a nested value, are refused by the server.

**Partitions and indexes** are made when the table is created; partitions of later batches before the batch is written. Rows without a
value of the column go to the partition \`<table>_rest\`.

**A process that stands still** in a batch, stopped or on a machine that is asleep, does not hold up whoever goes on with it: whoever waits for what it has locked ends its session, when that
has done nothing for 3 s, as the same user may; and the server ends a transaction in which nothing is done for 30 s.

**Least privilege.** With \`create: never\` the user needs USAGE on the schema, INSERT (for \`merge\` SELECT and UPDATE too) on the table, SELECT and INSERT on
\`_adflow_batches\` (its owner makes an index on it, by which the start of a run finds what it asks for), and TEMPORARY on the database for \`merge\`.`,
  options,
  example: {
    url: 'postgres://adflow@127.0.0.1:5432/ads',
    table: 'events',
    write: 'merge',
    key: ['event_id'],
    indexes: [{ columns: ['event_time'], type: 'brin' }],
  },
  async check(chosen, { path, columns }) {
    return remarksOf(chosen, columns, path)
  },
  diagnose(chosen, env) {
    const { schema, table, write, create, evolve, partition, batch_column } = chosen
    const columns = env.columns === undefined ? undefined : numberedColumns(env.columns, batch_column)
    const question = { target: { schema, table }, write, create: create === 'missing', evolve, columns }
    return diagnosePostgres(chosen, { ...question, partitioned: partition !== undefined }, env)
  },
  create: (chosen, env) => new PostgresLoader(chosen, env),
})
