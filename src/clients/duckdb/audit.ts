/** Everything that a table of an attached DuckDB file has, batch by batch. */
import type { EngineConnection } from '../../core/contracts.ts'
import type { StoreAudit } from '../../core/store-contract.ts'
import { entriesOf, keepsContents, type LedgerPlace } from './batch-ledger.ts'
import { foundContents, hashName } from './content.ts'
import { type ReadTable, tableContents } from './contents.ts'

/** undefined where rows do not know their batches. @throws AdflowError STORE_UNAVAILABLE where there is no such table */
export async function auditTable(
  engine: EngineConnection,
  table: ReadTable,
  place: LedgerPlace,
  replaces: boolean,
): Promise<StoreAudit | undefined> {
  const { batch } = await tableContents(engine, table)
  const { target, batchColumn } = table
  if (batchColumn === false || batch === undefined || !(await keepsContents(engine, place))) return undefined
  const found = await foundContents(engine, { table: target, batchColumn }, place)
  return {
    entries: await entriesOf(engine, place),
    found: new Map([...found].map(([number, content]) => [number, { ...content, faults: [] }])),
    algorithm: await hashName(engine),
    replaces,
  }
}
