/** What a ClickHouse server says of itself before a run: by SELECT and CHECK GRANT alone. */
import type { DiagnoseEnv, Diagnosis, Finding } from '../../core/diagnosis.ts'
import { AdflowError } from '../../core/errors.ts'
import { diagnosisAt, type Findings } from '../../core/findings.ts'
import { isThisMachine } from '../../core/this-machine.ts'
import { ClickHouse, placeOf } from './connect.ts'
import { tableSql } from './ddl.ts'
import { diagnoseTable, type TableQuestion } from './diagnose-table.ts'
import type { ConnectionOptions } from './options.ts'

/** Older ones send a repeated batch through views in another way. */
const OLDEST = [24, 3] as const

export function diagnoseClickHouse(options: ConnectionOptions, question: TableQuestion, env: DiagnoseEnv): Diagnosis {
  const { server, database, host } = placeOf(options)
  return diagnosisAt(`${server}/${database}`, async function* (at) {
    const clickhouse = new ClickHouse(options, env.baseDir, env)
    try {
      const askedMs = env.now()
      const row = await one(
        clickhouse,
        `reach ${server}`,
        "SELECT currentUser() AS user, version() AS version, toUnixTimestamp64Milli(now64(3)) AS ms, getSetting('readonly') AS readonly, (SELECT countIf(is_read_only) = count() FROM system.disks) AS fixed",
      )
      const clock = { systemMs: Number(row['ms']), askedMs, answeredMs: env.now() }
      yield at.ok('reachable', `answers to the user ${row['user']}`)
      yield version(at, String(row['version']))
      yield tls(at, options.url, host, env.now())
      yield await writable(clickhouse, at, row, question)
      yield* await diagnoseTable(clickhouse, question, at)
      yield at.clock(clock)
      yield await disk(clickhouse, at)
    } finally {
      await clickhouse.close()
    }
  })
}

export function version(at: Findings, text: string): Finding {
  const [major = 0, minor = 0] = text.split('.').map(Number)
  const old = major < OLDEST[0] || (major === OLDEST[0] && minor < OLDEST[1])
  return old
    ? at.warning(
        'version',
        `ClickHouse ${text}, with which adflow was never run`,
        `upgrade to ${OLDEST.join('.')} or newer`,
      )
    : at.ok('version', `ClickHouse ${text}`)
}

export function tls(at: Findings, url: string, host: string, nowMs: number): Finding {
  if (url.startsWith('https:')) return at.tls('TLS', undefined, nowMs)
  if (isThisMachine(host)) return at.ok('tls', 'not encrypted, on this machine')
  return at.warning('tls', 'not encrypted: data and password can be read on the way', 'use `https` in `url`')
}

async function writable(
  clickhouse: ClickHouse,
  at: Findings,
  { readonly: level, fixed }: Readonly<Record<string, unknown>>,
  { target }: TableQuestion,
): Promise<Finding> {
  if (Number(level) > 0)
    return at.failed(
      'writable',
      'STORE_DENIED',
      `the user of the job is read-only (readonly = ${level})`,
      'give the user a profile with readonly = 0',
    )
  const [replica] = await clickhouse.rows(
    `look at the replica of ${tableSql(target)}`,
    'SELECT is_readonly AS fixed FROM system.replicas WHERE database = {database:String} AND table = {table:String}',
    { ...target },
  )
  if (Number(fixed) === 1 || Number(replica?.['fixed']) === 1)
    return at.failed(
      'writable',
      'STORE_UNAVAILABLE',
      replica === undefined
        ? 'the disks of the server are read-only'
        : 'this replica is read-only: it has lost its Keeper',
      'mend that on the server, or name another replica in `url`',
    )
  return at.ok('writable', 'takes writes')
}

async function disk(clickhouse: ClickHouse, at: Findings): Promise<Finding> {
  try {
    const row = await one(
      clickhouse,
      'look at the disks',
      'SELECT free_space AS free, total_space AS total FROM system.disks ORDER BY free_space LIMIT 1',
    )
    return at.disk({ freeBytes: Number(row['free']), totalBytes: Number(row['total']) }, 'server')
  } catch (error) {
    if (!(error instanceof AdflowError) || error.code !== 'STORE_DENIED') throw error
    return at.unknown('disk', error.message, 'grant SELECT on system.disks, or watch the disk there')
  }
}

export async function one(
  clickhouse: ClickHouse,
  doing: string,
  sql: string,
): Promise<Readonly<Record<string, unknown>>> {
  const [row] = await clickhouse.rows(doing, sql)
  return row ?? {}
}
