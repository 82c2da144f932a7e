/** A table of an attached DuckDB file as one side of a comparison, and the transaction that puts its rows right. */
import type { Comparison, Mended, Mending, OpenComparison } from '../../core/comparison.ts'
import type { EngineConnection } from '../../core/contracts.ts'
import { AdflowError } from '../../core/errors.ts'
import { embeddedSide, tagsSql } from '../../engine/compare-sql.ts'
import { ident } from '../../engine/sql-text.ts'
import { createLedger, findBatch, type LedgerPlace, recordBatch } from './batch-ledger.ts'
import { type TableName, tableColumns, tableSql } from './table.ts'
import { transaction, turnsOf } from './transaction.ts'

export interface TableComparison {
  readonly target: TableName
  readonly place: LedgerPlace
  readonly write: Comparison['write']
  readonly key: readonly string[] | undefined
  /** Column with the number of a row's batch. */
  readonly batchColumn: string | false
  /** The file, for people. */
  readonly file: string
}

export function tableComparison(table: TableComparison): Comparison {
  return {
    write: table.write,
    ...(table.key === undefined ? {} : { key: table.key }),
    digests: ['engine', 'md5'],
    open: ({ engine }) => open(table, engine),
    mend: (mending, { engine }) =>
      turnsOf(table.target.database)(() => transaction(engine, () => mend(table, mending, engine))),
  }
}

async function open({ target, batchColumn, file }: TableComparison, engine: EngineConnection): Promise<OpenComparison> {
  const all = await tableColumns(engine, target)
  if (all.length === 0)
    throw new AdflowError('STORE_UNAVAILABLE', `${file} has no table ${target.schema}.${target.table}`, {
      hint: 'it was dropped or renamed: bring it back, or load everything anew with `adflow state rewind --reload`',
    })
  const numbered = batchColumnOf(all, batchColumn)
  return {
    columns: all.filter(({ name }) => name !== numbered),
    batches: numbered !== undefined,
    side: embeddedSide({
      relation: tableSql(target),
      batch: numbered === undefined ? 'NULL::BIGINT' : ident(numbered),
    }),
    remarks: [],
  }
}

/** As the table spells it; undefined where it has none. */
function batchColumnOf(columns: readonly { readonly name: string }[], wanted: string | false): string | undefined {
  return columns.find(({ name }) => wanted !== false && name.toLowerCase() === wanted.toLowerCase())?.name
}

/** Out with what is wrong, in with what is right, and the mark of this heal: all of it or none. */
async function mend(table: TableComparison, mending: Mending, engine: EngineConnection): Promise<Mended> {
  const { target, place, batchColumn } = table
  const { job, source, token, clock, scope, insert, remove } = mending
  await createLedger(engine, target.database)
  if ((await findBatch(engine, place, token)) !== undefined) return { inserted: 0, removed: 0, repeated: true }
  const numbered = batchColumnOf(await tableColumns(engine, target), batchColumn)
  const batch = numbered === undefined ? 'NULL::BIGINT' : ident(numbered)
  const tags = tagsSql({ relation: `(SELECT rowid AS __rowid, * FROM ${tableSql(target)})`, batch }, scope, ['__rowid'])
  const ranked = `SELECT *, row_number() OVER (PARTITION BY id, content, batch) AS nth FROM (${tags}) WHERE id IN (SELECT id FROM ${remove})`
  const doomed = `SELECT r.__rowid FROM (${ranked}) r JOIN ${remove} w ON r.id = w.id AND r.content = w.content AND r.batch IS NOT DISTINCT FROM w.batch WHERE r.nth <= w.n`
  const removed = await changed(engine, `DELETE FROM ${tableSql(target)} WHERE rowid IN (${doomed})`)
  const [wanted] = await engine.rows(`SELECT coalesce(sum(n), 0)::BIGINT AS n FROM ${remove}`)
  if (BigInt(removed) !== BigInt(String(wanted?.['n'] ?? 0)))
    throw new AdflowError(
      'STORE_MISMATCH',
      `${removed} of ${wanted?.['n']} rows to remove are still in ${target.schema}.${target.table} of ${table.file}`,
      { hint: 'somebody has changed the table meanwhile; nothing was healed, reconcile again' },
    )
  const columns = scope.columns.map(({ name }) => ident(name))
  const items = [...columns, ...(numbered === undefined ? [] : [`__batch AS ${ident(numbered)}`])]
  const inserted = await changed(
    engine,
    `INSERT INTO ${tableSql(target)} BY NAME SELECT ${items.join(', ')} FROM ${insert}`,
  )
  // Under another name than the loader's own: this is no range of a lane, and no position may follow from it.
  const range = { lane: 'heal', from: '0', to: '0' }
  const info = { job, source, range, token, digest: 'heal', clock }
  await recordBatch(engine, { ...place, loader: `${place.loader} (heal)` }, info, { rows: inserted })
  return { inserted, removed, repeated: false }
}

async function changed(engine: EngineConnection, sql: string): Promise<number> {
  const [row] = await engine.rows(sql)
  return Number(row?.['Count'] ?? 0)
}
