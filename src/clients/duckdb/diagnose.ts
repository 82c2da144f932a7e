/** A DuckDB file before a run: opened for reading, by an engine of its own. */
import { stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Column } from '../../core/contracts.ts'
import type { DiagnoseEnv, Diagnosis, Finding } from '../../core/diagnosis.ts'
import { AdflowError } from '../../core/errors.ts'
import { diagnosisAt, type Findings } from '../../core/findings.ts'
import { Engine, type Session } from '../../engine/session.ts'
import { writableFindings } from '../objects/diagnose.ts'
import { explainAttachError } from './attach.ts'
import { changesFor, type TableName, tableColumns, unfinishedReplace } from './table.ts'

export interface TableQuestion {
  readonly file: string
  readonly target: TableName
  readonly next: TableName
  readonly replaces: boolean
  readonly evolve: boolean
  readonly batchColumn: string | false
}

const MEMORY_BYTES = 64e6

export function diagnoseDuckdb(question: TableQuestion, env: DiagnoseEnv): Diagnosis {
  const { file } = question
  return diagnosisAt(file, async function* (at) {
    const there = await stat(file).catch(() => undefined)
    if (there?.isFile() === true) {
      const tables = await opened(question, at, env)
      yield* tables
      if (tables.some(({ check, status }) => check === 'reachable' && status === 'failed')) return
    }
    const [target, ...rest] = await writableFindings(at, file, 'file')
    if (target !== undefined && there?.isFile() !== true) yield target
    yield* rest
  })
}

async function opened(question: TableQuestion, at: Findings, env: DiagnoseEnv): Promise<Finding[]> {
  const tempFolder = join(tmpdir(), `adflow-doctor-${process.pid}`)
  const engine = await Engine.open({ memoryBytes: MEMORY_BYTES, threads: 1, tempFolder, locked: false })
  const session = await engine.connect()
  try {
    await session.attach(question.file, question.target.database, true)
    return [
      at.ok('reachable', `opens for reading with DuckDB ${engine.version}`),
      await table(question, session, at, env),
    ]
  } catch (error) {
    return [refusal(error, question.file, at, env)]
  } finally {
    session.close()
    engine.close()
  }
}

function refusal(error: unknown, file: string, at: Findings, { runningPid }: DiagnoseEnv): Finding {
  const explained = explainAttachError(error, file)
  if (runningPid !== undefined && explained.code === 'STORE_LOCKED' && explained.details?.['pid'] === runningPid)
    return at.ok('reachable', `the run of this job has it open (process ${runningPid})`)
  return at.failure('reachable', explained)
}

async function table(
  { file, target, next, replaces, evolve, batchColumn }: TableQuestion,
  session: Session,
  at: Findings,
  { columns }: DiagnoseEnv,
): Promise<Finding> {
  const label = `${target.schema}.${target.table}`
  const existing = await tableColumns(session, target)
  try {
    if (!replaces && (await tableColumns(session, next)).length > 0) throw unfinishedReplace(next, file)
    if (existing.length === 0) return at.ok('target', `would be made: table ${label}`)
    if (columns === undefined || (replaces && evolve)) return at.ok('target', `the table ${label} is there`)
    const numbered = batchColumn !== false && !evolve && !existing.some(({ name }) => same(name, batchColumn))
    const changes = changesFor(existing, wanted(columns, numbered ? false : batchColumn), { evolve, label })
    if (numbered)
      return at.warning(
        'target',
        `the table ${label} has no column ${batchColumn}, and \`evolve: false\` keeps it so: nobody can trace its rows`,
        `add ${batchColumn} BIGINT, or set \`batch_column: false\``,
      )
    if (changes.length === 0) return at.ok('target', `the table ${label} is there and fits`)
    return at.ok(
      'target',
      `would be made in ${label}: ${changes.map((change) => change.replace(' IF NOT EXISTS', '')).join(', ')}`,
    )
  } catch (error) {
    if (!(error instanceof AdflowError)) throw error
    return at.failure('target', error)
  }
}

function wanted(columns: readonly Column[], batchColumn: string | false) {
  return batchColumn === false ? columns : [...columns, { name: batchColumn, type: 'BIGINT' }]
}

function same(one: string, other: string): boolean {
  return one.toLowerCase() === other.toLowerCase()
}
