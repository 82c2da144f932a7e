/** A read-only look at what a job has made: its warehouses, quarantine and ledger, as tables of one engine session. */
import { existsSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Logger } from 'pino'
import type { EngineAccess } from '../core/contracts.ts'
import { AdflowError } from '../core/errors.ts'
import type { Job } from '../core/job/job.ts'
import type { Registry } from '../core/registry.ts'
import { Engine, type Session } from '../engine/session.ts'
import { ident, list, literal } from '../engine/sql-text.ts'
import { ledgerRaises, ledgerViews } from '../lineage/ledger-sql.ts'
import { ledgerDamaged, ledgerSegments, verifyLedger } from '../lineage/ledger-verify.ts'
import { type StateDir, stateDirOf } from './state-dir.ts'

export interface Browser {
  readonly session: Session
  /** Attached warehouses, by loader id. */
  readonly warehouses: readonly string[]
  /** Stores that could not be opened, and why. */
  readonly closed: Readonly<Record<string, string>>
  /** The ledger is damaged: its views raise this when they are asked. */
  readonly damaged?: AdflowError
  close(): void
}

const QUARANTINE_COLUMNS: Readonly<Record<string, string>> = {
  token: 'VARCHAR',
  source: 'VARCHAR',
  lane: 'VARCHAR',
  origin: 'VARCHAR',
  at: 'TIMESTAMP',
  byte_from: 'BIGINT',
  byte_to: 'BIGINT',
  line: 'BIGINT',
  rule: 'VARCHAR',
  field: 'VARCHAR',
  reason: 'VARCHAR',
  failures: 'STRUCT(rule VARCHAR, field VARCHAR, reason VARCHAR)[]',
  raw: 'VARCHAR',
  raw_base64: 'VARCHAR',
}

export interface BrowserOptions {
  /** false leaves the warehouses closed: a running job holds them. */
  readonly stores?: boolean
  /** true: a damaged ledger leaves the other tables open. */
  readonly withoutLedger?: boolean
}

/** @throws AdflowError LEDGER_DAMAGED, unless the browser may do without. */
export async function openBrowser(
  job: Job,
  stateDir: string,
  registry: Registry,
  log: Logger,
  { stores = true, withoutLedger = false }: BrowserOptions = {},
): Promise<Browser> {
  const state = stateDirOf(stateDir, job.name)
  const { damage } = await verifyLedger(state.ledger)
  const damaged = damage === undefined ? undefined : ledgerDamaged(state.ledger, damage)
  if (damaged !== undefined && !withoutLedger) throw damaged
  const engine = await Engine.open({
    memoryBytes: Math.max(job.resources.memoryLimitBytes, 1_000_000_000),
    threads: job.resources.threads,
    tempFolder: join(tmpdir(), `adflow-${process.pid}`),
    locked: false,
  })
  const session = await engine.connect()
  try {
    const { warehouses, closed } = stores
      ? await attachStores(job, registry, log, session)
      : { warehouses: [], closed: {} }
    const views = damaged === undefined ? ledgerViews(await segments(state)) : ledgerRaises(damaged.message)
    for (const view of views) await session.run(view)
    await session.run(
      `CREATE OR REPLACE VIEW quarantine AS ${await quarantineSelect(state, job.resources.maxRecordBytes)}`,
    )
    if (warehouses.length > 0)
      await session.run(
        `SET search_path = '${['memory.main', ...warehouses.map((id) => `${ident(id)}.main`)].join(',')}'`,
      )
    return {
      session,
      warehouses,
      closed,
      ...(damaged === undefined ? {} : { damaged }),
      close: () => {
        session.close()
        engine.close()
      },
    }
  } catch (error) {
    session.close()
    engine.close()
    throw error
  }
}

async function segments({ ledger }: StateDir): Promise<string[]> {
  if (!existsSync(ledger)) return []
  return (await ledgerSegments(ledger)).map((name) => join(ledger, name))
}

async function quarantineSelect({ quarantine }: StateDir, maxRecordBytes: number): Promise<string> {
  const names = existsSync(quarantine)
    ? (await readdir(quarantine)).filter((name) => name.endsWith('.ndjson') && !name.startsWith('.'))
    : []
  if (names.length === 0)
    return `SELECT ${Object.entries(QUARANTINE_COLUMNS)
      .map(([name, type]) => `NULL::${type} AS ${ident(name)}`)
      .join(', ')} WHERE false`
  const columns = Object.entries(QUARANTINE_COLUMNS).map(([name, type]) => `${literal(name)}: ${literal(type)}`)
  const files = list(names.map((name) => join(quarantine, name)))
  return `SELECT * FROM read_json(${files}, format = 'newline_delimited', columns = {${columns.join(', ')}}, maximum_object_size = ${2 * maxRecordBytes + 1_000_000})`
}

async function attachStores(job: Job, registry: Registry, log: Logger, session: Session) {
  const warehouses: string[] = []
  const closed: Record<string, string> = {}
  for (const config of job.load) {
    const definition = await registry.get('loader', config.type)
    const env = { id: config.id, job: job.name, baseDir: job.baseDir, log }
    let access: EngineAccess
    try {
      access = definition.access?.(config.options, env) ?? {}
    } catch (error) {
      if (!(error instanceof AdflowError)) throw error
      closed[config.id] = error.message
      continue
    }
    for (const { file } of access.attach ?? []) {
      if (!existsSync(file)) {
        closed[config.id] = `${file} does not exist yet: the job has not loaded anything`
        continue
      }
      try {
        await session.attach(file, config.id, true)
        warehouses.push(config.id)
      } catch (error) {
        if (!(error instanceof AdflowError)) throw error
        closed[config.id] = error.message.split('\n', 1)[0] ?? error.message
      }
    }
  }
  return { warehouses, closed }
}
