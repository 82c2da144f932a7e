/** Puts a table that was filled aside in the place of another, in one transaction. */
import type { PoolClient } from 'pg'
import { ident } from '../../engine/sql-text.ts'
import { type TableName, tableColumns, tableSql } from './table.ts'

/** By its name where nothing depends on the old table; where views or foreign keys do, by its rows. */
export async function swapTables(client: PoolClient, next: TableName, target: TableName): Promise<void> {
  const existing = await tableColumns(client, target)
  if (existing.size === 0) {
    await rename(client, next, target.table)
    return
  }
  const fits = [...(await tableColumns(client, next)).keys()].every((column) => existing.has(column))
  if (fits && (await hasDependents(client, target))) {
    const columns = [...(await tableColumns(client, next)).keys()].map(ident).join(', ')
    await client.query(`TRUNCATE ${tableSql(target)}`)
    await client.query(`INSERT INTO ${tableSql(target)} (${columns}) SELECT ${columns} FROM ${tableSql(next)}`)
    await client.query(`DROP TABLE ${tableSql(next)}`)
    return
  }
  const grants = await grantsOf(client, target)
  await client.query(`DROP TABLE ${tableSql(target)}`)
  await rename(client, next, target.table)
  for (const { privilege, grantee } of grants)
    await client.query(`GRANT ${privilege} ON ${tableSql(target)} TO ${grantee === null ? 'PUBLIC' : ident(grantee)}`)
}

async function rename(client: PoolClient, from: TableName, to: string): Promise<void> {
  await client.query(`ALTER TABLE ${tableSql(from)} RENAME TO ${ident(to)}`)
}

async function hasDependents(client: PoolClient, target: TableName): Promise<boolean> {
  const { rows } = await client.query<{ found: boolean }>(
    `SELECT EXISTS (SELECT 1 FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid WHERE d.classid = 'pg_rewrite'::regclass AND d.refobjid = to_regclass($1) AND r.ev_class <> d.refobjid)
       OR EXISTS (SELECT 1 FROM pg_constraint WHERE contype = 'f' AND confrelid = to_regclass($1)) AS found`,
    [tableSql(target)],
  )
  return rows[0]?.found === true
}

async function grantsOf(
  client: PoolClient,
  target: TableName,
): Promise<{ privilege: string; grantee: string | null }[]> {
  const { rows } = await client.query<{ privilege: string; grantee: string | null }>(
    `SELECT a.privilege_type AS privilege, r.rolname AS grantee FROM pg_class c, aclexplode(c.relacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee WHERE c.oid = to_regclass($1) AND a.grantee <> c.relowner`,
    [tableSql(target)],
  )
  return rows
}
