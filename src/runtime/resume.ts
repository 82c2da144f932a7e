/**
 * What the stores remember against what the checkpoint says, before anything is read. A store that is ahead (the checkpoint is
 * an older generation, or comes from a backup) must get exactly the same ranges again, for the other stores' sake; it refuses
 * them itself. What batches have left behind whose plan is lost and that no store has is forgotten.
 */
import type { Position, Range, Since, StoreRecord } from '../core/contracts.ts'
import { AdflowError } from '../core/errors.ts'
import { IDLE_SOURCE, idleClock } from '../core/idle.ts'
import type { Job } from '../core/job/job.ts'
import { comparePositions, START } from '../core/positions.ts'
import { ownsLane } from '../core/shard.ts'
import { epochOf, tokenOf } from '../core/token.ts'
import { ASK_STORES, type CheckpointState, type PlannedBatch } from './checkpoint-slot.ts'
import type { Checkpoints } from './checkpoints.ts'
import type { Saver } from './group-saver.ts'
import { foldedTokens, forgetOtherMarks, markedNumbers, removeOrphanQuarantine } from './orphans.ts'
import type { Outbox } from './outbox.ts'
import type { StateDir } from './state-dir.ts'
import type { Store } from './store.ts'
import type { Workshop } from './workshop.ts'

export interface ResumeParts {
  readonly state: StateDir
  readonly stores: readonly Store[]
  readonly checkpoints: Checkpoints
  readonly saver: Saver
  readonly workshop: Workshop
  readonly outbox: Outbox | undefined
  warn(text: string): void
}

/** @throws AdflowError STATE_MISSING, or STORE_UNAVAILABLE where plans may be lost and a store cannot say what it has. */
export async function resume(parts: ResumeParts): Promise<void> {
  const { stores, checkpoints, saver, workshop, warn } = parts
  const { job } = workshop.pipeline
  const doubtful =
    saver.state.extra?.[ASK_STORES] === true ||
    (checkpoints.fresh && workshop.pipeline.stateful && (await markedNumbers(workshop.session)).size > 0)
  if (doubtful) requireAnswers(stores)
  const whole = doubtful || checkpoints.fresh
  const histories = await historiesOf(parts, whole ? undefined : sinceOf(saver.state))
  const remembered = new Set(histories.flatMap(({ records }) => records.map(({ token }) => token))).size
  if (checkpoints.fresh && remembered > 0)
    throw new AdflowError(
      'STATE_MISSING',
      `the stores hold ${remembered} ${remembered === 1 ? 'batch' : 'batches'} of job ${job.name}, but ${parts.state.path} has no checkpoint`,
      { hint: `point --state-dir at the state of this job, or run \`adflow recover ${job.file}\`; nothing was loaded` },
    )
  const now = new Date().toISOString()
  const ahead = batchesAhead(saver.state, withEdges(parts, histories), doubtful)
  if (doubtful) await forgetOrphans(parts, [...saver.state.planned, ...ahead], histories)
  if (ahead.length > 0)
    warn(
      `the stores are ${ahead.length} ${ahead.length === 1 ? 'batch' : 'batches'} ahead of the checkpoint: these ranges are repeated exactly, and the stores refuse them`,
    )
  if (ahead.length === 0 && !doubtful) return
  await saver.update((draft) => {
    for (const batch of ahead) {
      const clock = batch.source === IDLE_SOURCE ? idleClock(batch) : (batch.clock ?? now)
      draft.planned.push({ ...batch, clock, sequence: draft.sequence })
      draft.sequence = String(BigInt(draft.sequence) + 1n)
    }
    const { [ASK_STORES]: _, ...extra } = draft.extra ?? {}
    draft.extra = extra
  })
}

/** What a source that cannot be read again gave under an earlier epoch is superseded: its lane was put back since, or stands behind it. */
function canComeAgain({ workshop, saver }: ResumeParts, input: string, record: StoreRecord): boolean {
  const source = workshop.extractors.find(({ config }) => config.id === record.source)
  if (source?.extractor.replayable !== false) return true
  const epoch = epochOf(workshop.pipeline.job.name, input, record)
  return epoch === undefined || epoch === BigInt(saver.state.epoch)
}

