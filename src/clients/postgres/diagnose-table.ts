/** Whether a table of PostgreSQL takes what a job writes, and whether its user may: by the catalog, without touching it. */
import type { PoolClient } from 'pg'
import type { Finding } from '../../core/diagnosis.ts'
import { AdflowError } from '../../core/errors.ts'
import type { Findings } from '../../core/findings.ts'
import { NEXT_TABLE } from '../../core/table-loader.ts'
import { ident } from '../../engine/sql-text.ts'
import { LEDGER_TABLE } from './batch-ledger.ts'
import { changesFor, missingTable, type TableName, tableSql, unfinishedReplace } from './table.ts'
import type { PostgresColumn } from './types.ts'

export interface TableQuestion {
  readonly target: TableName
  readonly write: 'append' | 'merge' | 'replace'
  readonly create: boolean
  readonly evolve: boolean
  readonly partitioned: boolean
  /** undefined: not known. */
  readonly columns: readonly PostgresColumn[] | undefined
}

interface Schema {
  readonly user: string
  readonly database: string
  readonly found: boolean
  readonly use: boolean
  readonly create: boolean
  readonly temporary: boolean
}

interface Table {
  readonly columns: ReadonlyMap<string, string>
  readonly select: boolean
  readonly insert: boolean
  readonly update: boolean
  readonly owned: boolean
  readonly hidden: boolean
  readonly unlogged: boolean
}

/** A privilege that the job needs, and the statement that gives it. */
interface Need {
  readonly what: string
  readonly has: boolean
  readonly grant: string
}

export async function diagnoseTable(
  client: PoolClient,
  question: TableQuestion,
  at: Findings,
): Promise<readonly Finding[]> {
  const { target, write, create } = question
  const next = { schema: target.schema, table: `${target.table}${NEXT_TABLE}` }
  const schema = await schemaOf(client, target.schema)
  const existing = await tableOf(client, target)
  const unfinished = await tableOf(client, next)
  const ledger = await tableOf(client, { schema: target.schema, table: LEDGER_TABLE })
  const written = write === 'replace' ? unfinished : existing
  try {
    if (unfinished !== undefined && write !== 'replace') throw unfinishedReplace(next)
    if (written === undefined && !create) throw missingTable(write === 'replace' ? next : target)
    const changes =
      written === undefined || question.columns === undefined
        ? []
        : changesFor(written.columns, target, question.columns, question)
    const made = [
      ...(schema.found ? [] : [`schema ${target.schema}`]),
      ...(existing === undefined ? [`table ${target.schema}.${target.table}`] : []),
      ...(ledger === undefined ? [`table ${target.schema}.${LEDGER_TABLE}`] : []),
      ...changes.map((change) => change.replace(' IF NOT EXISTS', '')),
    ]
    return [
      at.ok('target', made.length === 0 ? 'the table is there and fits' : `would be made: ${made.join(', ')}`),
      ...(existing?.unlogged === true ? [unlogged(at, target)] : []),
      permission(at, schema, needs(question, { schema, existing, ledger, changes: changes.length > 0 })),
      ...(existing?.hidden === true ? [filtered(at, target)] : []),
    ]
  } catch (error) {
    if (!(error instanceof AdflowError)) throw error
    return [at.failure('target', error)]
  }
}

