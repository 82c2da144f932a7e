/** A table of an attached DuckDB file read back as rows that know their batch. */
import type { EngineConnection } from '../../core/contracts.ts'
import { AdflowError } from '../../core/errors.ts'
import type { StoreContents } from '../../core/store-contract.ts'
import { ident } from '../../engine/sql-text.ts'
import { type TableName, tableColumns, tableSql } from './table.ts'

const PLACE = '__adflow_place'

export interface ReadTable {
  readonly target: TableName
  readonly file: string
  readonly label: string
  readonly batchColumn: string | false
  readonly key: readonly string[] | undefined
}

/** @throws AdflowError STORE_UNAVAILABLE where there is no such table */
export async function tableContents(
  engine: EngineConnection,
  { target, file, label, batchColumn, key }: ReadTable,
): Promise<StoreContents> {
  const found = await tableColumns(engine, target)
  if (found.length === 0)
    throw new AdflowError('STORE_UNAVAILABLE', `${file} has no table ${label}`, {
      hint: 'the job has not loaded anything into it yet, or the table was dropped or renamed; nothing was changed',
    })
  const wanted = batchColumn === false ? undefined : batchColumn.toLowerCase()
  const numbered = found.find(({ name }) => name.toLowerCase() === wanted)
  return {
    columns: found.filter((column) => column !== numbered),
    select: `SELECT *, rowid AS ${PLACE} FROM ${tableSql(target)}`,
    ...(numbered === undefined ? {} : { batch: ident(numbered.name) }),
    order: PLACE,
    ...(key === undefined ? {} : { key }),
  }
}