/**
 * The batches that may be repeated, without what stores know as a whole only: nothing of that can be cut again as it was. Of an epoch of which
 * a lane has such a range its other batches do not count either: under the epoch of now they would come under other tokens anyway.
 * @throws AdflowError STATE_MISSING where a lane stands in or before such a range of this epoch.
 */
function withEdges(parts: ResumeParts, histories: readonly History[]): StoreRecord[][] {
  const { saver, state, workshop } = parts
  const { job } = workshop.pipeline
  const { epoch, planned, sources } = saver.state
  const former = new Set<string>()
  const placeOf = ({ source, range }: StoreRecord, of: bigint | undefined) =>
    JSON.stringify([source, range.lane, `${of}`])
  for (const { input, records } of histories)
    for (const record of records) {
      if (record.folded === undefined) continue
      const { lane, to } = record.range
      const of = epochOf(job.name, input, record)
      if (of !== BigInt(epoch)) former.add(placeOf(record, of))
      else if (
        !reaches(
          sources[record.source]?.[lane]?.at ?? START,
          planned.filter((own) => own.source === record.source && own.lane === lane),
          to,
        )
      )
        throw new AdflowError(
          'STATE_MISSING',
          `a store has ${lane} of ${record.source} up to ${to}, and no longer knows which batches that was; by ${state.path} the job stands before it, at ${sources[record.source]?.[lane]?.at ?? START}`,
          {
            hint: `\`adflow recover ${job.file} --force\` goes on behind what the stores have; \`adflow state rewind ${job.file} ${record.source} --reload\` loads it once more; nothing was loaded`,
          },
        )
    }
  return histories.map(({ input, records }) =>
    records.filter(
      (record) =>
        record.folded === undefined &&
        canComeAgain(parts, input, record) &&
        (former.size === 0 || !former.has(placeOf(record, epochOf(job.name, input, record)))),
    ),
  )
}

/** Whether a lane gets from its position to `to` by what is planned. */
function reaches(position: Position, planned: readonly PlannedBatch[], to: Position): boolean {
  let at = position
  for (const range of planned.toSorted((a, b) => comparePositions(a.from, b.from)))
    if (comparePositions(range.from, at) <= 0 && comparePositions(range.to, at) > 0) at = range.to
  return comparePositions(at, to) >= 0
}

interface History {
  readonly input: string
  readonly records: readonly StoreRecord[]
}

/** What stores have, and what they and the consumers will get of batches of the past. */
async function historiesOf(
  { state, stores, outbox, workshop }: ResumeParts,
  from: Since | undefined,
): Promise<History[]> {
  const { job } = workshop.pipeline
  // Batches that came through a pipe or from a source that the job no longer has are no business of this run.
  const sources = new Set([...job.extract.map(({ id }) => id), IDLE_SOURCE])
  const isOwn = (source: string, lane: string) => sources.has(source) && ownsLane(state.shard, lane)
  const since: Since | undefined = from && ((source, lane) => (isOwn(source, lane) ? from(source, lane) : undefined))
  const context = { engine: workshop.session, ...(since === undefined ? {} : { since }) }
  const histories: History[] = []
  for (const { down, loader, input, spool } of stores) {
    if (down === undefined && loader.history !== undefined)
      histories.push({ input, records: await loader.history(job.name, context) })
    histories.push({ input, records: spool.owed })
  }
  for (const file of outbox?.files ?? []) histories.push({ input: file.output, records: [file] })
  return histories.map(({ input, records }) => ({
    input,
    records: records.filter(({ source, range }) => isOwn(source, range.lane)),
  }))
}

/** What begins before the position of its lane, or in what is planned from there on, changes nothing of batchesAhead(), where no plan may be lost. */
export function sinceOf({ sources, planned }: Pick<CheckpointState, 'sources' | 'planned'>): Since {
  const ends = new Map(planned.map(({ source, lane, from, to }) => [JSON.stringify([source, lane, from]), to]))
  return (source, lane) => {
    let at = sources[source]?.[lane]?.at ?? START
    for (;;) {
      const to = ends.get(JSON.stringify([source, lane, at]))
      if (to === undefined || comparePositions(to, at) <= 0) return at
      at = to
    }
  }
}

