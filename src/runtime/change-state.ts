/** Changes of the state by hand. Each is an event of the ledger: who, what, before, after. */

import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { AdflowError } from '../core/errors.ts'
import { uuidv7 } from '../core/ids.ts'
import type { Job } from '../core/job/job.ts'
import { comparePositions, START } from '../core/positions.ts'
import { tokenNumber } from '../core/token.ts'
import { Engine } from '../engine/session.ts'
import { ident, list, literal } from '../engine/sql-text.ts'
import { openLedger } from '../lineage/ledger.ts'
import { ledgerSelect } from '../lineage/ledger-sql.ts'
import { ledgerSegments, requireSoundLedger } from '../lineage/ledger-verify.ts'
import type { Checkpoint, LaneCheckpoint } from './checkpoint-slot.ts'
import { openCheckpoints } from './checkpoints.ts'
import { lockJob } from './lock.ts'
import { openStateDir, type StateDir } from './state-dir.ts'

export interface ChangeOptions {
  readonly job: Job
  readonly stateDir: string
  readonly command: string
  readonly who: string
  readonly source: string
  /** undefined: every lane of the source. */
  readonly lane?: string
  readonly to: string
  /** Raise the epoch, so that stores load the ranges again instead of refusing them. */
  readonly reload: boolean
  /** Allow a position that is not the edge of a batch. */
  readonly force: boolean
  readonly reason: string
}

export interface StateChange {
  readonly schema_version: 1
  readonly job: string
  readonly source: string
  readonly epoch: string
  readonly lanes: Readonly<Record<string, { readonly before: string | null; readonly after: string }>>
}

export async function changeState(options: ChangeOptions): Promise<StateChange> {
  const { job, source, to, reason } = options
  if (!/^(0|[1-9]\d*)$/.test(to))
    throw new AdflowError('USAGE', `${to} is not a position`, {
      hint: 'positions are whole numbers, as `adflow state show` prints them',
    })
  const state = await openStateDir(options.stateDir, job.name)
  const lock = await lockJob(state.path, { command: options.command, run: uuidv7() })
  try {
    // Edges and marks are looked up in the ledger: a line that is passed over in silence would leave records behind.
    await requireSoundLedger(state.ledger)
    const checkpoints = await openCheckpoints(state.path, job.name)
    const before = checkpoints.current
    const lanes = lanesOf(before, options)
    if (!options.force) await requireEdges(state, source, lanes, to)
    const after: Record<string, LaneCheckpoint> = { ...before.sources[source] }
    for (const lane of lanes) {
      const { mark } = after[lane] ?? {}
      // The evidence in the mark belongs to the old position; it still tells the file, unless nothing of it counts.
      after[lane] = { at: to, ...(mark === undefined || to === START ? {} : { mark }) }
    }
    const epoch = options.reload ? String(BigInt(before.epoch) + 1n) : before.epoch
    const planned = before.planned.filter((batch) => batch.source !== source || !lanes.includes(batch.lane))
    const { sequence, evolved, extra } = before
    const changes = Object.fromEntries(
      lanes.map((lane) => [lane, { before: before.sources[source]?.[lane]?.at ?? null, after: to }]),
    )
    const ledger = await openLedger(state.ledger, { run: lock.run })
    await ledger.append([
      {
        type: 'state_changed',
        who: options.who,
        what: `${options.command}: ${reason}`,
        before: { epoch: before.epoch, lanes: changes },
        after: { epoch, to },
      },
    ])
    await ledger.close()
    if (options.reload) await forgetMarks(state, options, lanes)
    await checkpoints.save({
      epoch,
      sequence,
      sources: { ...before.sources, [source]: after },
      planned,
      ...(evolved === undefined ? {} : { evolved }),
      ...(extra === undefined ? {} : { extra }),
    })
    return { schema_version: 1, job: job.name, source, epoch, lanes: changes }
  } finally {
    await lock.close()
  }
}

function lanesOf(checkpoint: Checkpoint, { source, lane, job }: ChangeOptions): string[] {
  if (!job.extract.some(({ id }) => id === source))
    throw new AdflowError('USAGE', `the job has no source ${source}`, {
      hint: `sources: ${job.extract.map(({ id }) => id).join(', ')}`,
    })
  const known = Object.keys(checkpoint.sources[source] ?? {})
  if (lane === undefined) return known
  if (!known.includes(lane))
    throw new AdflowError('USAGE', `source ${source} has no lane ${lane}`, {
      hint: known.length === 0 ? 'the job has not read anything yet' : `lanes: ${known.slice(0, 10).join(', ')}`,
    })
  return [lane]
}

/** Between the edges of batches a range would be cut otherwise than before, and no store would know its token. */
async function requireEdges(state: StateDir, source: string, lanes: readonly string[], to: string): Promise<void> {
  if (to === START || lanes.length === 0) return
  const engine = await Engine.open({ memoryBytes: 256_000_000, threads: 1, tempFolder: state.temp, locked: false })
  const session = await engine.connect()
  try {
    const files = (await ledgerSegments(state.ledger)).map((name) => join(state.ledger, name))
    for (const lane of lanes) {
      const rows = await session.rows(
        `SELECT DISTINCT range_to::VARCHAR AS edge FROM (${ledgerSelect(files)}) WHERE type = 'batch_closed' AND source = ${literal(source)} AND lane = ${literal(lane)}`,
      )
      const edges = rows.map((row) => String(row['edge'])).sort(comparePositions)
      if (!edges.includes(to))
        throw new AdflowError(
          'USAGE',
          `${to} is not the edge of a batch of ${lane}: ranges would be cut otherwise than before, and stores could not refuse them`,
          {
            hint: `edges: 0, ${edges.slice(-8).join(', ')}; --force sets it all the same`,
          },
        )
    }
  } finally {
    session.close()
    engine.close()
  }
}

/** Steps keep marks of the batches that they have seen: of those that are to be loaded anew they must know nothing, or every
 *  record would be a duplicate of itself. A kill before the checkpoint is saved is mended by the same command again. */
async function forgetMarks(
  state: StateDir,
  { job, source, to }: ChangeOptions,
  lanes: readonly string[],
): Promise<void> {
  if (!existsSync(state.database)) return
  const engine = await Engine.open({ memoryBytes: 256_000_000, threads: 1, tempFolder: state.temp, locked: false })
  const session = await engine.connect()
  try {
    await session.attach(state.database, 'state', false)
    const files = (await ledgerSegments(state.ledger)).map((name) => join(state.ledger, name))
    const rows = await session.rows(
      `SELECT DISTINCT token FROM (${ledgerSelect(files)}) WHERE type = 'batch_closed' AND source = ${literal(source)} AND list_contains(${list(lanes)}, lane) AND range_to > ${to}::HUGEINT`,
    )
    const numbers = rows.map((row) => tokenNumber(String(row['token'])))
    const tables = await session.rows(
      `SELECT table_name AS t FROM duckdb_columns() WHERE database_name = 'state' AND column_name = '__seq'`,
    )
    await session.transaction(async () => {
      for (const row of tables)
        await session.run(
          `DELETE FROM state.main.${ident(String(row['t']))} WHERE __seq IN (SELECT unnest([${numbers.join(', ')}]::BIGINT[]))`,
        )
    })
  } catch (error) {
    throw new AdflowError(
      'LOCAL_IO',
      `cannot make the steps of ${job.name} forget what is to be loaded anew: ${(error as Error).message}`,
      {
        cause: error,
        hint: 'nothing was changed but an entry in the ledger; run the command again',
      },
    )
  } finally {
    session.close()
    engine.close()
  }
}
