/** Reference data by a query: the whole answer, in one snapshot, as a file of records. */
import { open } from 'node:fs/promises'
import { z } from 'zod'
import { AdflowError, localIoError } from '../../../core/errors.ts'
import { duration } from '../../../core/job/units.ts'
import type { ReferenceQuery } from '../../../core/step-contract.ts'
import { ident } from '../../../engine/sql-text.ts'
import { Postgres, placeOf } from '../connect.ts'
import { explainSource } from '../errors.ts'
import { connectionShape } from '../options.ts'
import { jsonSql, requireColumn, typesOf } from './columns.ts'
import { diagnosePostgresQuery } from './diagnose.ts'
import { ReadSession } from './session.ts'

const { url, password, tls, connect_timeout } = connectionShape

export const referenceOptions = z.strictObject({
  type: z.literal('postgres').describe('A query of PostgreSQL.'),
  url,
  password,
  tls,
  connect_timeout,
  statement_timeout: duration.prefault('1m').describe('How long the server may take for the next rows.'),
  query: z.string().min(1).describe('A SELECT, without a semicolon. All its rows are read in one snapshot.'),
  columns: z
    .record(z.string().min(1), z.string().min(1).describe('Type, as in the contract.'))
    .refine((columns) => Object.keys(columns).length > 0, 'name at least one column')
    .describe(
      'Columns of the query that the step may use → type, as in the contract: no server is asked before the run.',
    ),
})

const AHEAD_BYTES = 1 << 20

export function postgresReference(
  options: z.output<typeof referenceOptions>,
  /** In messages. */
  table: string,
): ReferenceQuery {
  const { host, port, database } = placeOf(options)
  const { columns, query, statement_timeout: statementMs } = options
  return {
    kind: 'query',
    dataset: { namespace: `postgres://${host}:${port}`, name: `${database}.${table}` },
    columns,
    diagnose: (env) => diagnosePostgresQuery({ ...options, connections: 1, names: Object.keys(columns) }, env),
    async fetch(to, baseDir, signal) {
      const postgres = new Postgres({ ...options, connections: 1 }, baseDir, explainSource)
      const times = { lockMs: statementMs, idleMs: 60_000, statementMs }
      try {
        const session = await ReadSession.begin(postgres, `read the reference data ${table}`, times, signal)
        try {
          await write(to, session, query, Object.keys(columns), signal)
        } catch (error) {
          await session.end(error as Error)
          throw error
        }
        await session.end()
      } finally {
        await postgres.close()
      }
    },
  }
}

async function write(
  to: string,
  session: ReadSession,
  query: string,
  names: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  const known = await typesOf(session, await session.fields(`SELECT * FROM (${query}\n) AS q LIMIT 0`))
  const columns = names.map((name) => requireColumn(known, name, 'the query'))
  const items = columns.map((column) => `${jsonSql(column)} AS ${ident(column.name)}`)
  const sql = `SELECT replace(row_to_json(r)::text, e'\\n', ' ') FROM (SELECT ${items.join(', ')} FROM (${query}\n) AS q) AS r`
  const handle = await open(to, 'wx', 0o600).catch((error: unknown) => {
    throw localIoError(error, `write ${to}`)
  })
  try {
    for await (const bytes of session.copy(sql, 'lines', AHEAD_BYTES)) {
      signal.throwIfAborted()
      await handle.writeFile(bytes)
    }
  } catch (error) {
    throw error instanceof AdflowError ? error : localIoError(error, `write ${to}`)
  } finally {
    await handle.close()
  }
}
