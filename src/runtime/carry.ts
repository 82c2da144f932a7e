/** What goes from the parts of a job to others that have their lanes: where lanes stand, which batches are planned, and what was found of both. */
import { mkdir, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { AdflowError, localIoError } from '../core/errors.ts'
import type { Job } from '../core/job/job.ts'
import { comparePositions } from '../core/positions.ts'
import { ownsLane, shardText } from '../core/shard.ts'
import { tokenOf } from '../core/token.ts'
import { readTokens, TokenLog } from '../core/token-log.ts'
import { whoIsThis } from '../core/who.ts'
import { openLedger } from '../lineage/ledger.ts'
import { headText } from '../lineage/ledger-line.ts'
import { ASK_STORES, type Checkpoint, type CheckpointState, type PlannedBatch } from './checkpoint-slot.ts'
import { openCheckpoints } from './checkpoints.ts'
import type { HeldJob } from './hold.ts'
import { Spool } from './spool.ts'
import { type StateDir, spoolsIn } from './state-dir.ts'

export interface CarriedPart {
  /** undefined: the part has never run. */
  readonly checkpoint: Checkpoint | undefined
  /** Batches that are planned, and that every consumer of the output has had. */
  readonly passed: readonly { readonly output: string; readonly token: string }[]
}

/** `settle` pays what is owed; asked only where something may be under way. @throws AdflowError STORE_OWED */
export async function readPart(state: StateDir, job: Job, settle: () => Promise<void>): Promise<CarriedPart> {
  const before = await openCheckpoints(state.path, job.name)
  if (before.fresh) return { checkpoint: undefined, passed: [] }
  if (before.current.planned.length > 0 || (await owedIn(state)) !== undefined) await settle()
  const owed = await owedIn(state)
  if (owed !== undefined)
    throw new AdflowError(
      'STORE_OWED',
      `${job.name} cannot be divided anew while ${owed.rows} rows are owed to ${owed.to}`,
      {
        hint: `they lie in ${owed.folder}; the next run pays them, or put \`stream.shards\` back to ${job.stream.shards}`,
      },
    )
  const checkpoint = (await openCheckpoints(state.path, job.name)).current
  return { checkpoint, passed: await passedIn(state, job, checkpoint) }
}

async function owedIn(state: StateDir): Promise<{ to: string; rows: number; folder: string } | undefined> {
  const spools = [
    ...(await spoolsIn(state)).map((id) => [id, state.spoolOf(id)] as const),
    ...(await namesIn(state.outbox)).map((output) => [`consumers of ${output}`, state.outboxOf(output)] as const),
  ]
  for (const [to, folder] of spools) {
    const spool = new Spool(folder)
    await spool.open()
    if (spool.size > 0) return { to, rows: spool.rows, folder }
  }
  return undefined
}

async function passedIn(state: StateDir, job: Job, { planned, epoch }: Checkpoint): Promise<CarriedPart['passed']> {
  if (planned.length === 0) return []
  const passed: { output: string; token: string }[] = []
  for (const output of await namesIn(state.outbox)) {
    const tokens = await readTokens(join(state.outboxOf(output), 'passed'))
    for (const { source, ...range } of planned) {
      const parts = { job: job.name, source, range, epoch }
      const token = tokenOf(output === 'main' ? parts : { ...parts, output })
      if (tokens.has(token)) passed.push({ output, token })
    }
  }
  return passed
}

async function namesIn(folder: string): Promise<readonly string[]> {
  try {
    return await readdir(folder)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw localIoError(error, `list ${folder}`)
  }
}

/** Whatever the part was before, it is this now. Once or more. @throws AdflowError STATE_SHARDS */
export async function writePart(
  { state, run }: HeldJob,
  { job, from, of }: { readonly job: Job; readonly from: readonly CarriedPart[]; readonly of: number },
): Promise<void> {
  const parts = from.flatMap(({ checkpoint }) => checkpoint ?? [])
  // Whoever reads a lane first begins where nothing was read: as it is.
  if (parts.length === 0) return
  const checkpoints = await openCheckpoints(state.path, job.name)
  const carried = carriedTo(state, job, parts, checkpoints.current)
  for (const { output, token } of from.flatMap(({ passed }) => passed)) {
    await mkdir(state.outboxOf(output), { recursive: true, mode: 0o700 })
    const log = await TokenLog.open(join(state.outboxOf(output), 'passed'))
    await log.add(token).finally(() => log.close())
  }
  const ledger = await openLedger(state.ledger, { run })
  const lanes = Object.values(carried.sources).reduce((total, own) => total + Object.keys(own).length, 0)
  await ledger
    .append([
      {
        type: 'state_changed',
        who: whoIsThis(),
        what: `divided anew: ${of} shards before`,
        before: { shards: of },
        after: { shard: shardText(state.shard ?? { index: 0, of: 1 }), lanes, planned: carried.planned.length },
      },
    ])
    .finally(() => ledger.close())
  const next = { ...carried, extra: { ...carried.extra, ledger: headText(ledger.head) } }
  // Both slots: the one before may be of the time before the last division but one.
  await checkpoints.save(next)
  await checkpoints.save(next)
}

function carriedTo({ shard }: StateDir, job: Job, parts: readonly Checkpoint[], before: Checkpoint): CheckpointState {
  const most = (values: readonly string[]) => values.reduce((a, b) => (comparePositions(a, b) < 0 ? b : a))
  const epoch = most([before.epoch, ...parts.map((part) => part.epoch)])
  const older = parts.find((part) => part.epoch !== epoch && part.planned.length > 0)
  if (older !== undefined)
    throw new AdflowError(
      'STATE_SHARDS',
      `${job.name} cannot be divided anew: batches are under way under epoch ${older.epoch}, and other parts have ${epoch}`,
      { hint: 'put `stream.shards` back for one run, which finishes them; nothing was changed' },
    )
  const first = BigInt(most([before.sequence, ...parts.map(({ sequence }) => sequence)]))
  const planned = parts
    .flatMap((part) => part.planned)
    .filter(({ lane }) => ownsLane(shard, lane))
    .map((plan, index): PlannedBatch => ({ ...plan, sequence: String(first + BigInt(index)) }))
  const sources: Record<string, CheckpointState['sources'][string]> = {}
  for (const part of parts)
    for (const [source, lanes] of Object.entries(part.sources)) {
      // Nothing is owed any more.
      const own = Object.entries(lanes).flatMap(([lane, { loaders: _, ...position }]) =>
        ownsLane(shard, lane) ? [[lane, position] as const] : [],
      )
      sources[source] = { ...sources[source], ...Object.fromEntries(own) }
    }
  const evolved = parts.find((part) => part.evolved !== undefined)?.evolved
  const asked = parts.some(({ extra }) => extra?.[ASK_STORES] === true)
  return {
    epoch,
    sequence: String(first + BigInt(planned.length)),
    sources,
    planned,
    ...(evolved === undefined ? {} : { evolved }),
    extra: { baseline: baselineOf(parts), ...(asked ? { [ASK_STORES]: true } : {}) },
  }
}

/** Batches are as large as before, whoever loads them. */
function baselineOf(parts: readonly Checkpoint[]): { batches: number; rows: number } {
  const sum = { batches: 0, rows: 0 }
  for (const { extra } of parts) {
    const { batches = 0, rows = 0 } = (extra?.['baseline'] ?? {}) as Partial<typeof sum>
    sum.batches += batches
    sum.rows += rows
  }
  return sum
}
