/**
 * Rebuilds the positions of a job from what its stores remember. Where every store has a range, the position passes it;
 * a range that only some have is planned again, exactly, so that the others get it and these refuse it.
 */
import type { StoreRecord } from '../core/contracts.ts'
import { AdflowError } from '../core/errors.ts'
import { uuidv7 } from '../core/ids.ts'
import { comparePositions, START } from '../core/positions.ts'
import { tokenNumber } from '../core/token.ts'
import { ident } from '../engine/sql-text.ts'
import { openLedger } from '../lineage/ledger.ts'
import { requireSoundLedger } from '../lineage/ledger-verify.ts'
import type { LaneCheckpoint, PlannedBatch } from './checkpoint-slot.ts'
import { openCheckpoints, setAsideCheckpoints } from './checkpoints.ts'
import { lockJob } from './lock.ts'
import type { RunOptions } from './run.ts'
import { Spool } from './spool.ts'
import { openStateDir } from './state-dir.ts'
import { openWorkshop } from './workshop.ts'

export interface Recovery {
  readonly schema_version: 1
  readonly job: string
  readonly stores: readonly string[]
  readonly batches: number
  readonly positions: Readonly<Record<string, Readonly<Record<string, string>>>>
  readonly planned: number
  /** Damaged slots, kept aside. */
  readonly aside: readonly string[]
  readonly written: boolean
}

export interface RecoverOptions extends RunOptions {
  /** Only say what would be written. */
  readonly dryRun: boolean
  /** Replace a checkpoint that is readable. */
  readonly force: boolean
  /** For the audit. */
  readonly who: string
}

export async function recoverJob(options: RecoverOptions): Promise<Recovery> {
  const { job } = options
  const state = await openStateDir(options.stateDir, job.name)
  const lock = await lockJob(state.path, { command: options.command, run: uuidv7() })
  try {
    const before = await openCheckpoints(state.path, job.name).catch((error: unknown) => {
      if (error instanceof AdflowError && error.code === 'STATE_DAMAGED') return undefined
      throw error
    })
    if (before !== undefined && !before.fresh && !options.force)
      throw new AdflowError(
        'USAGE',
        `the checkpoint of job ${job.name} in ${state.path} is readable: there is nothing to recover`,
        {
          hint: 'a run follows the stores by itself; --force rebuilds the positions all the same',
        },
      )
    // The recovery is an event of the ledger: one that cannot be written must not happen.
    await requireSoundLedger(state.ledger)
    const workshop = await openWorkshop({ ...options, state })
    try {
      const histories = new Map<string, readonly StoreRecord[]>()
      for (const { config, loader, unavailable } of workshop.loaders) {
        if (unavailable !== undefined) throw unavailable
        if (loader.history === undefined)
          throw new AdflowError(
            'STATE_DAMAGED',
            `store ${config.id} does not remember its batches: positions cannot be rebuilt`,
            {
              hint: 'restore the state directory from a backup',
            },
          )
        await loader.open({
          engine: workshop.session,
          columns: workshop.pipeline.outputs.get(config.input ?? 'main')?.relation.columns ?? [],
        })
        const spool = new Spool(state.spoolOf(config.id))
        await spool.open()
        const owed = spool.owed.map(({ token, source, range, digest, rows }) => ({
          token,
          source,
          range,
          digest,
          rows,
        }))
        // Batches that came through a pipe have no position to go back to.
        const known = (await loader.history(job.name, { engine: workshop.session })).filter(({ source }) =>
          job.extract.some(({ id }) => id === source),
        )
        histories.set(config.id, [...known, ...owed])
      }
      const rebuilt = rebuild([...histories.values()], new Date().toISOString())
      const batches = new Set([...histories.values()].flat().map(({ token }) => token)).size
      const result: Omit<Recovery, 'aside' | 'written'> = {
        schema_version: 1,
        job: job.name,
        stores: [...histories.keys()],
        batches,
        positions: Object.fromEntries(
          Object.entries(rebuilt.sources).map(([source, lanes]) => [
            source,
            Object.fromEntries(Object.entries(lanes).map(([lane, { at }]) => [lane, at])),
          ]),
        ),
        planned: rebuilt.planned.length,
      }
      if (options.dryRun) return { ...result, aside: [], written: false }
      if (workshop.pipeline.stateful) await forgetOrphans(workshop, [...histories.values()].flat())
      const generation = before?.current.generation ?? String(Date.now())
      const aside = await setAsideCheckpoints(state.path)
      const checkpoints = await openCheckpoints(state.path, job.name, { after: generation })
      const { epoch } = before?.current ?? checkpoints.current
      await checkpoints.save({
        epoch,
        sequence: String(rebuilt.planned.length + batches),
        sources: rebuilt.sources,
        planned: rebuilt.planned,
      })
      const ledger = await openLedger(state.ledger, { run: lock.run })
      await ledger.append([
        {
          type: 'recovered',
          who: options.who,
          generation: checkpoints.current.generation,
          stores: result.stores,
          batches,
        },
      ])
      await ledger.close()
      return { ...result, aside, written: true }
    } finally {
      await workshop.close()
    }
  } finally {
    await lock.close()
  }
}

