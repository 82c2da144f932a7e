/** The slot that keeps changes for a job, and the publication that says of which tables. */
import type { PoolClient } from 'pg'
import { AdflowError } from '../../../core/errors.ts'
import { sizeText } from '../../../core/job/units.ts'
import { ident, literal } from '../../../engine/sql-text.ts'
import { type Lsn, parseLsn } from './lsn.ts'

export interface SlotFacts {
  readonly plugin: string
  readonly database: string
  readonly ours: boolean
  readonly active: boolean
  /** Up to here changes were confirmed to the server. */
  readonly confirmed: Lsn
  /** Bytes of the log that it keeps. */
  readonly keptBytes: number
  /** `reserved`, `extended`, `unreserved`, `lost`. */
  readonly status: string
}

export interface ServerFacts {
  readonly system: string
  readonly walLevel: string
  /** Where the log of changes ends now. */
  readonly end: Lsn
  readonly user: string
  readonly mayReplicate: boolean
}

type Row = Readonly<Record<string, string | boolean | null>>

export async function serverFacts(client: Pick<PoolClient, 'query'>): Promise<ServerFacts> {
  const row = await one(
    client,
    `SELECT (SELECT system_identifier::text FROM pg_control_system()) AS system, current_setting('wal_level') AS level,
       CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END::text AS "end",
       current_user AS "user", (SELECT rolreplication OR rolsuper FROM pg_roles WHERE rolname = current_user) AS replicates`,
  )
  return {
    system: String(row?.['system']),
    walLevel: String(row?.['level']),
    end: parseLsn(String(row?.['end'])),
    user: String(row?.['user']),
    mayReplicate: row?.['replicates'] === true,
  }
}

export async function slotFacts(client: Pick<PoolClient, 'query'>, slot: string): Promise<SlotFacts | undefined> {
  const row = await one(
    client,
    `SELECT plugin, database, database = current_database() AS ours, active, coalesce(confirmed_flush_lsn, '0/0')::text AS confirmed, coalesce(wal_status, 'lost') AS status,
       coalesce(pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END, restart_lsn), 0)::text AS kept
     FROM pg_replication_slots WHERE slot_name = ${literal(slot)}`,
  )
  if (row === undefined) return undefined
  return {
    plugin: String(row['plugin']),
    database: String(row['database']),
    ours: row['ours'] === true,
    active: row['active'] === true,
    confirmed: parseLsn(String(row['confirmed'])),
    keptBytes: Number(row['kept']),
    status: String(row['status']),
  }
}

/** @throws AdflowError SOURCE_… where the server can give no changes to this job */
export function requireServer({ walLevel, mayReplicate, user }: ServerFacts): void {
  if (walLevel !== 'logical')
    throw new AdflowError(
      'SOURCE_UNSUPPORTED',
      `the server has wal_level = ${walLevel}, and tells changes with \`logical\` only`,
      {
        hint: 'ALTER SYSTEM SET wal_level = logical, and restart the server',
      },
    )
  if (!mayReplicate)
    throw new AdflowError('SOURCE_DENIED', `the user ${user} may not read the log of changes`, {
      hint: `ALTER ROLE ${ident(user)} REPLICATION`,
    })
}

