/** A table as a source, before a run reads it: by the catalog, without touching its rows. */
import type { PoolClient } from 'pg'
import type { DiagnoseEnv, Diagnosis, Finding } from '../../../core/diagnosis.ts'
import { type Findings, roughly } from '../../../core/findings.ts'
import { didYouMean } from '../../../core/job/suggest.ts'
import { sizeText } from '../../../core/job/units.ts'
import { ident } from '../../../engine/sql-text.ts'
import { diagnoseServer } from '../diagnose.ts'
import { explainSource } from '../errors.ts'
import type { ConnectionOptions } from '../options.ts'
import { sharedTable } from './extent.ts'
import { oldestOpen } from './horizon.ts'
import type { TableOptions } from './table-fetcher.ts'

type Asked = Omit<TableOptions, 'cursor' | 'columns' | 'tables'> & {
  readonly table?: string | readonly string[] | undefined
  readonly query?: string | undefined
  readonly cursor?: readonly string[] | undefined
  readonly columns?: readonly string[] | undefined
  readonly key?: readonly string[]
}

/** Looking through more than this in each run is worth a word. */
const LARGE_BYTES = 1e9

/** A transaction that is open for longer keeps a job from what is new. */
const LONG_OPEN_MS = 600_000

export function diagnosePostgresSource(options: Asked, env: DiagnoseEnv): Diagnosis {
  const tables = options.table === undefined ? [] : [options.table].flat()
  const { query } = options
  return diagnoseServer(options, env, {
    writes: false,
    connections: Math.max(1, options.parallel * tables.length),
    explain: explainSource,
    own: async (client, at) => {
      const findings: Finding[] = []
      for (const table of tables) findings.push(...(await diagnoseTable(client, at, table, options)))
      if (tables.length > 0) findings.push(await diagnoseOpen(client, at, env.now()))
      if (query !== undefined) findings.push(await diagnoseQuery(client, at, query, options))
      return findings
    },
  })
}

/** What the rows of tables wait for. */
async function diagnoseOpen(client: PoolClient, at: Findings, nowMs: number): Promise<Finding> {
  const open = await oldestOpen(client)
  if (open === undefined) return at.ok('transactions', 'nothing holds back what is committed')
  const { transaction, holder, sinceMs, remedy } = open
  const found = `transaction ${transaction}${holder === undefined ? '' : ` (${holder})`} is open`
  if (sinceMs === undefined || nowMs - sinceMs < LONG_OPEN_MS) return at.ok('transactions', found)
  return at.warning(
    'transactions',
    `${found} for ${roughly(nowMs - sinceMs)}: what later ones have written is not read before it ends`,
    `see what it does, and end it where nobody needs it: ${remedy}`,
  )
}

/** A query as reference data: `names` are the columns that the job wants of it. */
export function diagnosePostgresQuery(
  options: ConnectionOptions & { readonly query: string; readonly names: readonly string[] },
  env: DiagnoseEnv,
): Diagnosis {
  const { query, names } = options
  return diagnoseServer(options, env, {
    writes: false,
    connections: 1,
    explain: explainSource,
    own: async (client, at) => [await diagnoseQuery(client, at, query, { key: names })],
  })
}

/** Planned, not run. */
async function diagnoseQuery(
  client: PoolClient,
  at: Findings,
  query: string,
  { cursor = [], key = [] }: Pick<Asked, 'cursor' | 'key'>,
): Promise<Finding> {
  try {
    const names = [...cursor, ...key].map((name) => `q.${ident(name)}`)
    await client.query(`SELECT ${names.length === 0 ? '*' : names.join(', ')} FROM (${query}\n) AS q LIMIT 0`)
    return at.ok('target', 'the query can be asked')
  } catch (error) {
    return at.failure('target', explainSource(error, 'ask the query'))
  }
}

async function diagnoseTable(
  client: PoolClient,
  at: Findings,
  table: string,
  options: Asked,
): Promise<readonly Finding[]> {
  const { columns, cursor } = options
  const { rows } = await client.query<{
    user: string
    readable: boolean
    kind: string
    bytes: string
    names: string[]
  }>(
    `SELECT current_user AS "user", has_table_privilege(c.oid, 'SELECT') AS readable, CASE WHEN c.relisshared THEN 'shared' ELSE c.relkind::text END AS kind, coalesce(pg_total_relation_size(c.oid), 0) AS bytes,
       (SELECT json_agg(attname ORDER BY attnum) FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped) AS names
     FROM pg_class c WHERE c.oid = to_regclass($1)`,
    [table],
  )
  const [found] = rows
  if (found === undefined)
    return [
      at.failed(
        'target',
        'SOURCE_MISSING',
        `there is no table ${table}`,
        'check its name, its schema, and the search_path of the user',
      ),
    ]
  const { user, readable, kind, bytes, names } = found
  const missing = [...(columns ?? []), ...(cursor ?? [])].find((name) => !names.includes(name))
  return [target(), permission()]

  function target(): Finding {
    if (kind === 'shared') return at.failure('target', sharedTable(table))
    if (kind !== 'r' && kind !== 'p')
      return at.failed(
        'target',
        'SOURCE_UNSUPPORTED',
        `${table} is no table: its rows know no transaction`,
        'name a table',
      )
    if (missing !== undefined)
      return at.failed(
        'target',
        'SOURCE_MISSING',
        `${table} has no column ${missing}`,
        didYouMean(missing, names) ?? `columns there: ${names.join(', ')}`,
      )
    if (cursor === undefined && options.again === 'changed' && Number(bytes) > LARGE_BYTES)
      return at.warning(
        'target',
        `${table} has ${sizeText(Number(bytes))}, and each run looks through all of it`,
        'name a column with an index that rises with each change: `cursor`',
      )
    return at.ok('target', 'the table is there')
  }

  function permission(): Finding {
    if (readable) return at.ok('permission', `${user} may read it`)
    return at.failed(
      'permission',
      'SOURCE_DENIED',
      `${user} lacks SELECT on ${table}`,
      `GRANT SELECT ON ${table} TO "${user}"`,
    )
  }
}