/** Going on without the answer of a store could lose the records of a batch to its own marks, or load it there twice. */
function requireAnswers(stores: readonly Store[]): void {
  const silent = stores.find(({ down, loader }) => down !== undefined && loader.history !== undefined)
  if (silent === undefined) return
  throw new AdflowError(
    'STORE_UNAVAILABLE',
    `plans of batches may be lost, and only the stores know what they have of them; ${silent.id} cannot be asked: ${silent.down?.message}`,
    {
      cause: silent.down,
      hint: 'mend the store and run again, or take it out of the job file; nothing was read',
    },
  )
}

async function forgetOrphans(
  { state, saver, workshop }: ResumeParts,
  planned: readonly Omit<PlannedBatch, 'sequence' | 'clock'>[],
  histories: readonly History[],
): Promise<void> {
  const { job, stateful } = workshop.pipeline
  const { epoch } = saver.state
  const known = new Set<string>()
  for (const plan of planned) known.add(tokenOf({ job: job.name, source: plan.source, range: plan, epoch }))
  for (const { input, records } of histories)
    for (const record of records) for (const token of batchTokens(job, input, record, epoch)) known.add(token)
  if (stateful) {
    const folded = histories.flatMap(({ records }) => records.filter((record) => record.folded !== undefined))
    const { sources } = saver.state
    for (const token of await foldedTokens(state, workshop.session, { known, folded, sources })) known.add(token)
    await forgetOtherMarks(workshop.session, known)
  }
  await removeOrphanQuarantine(state, known)
}

/**
 * The token that the batch behind a record of a store has in marks, ledger and quarantine. Where the store reads another output
 * its own token is made of that too. Where no epoch fits (the loader read another output then), any may be meant.
 */
export function batchTokens(
  job: Pick<Job, 'name'>,
  input: string,
  record: StoreRecord,
  newestEpoch: string,
): readonly string[] {
  const { source, range } = record
  const token = (epoch: bigint) => tokenOf({ job: job.name, source, range, epoch: String(epoch) })
  const epoch = epochOf(job.name, input, record, BigInt(newestEpoch))
  if (epoch !== undefined) return [token(epoch)]
  return Array.from({ length: Number(newestEpoch) + 1 }, (_, index) => token(BigInt(index)))
}

/** Batches past the checkpoint that some store holds and no plan names, from where each lane stands; and what lies between
 *  them: of several batches that were under way at once a later one may be in a store, and an earlier one in none. Of a lane
 *  without a position a backfill may have loaded a part: what lies before that is no hole, unless plans may be lost. */
export function batchesAhead(
  state: Pick<CheckpointState, 'sources' | 'planned'>,
  histories: readonly (readonly StoreRecord[])[],
  doubtful: boolean,
): readonly (Omit<PlannedBatch, 'sequence' | 'clock'> & { readonly clock?: string })[] {
  const lanes = Map.groupBy(histories.flat(), ({ source, range }) => JSON.stringify([source, range.lane]))
  for (const { source, lane } of state.planned) {
    // Stores may tell nothing of a lane whose position they do not reach; what is planned may have a hole before it all the same.
    const key = JSON.stringify([source, lane])
    if (!lanes.has(key)) lanes.set(key, [])
  }
  return [...lanes].flatMap(([key, records]) => {
    const [source, lane] = JSON.parse(key) as [string, string]
    const planned = state.planned.filter((batch) => batch.source === source && batch.lane === lane)
    const byFrom = new Map(records.map((record) => [record.range.from, record]))
    const known = [...planned, ...records.map((record) => record.range)].sort((a, b) =>
      comparePositions(a.from, b.from),
    )
    const bound = new Map<Position, Pick<Range, 'to'>>(planned.map((batch) => [batch.from, batch]))
    const ahead: (Omit<PlannedBatch, 'sequence' | 'clock'> & { readonly clock?: string })[] = []
    const position = state.sources[source]?.[lane]?.at
    const fills = doubtful || position !== undefined
    let at = position ?? START
    for (;;) {
      const record = byFrom.get(at)
      const next = fills ? known.find((other) => comparePositions(other.from, at) > 0)?.from : undefined
      const to = bound.get(at)?.to ?? record?.range.to ?? next
      if (to === undefined || comparePositions(to, at) <= 0) return ahead
      if (!bound.has(at))
        ahead.push({ source, lane, from: at, to, ...(record?.clock === undefined ? {} : { clock: record.clock }) })
      at = to
    }
  })
}