/** Marks of batches that no store has would make their records look like duplicates when they are read again. */
async function forgetOrphans(
  { session }: Awaited<ReturnType<typeof openWorkshop>>,
  known: readonly StoreRecord[],
): Promise<void> {
  const numbers = [...new Set(known.map(({ token }) => tokenNumber(token)))]
  const tables = await session.rows(
    `SELECT table_name AS t FROM duckdb_columns() WHERE database_name = 'state' AND column_name = '__seq'`,
  )
  for (const row of tables)
    await session.run(
      `DELETE FROM state.main.${ident(String(row['t']))} WHERE __seq NOT IN (SELECT unnest([${numbers.join(', ')}]::BIGINT[]))`,
    )
}

interface Rebuilt {
  readonly sources: Record<string, Record<string, LaneCheckpoint>>
  readonly planned: PlannedBatch[]
}

function rebuild(histories: readonly (readonly StoreRecord[])[], clock: string): Rebuilt {
  const sources: Rebuilt['sources'] = {}
  const planned: PlannedBatch[] = []
  const everywhere = (record: StoreRecord) =>
    histories.every((history) => history.some(({ source, range }) => sameRange(record, source, range)))
  const lanes = new Map<string, StoreRecord[]>()
  for (const record of histories.flat()) {
    const key = JSON.stringify([record.source, record.range.lane])
    const ranges = lanes.get(key) ?? []
    if (!ranges.some((other) => sameRange(other, record.source, record.range))) ranges.push(record)
    lanes.set(key, ranges)
  }
  for (const ranges of lanes.values()) {
    ranges.sort((a, b) => comparePositions(a.range.from, b.range.from))
    let at = START
    let passed = true
    for (const record of ranges) {
      const { source, range } = record
      if (range.from !== at && passed && comparePositions(range.from, at) > 0)
        throw new AdflowError(
          'STATE_DAMAGED',
          `the stores hold ${range.lane} from ${range.from}, but nothing from ${at} to there`,
          {
            hint: 'restore the state directory from a backup, or set the position by hand with `adflow state set`',
          },
        )
      passed = passed && everywhere(record)
      if (passed) sources[source] = { ...sources[source], [range.lane]: { at: range.to } }
      else planned.push({ ...range, source, sequence: String(planned.length), clock })
      at = range.to
    }
  }
  return { sources, planned }
}

function sameRange(record: StoreRecord, source: string, range: StoreRecord['range']): boolean {
  return (
    record.source === source &&
    record.range.lane === range.lane &&
    record.range.from === range.from &&
    record.range.to === range.to
  )
}
