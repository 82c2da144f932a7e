/** Changes of the state by hand. Each is an event of the ledger: who, what, before, after. */

import { existsSync } from 'node:fs'
import { AdflowError } from '../core/errors.ts'
import type { Job } from '../core/job/job.ts'
import { comparePositions, START } from '../core/positions.ts'
import { tokenOf } from '../core/token.ts'
import { list, literal } from '../engine/sql-text.ts'
import { openLedger } from '../lineage/ledger.ts'
import { requireSoundLedger } from '../lineage/ledger-verify.ts'
import { ASK_STORES, type Checkpoint, type LaneCheckpoint, type PlannedBatch } from './checkpoint-slot.ts'
import { type Checkpoints, openCheckpoints } from './checkpoints.ts'
import { holdJob } from './hold.ts'
import { forgetMarks, ledgerOf, withStateEngine } from './orphans.ts'
import { Spool } from './spool.ts'
import { isStaged, requireStagedBytes, withCursors } from './staged-positions.ts'
import type { StateDir } from './state-dir.ts'

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
  /** Allow a position that is not the edge of a batch, and a reload while other lanes are under way. */
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
  const held = await holdJob(options)
  const { state } = held
  try {
    // Edges and marks are looked up in the ledger: a line that is passed over in silence would leave records behind.
    await requireSoundLedger(state.ledger)
    const checkpoints = await openCheckpoints(state.path, job.name)
    const before = checkpoints.current
    const lanes = lanesOf(before, options)
    if (!options.force) await requireEdges(state, source, lanes, to)
    if (options.reload) await requireSettled(state, options, checkpoints, lanes)
    const after = await positionsAfter(state, options, before, lanes)
    const epoch = options.reload ? String(BigInt(before.epoch) + 1n) : before.epoch
    const isMoved = (batch: PlannedBatch) => batch.source === source && lanes.includes(batch.lane)
    const dropped = before.planned.filter(isMoved)
    const { sequence, evolved, extra } = before
    const changes = Object.fromEntries(
      lanes.map((lane) => [lane, { before: before.sources[source]?.[lane]?.at ?? null, after: to }]),
    )
    const ledger = await openLedger(state.ledger, { run: held.run })
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
    await forget(
      state,
      options,
      lanes,
      dropped.map((batch) => tokenOf({ job: job.name, source, range: batch, epoch: before.epoch })),
    )
    await checkpoints.save({
      epoch,
      sequence,
      sources: { ...before.sources, [source]: after },
      planned: before.planned.filter((batch) => !isMoved(batch)),
      ...(evolved === undefined ? {} : { evolved }),
      // Of a batch whose plan is dropped only the stores know whether they have it.
      extra: { ...extra, [ASK_STORES]: true },
    })
    return { schema_version: 1, job: job.name, source, epoch, lanes: changes }
  } finally {
    await held.close()
  }
}

async function positionsAfter(
  state: StateDir,
  { source, to, reload }: ChangeOptions,
  before: Checkpoint,
  lanes: readonly string[],
): Promise<Record<string, LaneCheckpoint>> {
  const positions = before.sources[source] ?? {}
  const moved: Record<string, LaneCheckpoint> = {}
  for (const lane of lanes) {
    const { at, mark } = positions[lane] ?? { at: START }
    const staged = isStaged(positions[lane])
    if (staged && !reload) await requireStagedBytes(state, source, lane, { at, to })
    // The evidence in the mark belongs to the old position; it still tells the file, unless nothing of it counts.
    moved[lane] = { at: to, ...(mark === undefined || to === START || staged ? {} : { mark }) }
  }
  return { ...positions, ...(await withCursors(state, source, moved)) }
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
  const ledger = await ledgerOf(state)
  await withStateEngine(state, async (session) => {
    for (const lane of lanes) {
      const rows = await session.rows(
        `SELECT DISTINCT range_to::VARCHAR AS edge FROM (${ledger}) WHERE type = 'batch_closed' AND source = ${literal(source)} AND lane = ${literal(lane)}`,
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
  })
}

/** The epoch is part of every token: what is under way, or owed, under the old one would reach a store a second time under the
 *  new one, and no store could tell. */
async function requireSettled(
  state: StateDir,
  { job, source, force }: ChangeOptions,
  { current, fallback }: Checkpoints,
  lanes: readonly string[],
): Promise<void> {
  const refuse = (found: string, otherwise = '') => {
    throw new AdflowError('STORE_OWED', `cannot raise the epoch of ${job.name}: ${found}`, {
      hint: `run the job until it ends with 0, then reload${otherwise}; nothing was changed`,
    })
  }
  if (fallback !== undefined)
    refuse(`checkpoint slot ${fallback.slot} is damaged, and the stores may be ahead of the other`)
  const other = current.planned.find((batch) => batch.source !== source || !lanes.includes(batch.lane))
  if (other !== undefined && !force)
    refuse(
      `[${other.from}, ${other.to}) of ${other.lane} is under way`,
      ', or use --force: stores that have that range get it once more',
    )
  for (const { id } of job.load) {
    const spool = new Spool(state.spoolOf(id))
    await spool.open()
    const owed = spool.owed.filter((batch) => batch.source === source && lanes.includes(batch.range.lane))
    const rows = owed.reduce((total, batch) => total + batch.rows, 0)
    if (owed.length > 0) refuse(`${id} is owed ${rows} rows of what is to be loaded anew`)
  }
}

/** Steps keep marks of the batches that they have seen. Of batches whose plan is dropped, and of those that are to be loaded
 *  anew, they must know nothing, or the records would be duplicates of themselves. A kill before the checkpoint is saved is
 *  mended by the same command again. */
async function forget(
  state: StateDir,
  { job, source, to, reload }: ChangeOptions,
  lanes: readonly string[],
  dropped: readonly string[],
): Promise<void> {
  if (!existsSync(state.database)) return
  const ledger = await ledgerOf(state)
  try {
    await withStateEngine(state, async (session) => {
      await session.attach(state.database, 'state', false)
      const closed = reload
        ? await session.rows(
            `SELECT DISTINCT token FROM (${ledger}) WHERE type = 'batch_closed' AND source = ${literal(source)} AND list_contains(${list(lanes)}, lane) AND range_to > ${to}::HUGEINT`,
          )
        : []
      await forgetMarks(session, [...closed.map((row) => String(row['token'])), ...dropped])
    })
  } catch (error) {
    throw new AdflowError(
      'LOCAL_IO',
      `cannot make the steps of ${job.name} forget what is read again: ${(error as Error).message}`,
      {
        cause: error,
        hint: 'nothing was changed but an entry in the ledger; run the command again',
      },
    )
  }
}