function needs(
  { target, write, create, partitioned }: TableQuestion,
  found: { schema: Schema; existing: Table | undefined; ledger: Table | undefined; changes: boolean },
): Need[] {
  const { schema, existing, ledger, changes } = found
  const { user, database } = schema
  const names = { schema: ident(target.schema), table: tableSql(target), user: ident(user), database: ident(database) }
  const tables = (kinds: readonly ('select' | 'insert' | 'update')[], table: Table | undefined, name: string) =>
    kinds.map((kind) => ({
      what: `${kind.toUpperCase()} on ${name}`,
      has: table === undefined || table[kind],
      grant: `GRANT ${kind.toUpperCase()} ON ${name} TO ${names.user}`,
    }))
  const list: Need[] = []
  const makes = ledger === undefined || (create && (existing === undefined || write === 'replace' || partitioned))
  if (schema.found) {
    const on = (what: 'USAGE' | 'CREATE', has: boolean) => ({
      what: `${what} on the schema ${target.schema}`,
      has,
      grant: `GRANT ${what} ON SCHEMA ${names.schema} TO ${names.user}`,
    })
    list.push(on('USAGE', schema.use), ...(makes ? [on('CREATE', schema.create)] : []))
  } else
    list.push({
      what: `CREATE on the database ${database}`,
      has: schema.create,
      grant: `GRANT CREATE ON DATABASE ${names.database} TO ${names.user}`,
    })
  list.push(...tables(write === 'merge' ? ['select', 'insert', 'update'] : ['insert'], existing, names.table))
  list.push(...tables(['select', 'insert'], ledger, tableSql({ schema: target.schema, table: LEDGER_TABLE })))
  if (existing !== undefined && (changes || write === 'replace' || (partitioned && create)))
    list.push({
      what: `to be the owner of ${names.table}`,
      has: existing.owned,
      grant: `ALTER TABLE ${names.table} OWNER TO ${names.user}`,
    })
  if (write === 'merge')
    list.push({
      what: `TEMPORARY on the database ${database}`,
      has: schema.temporary,
      grant: `GRANT TEMPORARY ON DATABASE ${names.database} TO ${names.user}`,
    })
  return list
}

function permission(at: Findings, { user }: Schema, list: readonly Need[]): Finding {
  const missing = list.filter(({ has }) => !has)
  if (missing.length === 0) return at.ok('permission', `${user} may do what the job does`)
  return at.failed(
    'permission',
    'STORE_DENIED',
    `${user} lacks ${missing.map(({ what }) => what).join(', ')}`,
    missing.map(({ grant }) => grant).join('; '),
  )
}

function unlogged(at: Findings, target: TableName): Finding {
  return at.warning(
    'durability',
    'the table is UNLOGGED: a crash of the server empties it, and its batches are refused as known',
    `ALTER TABLE ${tableSql(target)} SET LOGGED`,
  )
}

function filtered(at: Findings, { schema, table }: TableName): Finding {
  return at.warning(
    'permission',
    'row-level security applies to the user of the job: a policy may refuse rows, or hide those that a merge looks for',
    `give the user a policy that lets all rows of ${schema}.${table} pass, or BYPASSRLS`,
  )
}

async function schemaOf(client: PoolClient, name: string): Promise<Schema> {
  const { rows } = await client.query<Schema>(
    `SELECT current_user AS "user", current_database() AS database, n.oid IS NOT NULL AS found, coalesce(has_schema_privilege(n.oid, 'USAGE'), false) AS use, coalesce(has_schema_privilege(n.oid, 'CREATE'), has_database_privilege(current_database(), 'CREATE')) AS create, has_database_privilege(current_database(), 'TEMPORARY') AS temporary FROM (SELECT) AS one LEFT JOIN pg_namespace n ON n.nspname = $1`,
    [name],
  )
  const [row] = rows
  if (row === undefined) throw new AdflowError('UNEXPECTED', 'PostgreSQL gave no row about itself')
  return row
}

/** By the catalog alone: to_regclass() needs USAGE on the schema, and that is asked here. */
async function tableOf(client: PoolClient, { schema, table }: TableName): Promise<Table | undefined> {
  const { rows } = await client.query<Omit<Table, 'columns'> & { columns: readonly (readonly [string, string])[] }>(
    `SELECT has_any_column_privilege(c.oid, 'SELECT') AS select, has_any_column_privilege(c.oid, 'INSERT') AS insert, has_any_column_privilege(c.oid, 'UPDATE') AS update, pg_has_role(c.relowner, 'USAGE') AS owned, row_security_active(c.oid) AS hidden, c.relpersistence = 'u' AS unlogged,
       (SELECT json_agg(json_build_array(attname, format_type(atttypid, atttypmod)) ORDER BY attnum) FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped) AS columns
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p', 'v', 'f')`,
    [schema, table],
  )
  const [row] = rows
  return row === undefined ? undefined : { ...row, columns: new Map(row.columns ?? []) }
}
