/** Whether a server could keep the state of a job: whether it answers, its tables, what the user may, and who holds the job. Reads only. */
import type { PoolClient } from 'pg'
import type { Diagnosis, Finding } from '../../../core/diagnosis.ts'
import type { Findings } from '../../../core/findings.ts'
import type { StatePlace } from '../../../core/state-place.ts'
import { ident } from '../../../engine/sql-text.ts'
import { diagnoseServer, type ServerEnv } from '../diagnose.ts'
import { explainState } from '../errors.ts'

const NEEDED = ['SELECT', 'INSERT', 'UPDATE', 'DELETE']

export function diagnoseStateServer(place: StatePlace, job: string, env: ServerEnv): Diagnosis {
  const { url, tls, leaseMs } = place
  const options = { url, tls, connect_timeout: leaseMs, statement_timeout: leaseMs }
  const question = {
    ...{ writes: true, connections: 3, explain: explainState },
    own: (client: PoolClient, at: Findings) => tables(client, at, place, job),
  }
  return diagnoseServer(options, env, question)
}

async function tables(client: PoolClient, at: Findings, { schema }: StatePlace, job: string): Promise<Finding[]> {
  const [extents, leases] = [`${ident(schema)}.extents`, `${ident(schema)}.leases`]
  const { rows } = await client.query(
    `SELECT current_user AS who, current_database() AS base, to_regclass($1) IS NOT NULL AS made,
       to_regnamespace($2) IS NOT NULL AS there, has_database_privilege(current_database(), 'CREATE') AS makes,
       CASE WHEN to_regnamespace($2) IS NOT NULL THEN has_schema_privilege($3, 'CREATE') END AS fills`,
    [extents, ident(schema), schema],
  )
  const { who, base, made, there, makes, fills } = rows[0] ?? {}
  if (made !== true) {
    if (there === true ? fills === true : makes === true)
      return [at.ok('target', `the tables would be made in the schema ${schema}`)]
    const what = there === true ? `CREATE ON SCHEMA ${ident(schema)}` : `CREATE ON DATABASE ${ident(String(base))}`
    return [
      at.failed(
        'permission',
        'STATE_DENIED',
        `${who} may not make the tables`,
        `GRANT ${what} TO ${ident(String(who))}`,
      ),
    ]
  }
  return [...(await privileges(client, at, [extents, leases], String(who))), await holder(client, at, leases, job)]
}

async function privileges(client: PoolClient, at: Findings, names: readonly string[], who: string): Promise<Finding[]> {
  const missing: string[] = []
  for (const name of names)
    for (const privilege of NEEDED) {
      const { rows } = await client.query('SELECT has_table_privilege($1, $2) AS has', [name, privilege])
      if (rows[0]?.has !== true) missing.push(`GRANT ${privilege} ON ${name} TO ${ident(who)}`)
    }
  if (missing.length === 0) return [at.ok('permission', `${who} may read and write the state`)]
  return [at.failed('permission', 'STATE_DENIED', `${who} may not do all that a run does`, missing.join('; '))]
}

async function holder(client: PoolClient, at: Findings, leases: string, job: string): Promise<Finding> {
  const { rows } = await client.query<{ epoch: string; about: { host: string; pid: number }; held: boolean }>(
    `SELECT epoch, about, expires > clock_timestamp() AS held FROM ${leases} WHERE name = $1`,
    [job],
  )
  const [row] = rows
  if (row === undefined) return at.ok('lock', 'no machine has run the job yet')
  const who = `process ${row.about.pid} on ${row.about.host} (epoch ${row.epoch})`
  return at.ok('lock', row.held ? `${who} holds the job` : `nobody holds the job; ${who} had it last`)
}