/** Of a slot that was read from. @throws AdflowError SOURCE_CHANGED where changes since are gone */
export function requireSlot(facts: SlotFacts | undefined, slot: string, read: string): asserts facts is SlotFacts {
  const anew =
    '`adflow state rewind --reload` begins anew, with a new slot and all rows of the tables: load them with `write: merge`'
  if (facts === undefined)
    throw new AdflowError(
      'SOURCE_CHANGED',
      `the replication slot ${slot} is gone, and with it the changes after ${read}`,
      { hint: anew },
    )
  if (facts.status === 'lost')
    throw new AdflowError(
      'SOURCE_CHANGED',
      `the server has given up the replication slot ${slot} (max_slot_wal_keep_size), and with it the changes after ${read}`,
      { hint: `drop it, SELECT pg_drop_replication_slot(${literal(slot)}); then ${anew}` },
    )
  if (facts.plugin !== 'pgoutput' || !facts.ours)
    throw new AdflowError(
      'SOURCE_UNSUPPORTED',
      `the replication slot ${slot} is of the plugin ${facts.plugin} and the database ${facts.database}`,
      {
        hint: 'name a slot of pgoutput in the database of `url`, or one that is not there yet',
      },
    )
  if (facts.confirmed > parseLsn(read))
    throw new AdflowError(
      'SOURCE_CHANGED',
      `somebody else has read from the replication slot ${slot}: changes after ${read} are gone`,
      {
        hint: `give each job a slot of its own; ${anew}`,
      },
    )
}

/** What grows is the disk of the server. */
export function lagOf({ keptBytes }: SlotFacts, slot: string, mostBytes: number): string | undefined {
  if (keptBytes <= mostBytes) return undefined
  return `the replication slot ${slot} keeps ${sizeText(keptBytes)} of log on the server, more than ${sizeText(mostBytes)} (\`max_slot_wal\`)`
}

export async function hasPublication(client: Pick<PoolClient, 'query'>, publication: string): Promise<boolean> {
  return (await one(client, `SELECT pubname FROM pg_publication WHERE pubname = ${literal(publication)}`)) !== undefined
}

export async function createPublication(
  client: Pick<PoolClient, 'query'>,
  publication: string,
  tables: readonly string[],
): Promise<void> {
  await requirePublishable(client, tables)
  await client.query(`CREATE PUBLICATION ${ident(publication)} FOR TABLE ${tables.join(', ')}`)
}

/** @throws AdflowError SOURCE_UNSUPPORTED where a table could no longer be changed once it is published */
export async function requirePublishable(client: Pick<PoolClient, 'query'>, tables: readonly string[]): Promise<void> {
  for (const table of tables) {
    const row = await one(
      client,
      `SELECT relreplident = 'n' OR (relreplident = 'd' AND NOT EXISTS (SELECT FROM pg_index WHERE indrelid = c.oid AND indisprimary)) AS bare FROM pg_class c WHERE c.oid = to_regclass(${literal(table)})`,
    )
    if (row === undefined)
      throw new AdflowError('SOURCE_MISSING', `there is no table ${table}`, {
        hint: 'check its name, its schema, and the search_path of the user',
      })
    if (row['bare'] === true)
      throw new AdflowError(
        'SOURCE_UNSUPPORTED',
        `${table} has no replica identity: once it is published, the server refuses to update and delete its rows`,
        {
          hint: `give it a primary key, or ALTER TABLE ${table} REPLICA IDENTITY FULL`,
        },
      )
  }
}

/** @throws AdflowError SOURCE_MISSING where one of the tables is not published */
export async function requireTables(
  client: Pick<PoolClient, 'query'>,
  publication: string,
  tables: readonly string[],
): Promise<void> {
  for (const table of tables) {
    const row = await one(
      client,
      `SELECT true AS there FROM pg_publication_tables WHERE pubname = ${literal(publication)} AND (schemaname, tablename) IN (SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.oid = to_regclass(${literal(table)}) OR c.oid IN (SELECT relid FROM pg_partition_tree(to_regclass(${literal(table)}))))`,
    )
    if (row === undefined)
      throw new AdflowError('SOURCE_MISSING', `the publication ${publication} does not have the table ${table}`, {
        hint: `ALTER PUBLICATION ${ident(publication)} ADD TABLE ${table}; rows that are there already do not come by that`,
      })
  }
}

async function one(client: Pick<PoolClient, 'query'>, sql: string): Promise<Row | undefined> {
  return (await client.query<Record<string, string | boolean | null>>(sql)).rows[0]
}
