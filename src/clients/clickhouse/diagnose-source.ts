/** What a ClickHouse server says of a table before a run reads it: by SELECT and DESCRIBE alone. */
import type { DiagnoseEnv, Diagnosis } from '../../core/diagnosis.ts'
import { AdflowError } from '../../core/errors.ts'
import { diagnosisAt } from '../../core/findings.ts'
import { ClickHouse, placeOf } from './connect.ts'
import { one, tls, version } from './diagnose.ts'
import type { ConnectionOptions } from './options.ts'
import { READER } from './reader.ts'
import { fromSql } from './source-query.ts'
import { describe, type TableFetcherOptions } from './table-fetcher.ts'

export function diagnoseClickHouseSource(
  connection: ConnectionOptions,
  options: TableFetcherOptions,
  env: DiagnoseEnv,
): Diagnosis {
  const { server, database, host } = placeOf(connection)
  const name = `${database}.${options.table ?? 'query'}`
  return diagnosisAt(`${server}/${name}`, async function* (at) {
    const clickhouse = new ClickHouse(connection, env.baseDir, env, READER)
    try {
      const askedMs = env.now()
      const row = await one(
        clickhouse,
        `reach ${server}`,
        'SELECT currentUser() AS user, version() AS version, toString(toUnixTimestamp64Milli(now64(3))) AS ms',
      )
      const clock = { systemMs: Number(row['ms']), askedMs, answeredMs: env.now() }
      yield at.ok('reachable', `answers to the user ${row['user']}`)
      yield version(at, String(row['version']))
      yield tls(at, connection.url, host, env.now())
      try {
        const { columns } = await describe(clickhouse, options, `${server}/${name}`)
        yield at.ok('target', `has ${columns.length} columns, and all that the job names`)
        await clickhouse.rows(`read ${name}`, `SELECT * FROM (${fromSql(options)}) LIMIT 0`)
        yield at.ok('permission', 'the user may read it')
      } catch (error) {
        if (!(error instanceof AdflowError)) throw error
        yield at.failure(error.code === 'SOURCE_DENIED' ? 'permission' : 'target', error)
      }
      yield at.clock(clock)
    } finally {
      await clickhouse.close()
    }
  })
}
