/**
 * Puts a table that was filled aside in the place of another: by EXCHANGE TABLES, which is one step, and two more. What lies
 * under the name of the filled table after a kill is told by its comment: with it, it is still being filled; without, it is
 * the old one, which has to go.
 */
import { type FoundTable, findTable, findTables } from './catalog.ts'
import type { ClickHouse } from './connect.ts'
import { labelOf, onCluster, type TableName, tableSql } from './ddl.ts'

export const FILLING = 'adflow fills this table, and will put it in the place of another'

export interface Swap {
  readonly next: TableName
  readonly target: TableName
  readonly cluster: string | undefined
}

/** Does what a killed swap has left to do; `found`: what lies under the two names, where that is known. true: a table is being filled. */
export async function resumeSwap(
  clickhouse: ClickHouse,
  { next, target, cluster }: Swap,
  found?: readonly [FoundTable | undefined, FoundTable | undefined],
): Promise<boolean> {
  const [waiting, swapped] = found ?? (await findTables(clickhouse, [next, target]))
  if (waiting?.comment === FILLING) return true
  if (waiting !== undefined) await drop(clickhouse, next, cluster)
  if (swapped?.comment === FILLING)
    await clickhouse.command(
      `finish the replacement of ${labelOf(target)}`,
      `ALTER TABLE ${tableSql(target)}${onCluster(cluster)} MODIFY COMMENT ''`,
    )
  return false
}

export async function swapTables(clickhouse: ClickHouse, swap: Swap): Promise<void> {
  const { next, target, cluster } = swap
  // Nothing was read: the table stays. A run that was killed after its last batch left this table to the next run.
  if (!(await resumeSwap(clickhouse, swap))) return
  const exists = (await findTable(clickhouse, target)) !== undefined
  await clickhouse.command(
    `replace ${labelOf(target)}`,
    exists
      ? `EXCHANGE TABLES ${tableSql(next)} AND ${tableSql(target)}${onCluster(cluster)}`
      : `RENAME TABLE ${tableSql(next)} TO ${tableSql(target)}${onCluster(cluster)}`,
  )
  await resumeSwap(clickhouse, swap)
}

async function drop(clickhouse: ClickHouse, name: TableName, cluster: string | undefined): Promise<void> {
  await clickhouse.command(
    `drop the old rows in ${labelOf(name)}`,
    `DROP TABLE IF EXISTS ${tableSql(name)}${onCluster(cluster)} SYNC`,
    // The old table goes whatever its size: it was replaced.
    { max_table_size_to_drop: '0' },
  )
}
