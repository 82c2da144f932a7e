/** One batch in one transaction: its rows, what the table then holds of it, and its own entry; or none of it. */
import type { LoadBatch, Receipt } from '../../core/contracts.ts'
import { tokenNumber } from '../../core/token.ts'
import { type LedgerPlace, recordBatch } from './batch-ledger.ts'
import { aboutToReplace, contentOf, hashedList } from './content.ts'
import { columnsOf, type TableName } from './table.ts'
import { transaction } from './transaction.ts'

export interface Commit {
  readonly table: TableName
  readonly place: LedgerPlace
  /** false: nothing can be read back of a batch. */
  readonly batchColumn: string | false
  /** Columns of which rows of the batch replace others with the same values. */
  readonly key: readonly string[] | undefined
  /** The rows that are put. */
  readonly from: string
  /** In the place of an entry that may be there. */
  readonly again?: boolean
}

export function commitBatch(
  batch: LoadBatch,
  { table, place, batchColumn, key, from, again = false }: Commit,
  put: () => Promise<number>,
): Promise<Pick<Receipt, 'rows' | 'content'>> {
  const { engine, token } = batch
  return transaction(engine, async () => {
    if (batchColumn === false) {
      const rows = await put()
      await recordBatch(engine, place, batch, { rows, again })
      return { rows }
    }
    const numbered = { table, batchColumn }
    const number = tokenNumber(token)
    const replaced =
      key === undefined ? {} : await aboutToReplace(engine, numbered, place, { relation: from, key, number })
    const rows = await put()
    const hashed = hashedList(await columnsOf(engine, from), batchColumn)
    const held = await contentOf(engine, numbered, number, hashed)
    const content = Object.keys(replaced).length === 0 ? held : { ...held, replaced }
    await recordBatch(engine, place, batch, { rows, hashed, content, again })
    return { rows, content }
  })
}
