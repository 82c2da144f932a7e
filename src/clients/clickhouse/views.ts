/**
 * Whatever rows go on to when they are inserted. A batch that is repeated goes through the views again, so every table behind
 * one must refuse the repetition as the target does: each needs a window of its own.
 */
import { AdflowError } from '../../core/errors.ts'
import { type FoundTable, findTable, isMergeTree, isReplicated } from './catalog.ts'
import type { ClickHouse } from './connect.ts'
import { labelOf, onCluster, type TableName, tableSql } from './ddl.ts'

/** What gives something else each time: a repeated row would fall into another partition, and be no repetition there. */
const CHANGING =
  /\b(?:now|now64|today|yesterday|rand|rand32|rand64|randCanonical|generateUUIDv[47]|generateULID|generateSnowflakeID|currentUser|hostName)\s*\(/i

const NAME = '(?:`(?:[^`\\\\]|\\\\.)*`|[\\w.]+?)'
const TARGET = new RegExp(
  `^CREATE MATERIALIZED VIEW (?:${NAME}\\.)?${NAME}(?: UUID '[^']*')?(.*?) TO (?:INNER UUID '([^']*)'|(?:(${NAME})\\.)?(${NAME}))[ (]`,
  's',
)

/** The target and all tables behind its views, and theirs. @throws AdflowError STORE_MISMATCH where one cannot refuse a repetition */
export async function fedTables(clickhouse: ClickHouse, target: FoundTable): Promise<readonly FoundTable[]> {
  if (!isMergeTree(target))
    throw new AdflowError(
      'STORE_MISMATCH',
      `${labelOf(target)} has the engine ${target.engine}, which cannot refuse a repeated batch`,
      { hint: 'name a table of the MergeTree family (of a Distributed table the one behind it)' },
    )
  const found = [target]
  for (const table of found)
    for (const view of table.views) {
      const behind = await tableBehind(clickhouse, view)
      if (behind === undefined || found.some((other) => labelOf(other) === labelOf(behind))) continue
      if (!isMergeTree(behind))
        throw new AdflowError(
          'STORE_MISMATCH',
          `the view ${labelOf(view)} writes to ${labelOf(behind)}, whose engine ${behind.engine} cannot refuse a repeated batch`,
          { hint: 'let the view write to a table of the MergeTree family, or take it off the table' },
        )
      found.push(behind)
    }
  return found
}

/** Gives a window to those that have none, where it may. @throws AdflowError STORE_MISMATCH */
export async function ensureWindows(
  clickhouse: ClickHouse,
  tables: readonly FoundTable[],
  {
    create,
    cluster,
    window,
  }: { readonly create: boolean; readonly cluster: string | undefined; readonly window: number },
): Promise<readonly FoundTable[]> {
  const ensured: FoundTable[] = []
  for (const table of tables) {
    const name = `${isReplicated(table) ? 'replicated' : 'non_replicated'}_deduplication_window`
    const statement = `ALTER TABLE ${tableSql(table)}${onCluster(cluster)} MODIFY SETTING ${name} = ${window}`
    if (table.window === 0 && !create)
      throw new AdflowError(
        'STORE_MISMATCH',
        `${labelOf(table)} remembers no blocks (${name} = 0): a repeated batch would be there twice`,
        { hint: `run \`${statement}\`, or set \`create: missing\`` },
      )
    if (table.window === 0) await clickhouse.command(`set the deduplication window of ${labelOf(table)}`, statement)
    ensured.push(table.window === 0 ? { ...table, window } : table)
  }
  return ensured
}

/** A view's own SELECT, where it is one that gives something else each time for partitions of the table behind it. */
async function tableBehind(clickhouse: ClickHouse, view: TableName): Promise<FoundTable | undefined> {
  const found = await findTable(clickhouse, view)
  if (found === undefined || found.engine !== 'MaterializedView') return undefined
  const behind = await targetOf(clickhouse, found)
  if (behind === undefined || behind.engine === 'Null') return undefined
  if (behind.partitionKey !== '' && CHANGING.test(found.createQuery))
    throw new AdflowError(
      'STORE_MISMATCH',
      `the view ${labelOf(view)} gives other values when it is repeated, and ${labelOf(behind)} has partitions: a repeated batch could be in two of them`,
      { hint: 'take now(), rand() and their like out of the view, or the partitions off the table' },
    )
  return behind
}

async function targetOf(clickhouse: ClickHouse, view: FoundTable): Promise<FoundTable | undefined> {
  const [, between = '', , database, table] = TARGET.exec(view.createQuery) ?? []
  // Fed by its own clock, not by inserts.
  if (/\bREFRESH (?:EVERY|AFTER)\b/.test(between || view.createQuery)) return undefined
  if (table !== undefined)
    return findTable(clickhouse, {
      database: database === undefined ? view.database : plain(database),
      table: plain(table),
    })
  const [row] = await clickhouse.rows(
    `look for the table behind ${labelOf(view)}`,
    'SELECT uuid FROM system.tables WHERE database = {database:String} AND name = {table:String}',
    { database: view.database, table: view.table },
  )
  const inner = [`.inner_id.${row?.['uuid']}`, `.inner.${view.table}`]
  for (const name of inner) {
    const found = await findTable(clickhouse, { database: view.database, table: name })
    if (found !== undefined) return found
  }
  throw new AdflowError('STORE_MISMATCH', `cannot find the table behind the view ${labelOf(view)}`, {
    hint: 'grant the user of the job SHOW TABLES on it',
  })
}

/** A default that changes must not decide where a row lies. */
export function isChanging(expression: string): boolean {
  return CHANGING.test(expression)
}

function plain(name: string): string {
  return name.startsWith('`') ? name.slice(1, -1).replaceAll(/\\(.)/g, '$1') : name
}
