/**
 * Rebuilds the positions of a job from what its stores remember. Where every store has a range, the position passes it;
 * a range that only some have is planned again, exactly, so that the others get it and these refuse it.
 */
import type { StoreRecord } from '../core/contracts.ts'
import { AdflowError } from '../core/errors.ts'
import { IDLE_SOURCE } from '../core/idle.ts'
import { ownsLane } from '../core/shard.ts'
import { epochOf } from '../core/token.ts'
import { openLedger } from '../lineage/ledger.ts'
import { requireSoundLedger } from '../lineage/ledger-verify.ts'
import { openCheckpoints, setAsideCheckpoints } from './checkpoints.ts'
import { holdJob } from './hold.ts'
import { foldedTokens, forgetOtherMarks, ledgerOf, withStateEngine } from './orphans.ts'
import { type Hole, notSuperseded, type Rebuilt, rebuild } from './rebuild.ts'
import { batchTokens } from './resume.ts'
import type { RunOptions } from './run.ts'
import { Spool } from './spool.ts'
import { withCursors } from './staged-positions.ts'
import type { StateDir } from './state-dir.ts'
import { openWorkshop } from './workshop.ts'

export interface Recovery {
  readonly schema_version: 1
  readonly job: string
  readonly stores: readonly string[]
  readonly batches: number
  readonly positions: Readonly<Record<string, Readonly<Record<string, string>>>>
  readonly planned: number
  /** Ranges between loaded ones that no store has: planned as well. */
  readonly holes: readonly Hole[]
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
  const held = await holdJob(options)
  const { state } = held
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
        const owed = spool.owed.map(({ token, source, range, digest, rows, clock }) => ({
          token,
          source,
          range,
          digest,
          rows,
          clock,
        }))
        // Batches that came through a pipe have no position to go back to.
        const known = (await loader.history(job.name, { engine: workshop.session })).filter(
          ({ source, range }) =>
            (source === IDLE_SOURCE || job.extract.some(({ id }) => id === source)) &&
            ownsLane(state.shard, range.lane),
        )
        histories.set(config.id, [...known, ...owed])
      }
      const staged = new Set(
        workshop.extractors.filter(({ extractor }) => !extractor.replayable).map(({ config }) => config.id),
      )
      const inputs = new Map(job.load.map(({ id, input }) => [id, input ?? 'main']))
      const epochIn = (id: string, record: StoreRecord) => epochOf(job.name, inputs.get(id) ?? 'main', record) ?? 0n
      const valid = [...histories].map(([id, history]) => {
        const [own, others] = [true, false].map((is) => history.filter(({ source }) => staged.has(source) === is))
        return [...(others ?? []), ...notSuperseded(own ?? [], (record) => epochIn(id, record))]
      })
      const rebuilt = rebuild(valid, new Date().toISOString())
      const distinct = new Map([...histories.values()].flat().map((record) => [record.token, record.folded ?? 1]))
      const batches = [...distinct.values()].reduce((sum, count) => sum + count, 0)
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
        holes: rebuilt.holes,
      }
      if (options.dryRun) return { ...result, aside: [], written: false }
      const records = [...histories].flatMap(([id, history]) =>
        history.map((record) => ({ record, input: inputs.get(id) ?? 'main' })),
      )
      const epochs = records.map(({ record, input }) => epochOf(job.name, input, record) ?? 0n)
      const epoch = String(
        [...epochs, BigInt(before?.current.epoch ?? 0), await ledgerEpoch(state)].reduce((a, b) => (a > b ? a : b)),
      )
      if (workshop.pipeline.stateful) {
        const known = new Set(records.flatMap(({ record, input }) => batchTokens(job, input, record, epoch)))
        const folded = records.flatMap(({ record }) => (record.folded === undefined ? [] : [record]))
        const { sources } = rebuilt
        for (const token of await foldedTokens(state, workshop.session, { known, folded, sources })) known.add(token)
        await forgetOtherMarks(workshop.session, known)
      }
      const ledger = await openLedger(state.ledger, { run: held.run })
      try {
        const generation = before?.current.generation ?? String(Date.now())
        const sources: Record<string, Rebuilt['sources'][string]> = {}
        for (const [id, lanes] of Object.entries(rebuilt.sources)) sources[id] = await withCursors(state, id, lanes)
        const aside = await setAsideCheckpoints(state.path)
        const checkpoints = await openCheckpoints(state.path, job.name, { after: generation })
        await checkpoints.save({
          epoch,
          sequence: String(rebuilt.planned.length + batches),
          sources,
          planned: rebuilt.planned,
        })
        await ledger.append([
          {
            type: 'recovered',
            who: options.who,
            generation: checkpoints.current.generation,
            stores: result.stores,
            batches,
          },
        ])
        return { ...result, aside, written: true }
      } finally {
        await ledger.close()
      }
    } finally {
      await workshop.close()
    }
  } finally {
    await held.close()
  }
}

/** The newest epoch that the ledger knows; it may be lost with the rest. */
async function ledgerEpoch(state: StateDir): Promise<bigint> {
  const ledger = await ledgerOf(state)
  const found = await withStateEngine(state, (session) =>
    session.value(
      `SELECT greatest(max(epoch), max(TRY_CAST(after->>'epoch' AS BIGINT)), 0)::VARCHAR FROM (${ledger}) WHERE type IN ('run_started', 'state_changed')`,
    ),
  )
  return BigInt(String(found ?? 0))
}
