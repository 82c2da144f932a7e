/**
 * The embedded warehouse: a table of a DuckDB file that is attached to the engine itself, so that a batch is written by one
 * INSERT … SELECT and never encoded.
 */
import { z } from 'zod'
import { aliasOf, makeFolderOf, warehouseFile } from '../clients/duckdb/attach.ts'
import { auditTable } from '../clients/duckdb/audit.ts'
import {
  batchesOf,
  createLedger,
  findBatch,
  type LedgerPlace,
  otherBytes,
  remembered,
} from '../clients/duckdb/batch-ledger.ts'
import { commitBatch } from '../clients/duckdb/commit.ts'
import { tableComparison } from '../clients/duckdb/comparison.ts'
import { type ReadTable, tableContents } from '../clients/duckdb/contents.ts'
import { diagnoseDuckdb } from '../clients/duckdb/diagnose.ts'
import { mergeBatch } from '../clients/duckdb/merge.ts'
import { countRows, differences, type NumberedTable, replaceRows } from '../clients/duckdb/past-rows.ts'
import { explained, requireKey } from '../clients/duckdb/refusals.ts'
import {
  columnsOf,
  fitTable,
  type TableName,
  tableColumns,
  tableSql,
  unfinishedReplace,
} from '../clients/duckdb/table.ts'
import { transaction, turnsOf } from '../clients/duckdb/transaction.ts'
import type {
  ComponentEnv,
  EngineConnection,
  HistoryContext,
  LoadBatch,
  Loader,
  Receipt,
  StoreRecord,
} from '../core/contracts.ts'
import { defineLoader } from '../core/define.ts'
import { AdflowError } from '../core/errors.ts'
import { didYouMean } from '../core/job/suggest.ts'
import type { LoaderRemark } from '../core/loader-check.ts'
import type { BatchComparison, ContentsContext, Holding, StoreAudit, StoreContents } from '../core/store-contract.ts'
import { keyGoesWithMerge, NEXT_TABLE, tableShape } from '../core/table-loader.ts'
import { tokenNumber } from '../core/token.ts'
import type { TypedColumn } from '../engine/exact.ts'
import { readSeveralTimes } from '../engine/materialise.ts'
import { ident } from '../engine/sql-text.ts'

const options = z
  .strictObject({
    path: z.string().min(1).describe('The DuckDB file, relative to the job file. Created when it is missing.'),
    schema: z.string().min(1).default('main').describe('Schema of the table. Created when it is missing.'),
    ...tableShape,
  })
  .superRefine(keyGoesWithMerge)

type Options = z.infer<typeof options>

class DuckdbLoader implements Loader {
  readonly replay = 'token'
  readonly order = 'lane'
  readonly local = true
  readonly #options: Options
  readonly #file: string
  readonly #target: TableName
  readonly #next: TableName
  readonly #label: string
  readonly #place: LedgerPlace
  #batchColumn: string | false
  readonly #log: ComponentEnv['log']
  /** Column lists that the table is known to take. */
  readonly #fitted = new Set<string>()

  constructor(loaderOptions: Options, env: ComponentEnv) {
    const { path, schema, table } = loaderOptions
    this.#options = loaderOptions
    this.#batchColumn = loaderOptions.batch_column
    this.#log = env.log
    this.#file = warehouseFile(path, env.baseDir)
    const database = aliasOf(this.#file)
    this.#target = { database, schema, table }
    this.#next = { database, schema, table: `${table}${NEXT_TABLE}` }
    this.#label = `${schema}.${table}`
    this.#place = { database, target: this.#label.toLowerCase(), loader: env.id }
  }

  dataset() {
    return { namespace: 'file', name: `${this.#file}#${this.#label}` }
  }

  open({ engine, columns }: Parameters<Loader['open']>[0]): Promise<void> {
    const { database, schema } = this.#target
    return this.#turn(`open ${this.#label}`, async () => {
      requireKey(this.#options.key, columns, this.#label)
      await engine.run(`CREATE SCHEMA IF NOT EXISTS ${ident(database)}.${ident(schema)}`)
      await createLedger(engine, database)
      await this.#chooseBatchColumn(engine)
      const numbered = this.#batchColumn
      const wanted = numbered === false ? columns : [...columns, { name: numbered, type: 'BIGINT' }]
      const unfinished = (await tableColumns(engine, this.#next)).length > 0
      if (this.#options.write !== 'replace') {
        if (unfinished) throw unfinishedReplace(this.#next, this.#file)
        await this.#fit(engine, wanted)
      } else if (!this.#options.evolve && (await tableColumns(engine, this.#target)).length > 0)
        await this.#fit(engine, wanted)
    })
  }

  write(batch: LoadBatch): Promise<Receipt> {
    return this.#turn(`write batch ${batch.token.slice(0, 12)} to ${this.#label}`, async () => {
      const { engine } = batch
      const held = await this.#held(batch.token, engine)
      if (held !== undefined) {
        if (held.digest !== batch.digest) throw otherBytes(this.#label, batch, held.digest)
        return this.#receipt(held, true)
      }
      const relation = this.#numbered(batch)
      const columns = await columnsOf(engine, relation)
      if (this.#options.write === 'replace') await this.#fitNext(engine, columns)
      else await this.#fitOnce(engine, columns)
      const { key } = this.#options
      if (key === undefined) return this.#commit(batch, () => this.#append(engine, relation), relation)
      return readSeveralTimes(engine, relation, (table) =>
        this.#commit(batch, () => mergeBatch(engine, this.#target, { relation: table, columns, key }), table),
      )
    })
  }

  finish({ engine, complete }: { engine: EngineConnection; complete: boolean }): Promise<void> {
    return this.#turn(`replace ${this.#label}`, async () => {
      if (this.#options.write !== 'replace' || !complete) return
      // Nothing was read: the table stays. A run that was killed after its last batch left this table to the next run.
      if ((await tableColumns(engine, this.#next)).length === 0) return
      await transaction(engine, async () => {
        await engine.run(`DROP TABLE IF EXISTS ${tableSql(this.#target)}`)
        await engine.run(`ALTER TABLE ${tableSql(this.#next)} RENAME TO ${ident(this.#target.table)}`)
      })
    })
  }

  async probe(token: string, { engine }: { engine: EngineConnection }): Promise<Receipt | undefined> {
    const held = await this.#held(token, engine)
    return held === undefined ? undefined : this.#receipt(held, true)
  }

  history(job: string, { engine, since }: HistoryContext): Promise<readonly StoreRecord[]> {
    return batchesOf(engine, this.#place, { job, since })
  }

  async holdings(
    tokens: readonly string[],
    { engine }: { engine: EngineConnection },
  ): Promise<ReadonlyMap<string, Holding> | undefined> {
    if (this.#options.write === 'replace') return undefined
    const known = await remembered(engine, this.#place, tokens)
    const counted = this.#options.write === 'merge' ? undefined : await this.#count(engine, tokens)
    return new Map(tokens.map((token) => [token, { remembered: known.has(token), rows: counted?.get(token) }]))
  }

  restore(batch: LoadBatch, { newer }: { newer: readonly string[] }): Promise<Receipt> {
    return this.#turn(`restore batch ${batch.token.slice(0, 12)} in ${this.#label}`, async () => {
      const numbered = this.#numberedTable()
      const relation = this.#numbered(batch)
      await this.#fitOnce(batch.engine, await columnsOf(batch.engine, relation))
      const put = (from: string) => replaceRows(batch, numbered, from, newer)
      if (numbered.key === undefined) return this.#commit(batch, () => put(relation), relation, true)
      return readSeveralTimes(batch.engine, relation, (table) => this.#commit(batch, () => put(table), table, true))
    })
  }

  async compare(batch: LoadBatch): Promise<BatchComparison> {
    return differences(batch, this.#numberedTable())
  }

  get comparison(): NonNullable<Loader['comparison']> {
    return tableComparison({ ...this.#readTable(), place: this.#place, write: this.#options.write })
  }

  contents({ engine }: ContentsContext): Promise<StoreContents> {
    return tableContents(engine, this.#readTable())
  }

  audit({ engine }: ContentsContext): Promise<StoreAudit | undefined> {
    return auditTable(engine, this.#readTable(), this.#place, this.#options.write === 'replace')
  }

  async close(): Promise<void> {
    // The file is attached to the engine, and the runtime closes that.
  }

  async #commit(batch: LoadBatch, put: () => Promise<number>, from: string, again = false): Promise<Receipt> {
    const { key, write } = this.#options
    const table = write === 'replace' ? this.#next : this.#target
    const parts = { table, place: this.#place, batchColumn: this.#batchColumn, key, from, again }
    return this.#receipt(await commitBatch(batch, parts, put), false)
  }

  /** A table that was made without the column, and must stay as it is, goes without. */
  async #chooseBatchColumn(engine: EngineConnection): Promise<void> {
    const { batch_column: wanted, evolve } = this.#options
    const existing = evolve || wanted === false ? [] : await tableColumns(engine, this.#target)
    if (wanted === false || existing.length === 0 || existing.some(({ name }) => sameName(name, wanted))) return
    this.#batchColumn = false
    this.#log.warn(
      `${this.#label} has no column ${wanted}, and evolve: false keeps it so: nobody can trace its rows; add ${wanted} BIGINT, or set batch_column: false`,
    )
  }

  async #count(engine: EngineConnection, tokens: readonly string[]): ReturnType<typeof countRows> {
    return this.#batchColumn === false ? undefined : countRows(engine, this.#numberedTable(), tokens)
  }

  #numberedTable(): NumberedTable {
    const { key, write } = this.#options
    if (this.#batchColumn !== false && write !== 'replace')
      return { target: this.#target, label: this.#label, batchColumn: this.#batchColumn, key }
    const why = write === 'replace' ? 'is replaced by each run' : 'does not number its batches (`batch_column: false`)'
    throw new AdflowError(
      'STORE_MISMATCH',
      `the table ${this.#label} ${why}: what it has of one batch cannot be told`,
      {
        hint: 'compare it by key with `adflow reconcile`',
      },
    )
  }

  #readTable(): ReadTable {
    const { batch_column: batchColumn, key } = this.#options
    return { target: this.#target, file: this.#file, label: this.#label, batchColumn, key }
  }

  /** The rows with the number of their batch. */
  #numbered({ relation, token }: LoadBatch): string {
    const column = this.#batchColumn
    if (column === false) return relation
    return `(SELECT *, (${tokenNumber(token)})::BIGINT AS ${ident(column)} FROM ${relation} AS batch)`
  }

  async #append(engine: EngineConnection, relation: string): Promise<number> {
    const table = tableSql(this.#options.write === 'replace' ? this.#next : this.#target)
    const [row] = await engine.rows(`INSERT INTO ${table} BY NAME SELECT * FROM ${relation} AS batch`)
    return Number(row?.['Count'] ?? 0)
  }

  #held(token: string, engine: EngineConnection): ReturnType<typeof findBatch> {
    return findBatch(engine, this.#place, token)
  }

  async #fitOnce(engine: EngineConnection, columns: readonly TypedColumn[]): Promise<void> {
    const list = JSON.stringify(columns)
    if (this.#fitted.has(list)) return
    await this.#fit(engine, columns)
    this.#fitted.add(list)
  }

  #fit(engine: EngineConnection, columns: readonly TypedColumn[], table = this.#target): Promise<void> {
    return fitTable(engine, table, columns, { evolve: this.#options.evolve, label: this.#label })
  }

  /** Without `evolve` the new table gets the columns of the old one. */
  async #fitNext(engine: EngineConnection, columns: readonly TypedColumn[]): Promise<void> {
    const [first] = await tableColumns(engine, this.#next)
    const kept = this.#options.evolve ? [] : await tableColumns(engine, this.#target)
    if (first === undefined && kept.length > 0) await this.#fit(engine, kept, this.#next)
    await this.#fit(engine, columns, this.#next)
  }

  /** Runs alone on the file, and says what failed. */
  #turn<T>(doing: string, work: () => Promise<T>): Promise<T> {
    return turnsOf(this.#target.database)(async () => {
      try {
        return await work()
      } catch (error) {
        throw explained(error, doing, this.#file)
      }
    })
  }

  #receipt({ rows, content }: Pick<Receipt, 'rows' | 'content'>, repeated: boolean): Receipt {
    return { rows, repeated, outputs: [this.dataset().name], ...(content === undefined ? {} : { content }) }
  }
}

function sameName(one: string, other: string): boolean {
  return one.toLowerCase() === other.toLowerCase()
}

export default defineLoader({
  summary: 'Loads into a table of a DuckDB file, the embedded warehouse.',
  description: `The file is attached to the engine, so a batch goes in by one \`INSERT … SELECT\`. Rows and the batch's entry in the
table \`_adflow_batches\` (token, target, loader, job, source, lane, positions, digest, rows, clock) are one transaction: a
batch is in the table once or not at all, whatever is killed and when.

**append** adds the rows. Columns of the table that the batch does not have are NULL.

**merge** updates the rows whose \`key\` the table has, in the columns that the batch has, and adds the others. Of rows with the
same key in one batch the last one wins, and of batches the later one of the lane. NULL in a key equals NULL. The rows
counted as loaded are those applied, a row that a later one of its batch replaced included.

**replace** collects what a run reads in \`<table>__adflow_next\` and puts it in the place of the table in one transaction, when
the run has read everything and nothing is owed. Until then readers see the old rows. A run that is killed or fails leaves
that table, and the next run goes on with it: a table with only the rest of the data is never shown. A run that finds nothing
new to read leaves the table as it is; one that reads something of which no row passes leaves it empty. Views stay; indexes and
constraints of the old table are gone with it.

**batch_column** is written with each row and costs next to nothing, since all rows of a batch have the same number. It is the first 64
bits of the token, signed: \`_batch\` of \`batches\` in \`adflow query\`. Rows that were there before have NULL; a table that
\`evolve: false\` keeps as it is goes without. In the same transaction the rows of the batch are read
back: their count and the sum of their hashes stand in \`_adflow_batches\` and in the ledger, and those of rows that a merge replaces;
by them \`adflow prove\` compares.

**evolve** adds columns (NULL in older rows) and widens integers and decimals where every old and new value stays exact. Any
other difference of type is refused with STORE_MISMATCH before anything is written.

DuckDB lets one process write to a file at a time. Batches of several loaders on one file are written one after another.`,
  options,
  example: { path: 'warehouse.duckdb', table: 'events', write: 'merge', key: ['event_id'] },
  oneProcess: true,
  access({ path }, { baseDir }) {
    const file = warehouseFile(path, baseDir)
    makeFolderOf(file)
    return { attach: [{ file, as: aliasOf(file) }] }
  },
  async check({ key = [], batch_column }, { path, columns }) {
    const names = columns.map(({ name }) => name)
    const taken = batch_column === false ? undefined : names.find((name) => sameName(name, batch_column))
    if (taken !== undefined)
      return [
        {
          kind: 'mistake',
          message: `the column ${taken} reaches the loader, and is the one that numbers the batches`,
          hint: 'rename it in a step, or give `batch_column` another name',
          path: [...path, 'batch_column'],
        },
      ]
    const known = new Set(names.map((name) => name.toLowerCase()))
    return key.flatMap((name, index): LoaderRemark[] => {
      if (known.has(name.toLowerCase())) return []
      const hint = didYouMean(name, names) ?? `columns here: ${names.join(', ')}`
      const message = `the key column ${name} does not reach the loader`
      return [{ kind: 'mistake', message, hint, path: [...path, 'key', index] }]
    })
  },
  diagnose({ path, schema, table, write, evolve, batch_column }, env) {
    const file = warehouseFile(path, env.baseDir)
    const target = { database: aliasOf(file), schema, table }
    const next = { ...target, table: `${table}${NEXT_TABLE}` }
    const replaces = write === 'replace'
    return diagnoseDuckdb({ file, target, next, replaces, evolve, batchColumn: batch_column }, env)
  },
  create: (loaderOptions, env) => new DuckdbLoader(loaderOptions, env),
})
