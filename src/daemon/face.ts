/** What a daemon shows of itself: the shapes of its API. Names are those of JSON. */

import { shardText } from '../core/shard.ts'
import { type LiveRun, readLive } from '../runtime/live-file.ts'
import { together } from '../runtime/live-parts.ts'
import type { StateDir } from '../runtime/state-dir.ts'
import type { JobPart } from '../runtime/state-home.ts'
import { upcoming } from './due.ts'
import type { Lease } from './epoch.ts'
import type { AcceptedJob, InvalidFile } from './job-folder.ts'
import type { Act, JobBook, OpenSlot, SlotBook, SlotEnd, SlotKind } from './slot-book.ts'

/** What a run has said of itself longer ago says nothing about now. */
const LIVE_MS = 30_000

export interface DaemonFace {
  /** leading · standby · starting · draining. */
  readonly role: () => 'leading' | 'standby' | 'starting' | 'draining'
  readonly startedAt: string
  readonly version: string
  readonly folder: string
  /** For people. */
  readonly stateDir: string
  readonly stateOf: (part: JobPart) => StateDir
  /** Which daemon runs a part of a job; undefined: none. */
  readonly holderOf: (job: string, index: number) => string | undefined
  /** Seconds since the scheduler's last round, or since it last asked whether anybody leads. */
  readonly idleSeconds: () => number
  /** Of who decides about the job; undefined: of the place in which the daemon was started. */
  readonly lease: (job?: string) => Promise<(Lease & { readonly released: boolean }) | undefined>
  /** Places in which daemons share the times of jobs. */
  readonly shared: () => readonly SharedPlace[]
  /** It is this daemon that decides about the job. */
  readonly leads: (job: string) => boolean
  readonly book: () => Promise<SlotBook>
  /** Empty where another leads. */
  readonly jobs: () => ReadonlyMap<string, AcceptedJob>
  readonly invalid: () => readonly InvalidFile[]
  readonly reloads: () => { readonly ok: number; readonly failed: number }
  readonly active: () => readonly { readonly slot: OpenSlot; readonly seconds: number }[]
  readonly parallel: number
  readonly ticks: () => number
  readonly nowMs: () => number
  readonly trigger: (job: string, act: Act) => Promise<string>
  readonly setPaused: (job: string, act: Act, paused: boolean) => Promise<void>
}

/** Where daemons share the times of jobs. */
export interface SharedPlace {
  readonly place: string
  readonly role: string
  /** false: its server did not answer in time, and what is shown is what was known before. */
  readonly answers: boolean
}

export interface DaemonStatus {
  readonly schema_version: 1
  readonly role: string
  readonly version: string
  readonly pid: number
  readonly started_at: string
  readonly folder: string
  readonly state_dir: string
  readonly leader: {
    readonly epoch: number
    readonly pid: number
    readonly host: string
    readonly since: string
    readonly url: string | null
  } | null
  /** What this daemon does where others share the times of its jobs. */
  readonly shared: readonly SharedPlace[]
  readonly parallel: number
  readonly running: number
  readonly waiting: number
  /** Rounds of the scheduler. */
  readonly rounds: number
  readonly invalid: readonly InvalidFile[]
}

export interface JobLine {
  readonly job: string
  readonly file: string | null
  /** running · elsewhere (another daemon runs it, or decides about it) · waiting · retrying · paused · idle · removed. */
  readonly state: string
  readonly cron: string | null
  readonly timezone: string | null
  readonly after: readonly string[]
  /** It goes on until it is told to stop. */
  readonly forever: boolean
  readonly priority: number | null
  /** ISO 8601 UTC; null: by no clock, or paused. */
  readonly next: string | null
  readonly paused: Act | null
  readonly open: readonly OpenLine[]
  readonly last: SlotEnd | null
  readonly runs: { readonly ended: Readonly<Record<string, number>>; readonly passed: Readonly<Record<string, number>> }
  /** What the run says of itself that goes on for ever, or its parts together; null: none does, or it has said nothing for a while. */
  readonly live: LiveRun | null
  /** Records that wait in the sources of a job that goes on for ever, where these tell. */
  readonly lag: number | null
  /** Its parts; none where it is run whole. */
  readonly shards: readonly ShardLine[]
  /** Records read per second: now, or by the last run that read any. */
  readonly rate: number | null
  readonly gaps: number
  /** Rows that stores or consumers are owed. */
  readonly owed: number
}

export interface ShardLine {
  /** `2/8`; null: the whole job. */
  readonly shard: string | null
  /** Which daemon runs it; null: none. */
  readonly holder: string | null
  /** How long the run of this daemon goes on; null: there is none. */
  readonly seconds: number | null
  readonly live: LiveRun | null
}

export interface OpenLine {
  readonly slot: string
  readonly at: string
  readonly kind: SlotKind
  readonly shard: string | null
  readonly attempts: number
  readonly act: Act | null
  /** null: it waits. */
  readonly seconds: number | null
}

export async function statusOf(face: DaemonFace): Promise<DaemonStatus> {
  const [book, lease] = await Promise.all([face.book(), face.lease()])
  const open = [...book.jobs.values()].reduce((total, each) => total + each.open.length, 0)
  const running = face.active().length
  return {
    schema_version: 1,
    role: face.role(),
    version: face.version,
    pid: process.pid,
    started_at: face.startedAt,
    folder: face.folder,
    state_dir: face.stateDir,
    leader:
      lease === undefined || lease.released
        ? null
        : { epoch: lease.epoch, pid: lease.pid, host: lease.host, since: lease.since, url: lease.url },
    shared: face.shared(),
    parallel: face.parallel,
    running,
    waiting: open - running,
    rounds: face.ticks(),
    invalid: face.invalid(),
  }
}

export async function jobLines(face: DaemonFace): Promise<JobLine[]> {
  const book = await face.book()
  const names = new Set([
    ...face.jobs().keys(),
    ...[...book.jobs].filter(([, each]) => !each.removed).map(([name]) => name),
  ])
  const active = new Set(face.active().map(({ slot }) => slot.job))
  return Promise.all(
    [...names].sort().map(async (name) => {
      const job = book.job(name)
      const { forever = false, shards = 1 } = face.jobs().get(name)?.job.stream ?? {}
      if (!forever) return jobLine(face, name, job, [])
      const parts = await shardLines(face, name, job, shards)
      return jobLine(face, name, job, active.has(name) ? parts : [])
    }),
  )
}

function shardLines(face: DaemonFace, name: string, book: JobBook, shards: number): Promise<ShardLine[]> {
  const parts = Array.from({ length: shards }, (_, index) => (shards === 1 ? undefined : { index, of: shards }))
  const open = openLines(face, book)
  return Promise.all(
    parts.map(async (part) => {
      const shard = part === undefined ? null : shardText(part)
      const line = open.find((each) => each.shard === shard)
      const seconds = line?.seconds ?? null
      const live = seconds === null ? null : await liveRun(face, { job: name, ...(shard === null ? {} : { shard }) })
      const holder = seconds === null ? (face.holderOf(name, part?.index ?? 0) ?? null) : 'this daemon'
      return { shard, holder, seconds, live }
    }),
  )
}

async function liveRun({ stateOf, nowMs }: DaemonFace, part: JobPart): Promise<LiveRun | null> {
  const live = await readLive(stateOf(part).path)
  return live === undefined || Date.parse(live.at) < nowMs() - LIVE_MS ? null : live
}

function jobLine(face: DaemonFace, name: string, book: JobBook, parts: readonly ShardLine[]): JobLine {
  const live = together(parts.flatMap((part) => part.live ?? [])) ?? null
  const schedule = face.jobs().get(name)?.job.schedule
  const open = openLines(face, book)
  const next =
    schedule === undefined || book.paused !== null
      ? undefined
      : upcoming(name, schedule, book, face.nowMs(), 1)[0]?.start
  const last = book.recent[0] ?? null
  const told = book.recent.find(({ result }) => result !== undefined)?.result
  const busy = book.recent.find(({ result }) => (result?.read ?? 0) > 0)?.result
  return {
    job: name,
    file: book.file,
    state: stateOf(open, book, parts, face.leads(name)),
    cron: schedule?.cron ?? null,
    timezone: schedule?.cron === undefined ? null : schedule.timezone,
    after: schedule?.after ?? [],
    forever: face.jobs().get(name)?.job.stream.forever === true,
    priority: schedule?.priority ?? null,
    next: next === undefined ? null : new Date(next).toISOString(),
    paused: book.paused,
    open,
    last,
    runs: { ended: book.totals.ended, passed: book.totals.passed },
    live,
    lag: live?.lag ?? null,
    shards: parts.filter(({ shard }) => shard !== null),
    rate: live?.rate ?? (busy === undefined || busy.seconds === 0 ? null : Math.round(busy.read / busy.seconds)),
    gaps: live?.gaps ?? told?.gaps.length ?? 0,
    owed: live === null ? owedBy(told) : owedOf(live.stores),
  }
}

function stateOf(
  open: readonly OpenLine[],
  { paused, removed }: JobBook,
  parts: readonly ShardLine[],
  leads: boolean,
): string {
  if (open.some(({ seconds }) => seconds !== null)) return 'running'
  if (paused === null && parts.some(({ holder, seconds }) => holder !== null && seconds === null)) return 'elsewhere'
  if (open.some(({ attempts }) => attempts > 0) && !leads) return 'elsewhere'
  if (removed) return 'removed'
  if (open.some(({ attempts }) => attempts > 0)) return 'retrying'
  if (open.length > 0) return 'waiting'
  return paused === null ? 'idle' : 'paused'
}

function openLines(face: DaemonFace, { open }: JobBook): OpenLine[] {
  const active = new Map(face.active().map(({ slot, seconds }) => [slot.id, seconds]))
  return open.map(({ id, at, kind, shard, attempts, act }) => ({
    slot: id,
    at: new Date(at).toISOString(),
    kind,
    shard: shard ?? null,
    attempts,
    act: act ?? null,
    seconds: active.get(id) ?? null,
  }))
}

export interface RunLine extends Omit<SlotEnd, 'at' | 'id'> {
  readonly slot: string
  readonly at: string
}

/** Ended slots of one job, or of all, the newest first. */
export function runLines(book: SlotBook, job: string | undefined, limit: number): RunLine[] {
  const all = [...book.jobs].filter(([name]) => job === undefined || name === job).flatMap(([, { recent }]) => recent)
  return all
    .sort((a, b) => (a.ended_at < b.ended_at ? 1 : -1))
    .slice(0, limit)
    .map(({ id, at, ...rest }) => ({ slot: id, at: new Date(at).toISOString(), ...rest }))
}

/** Gaps that the last run of each job has told of. */
export function gapLines(book: SlotBook) {
  return lastResults(book).flatMap(({ job, slot, result }) => result.gaps.map((gap) => ({ job, slot, ...gap })))
}

/** What is owed since the last run of each job. */
export function owedLines(book: SlotBook) {
  return lastResults(book)
    .flatMap(({ job, slot, result }) => [
      ...Object.entries(result.stores).map(([store, { owed }]) => ({ job, slot, store, rows: owed })),
      ...Object.entries(result.consumers).map(([consumer, { owed }]) => ({ job, slot, consumer, rows: owed })),
    ])
    .filter(({ rows }) => rows > 0)
}

function lastResults(book: SlotBook) {
  return [...book.jobs].flatMap(([job, { recent, removed }]) => {
    const last = removed ? undefined : recent.find(({ result }) => result !== undefined)
    return last?.result === undefined ? [] : [{ job, slot: last.id, result: last.result }]
  })
}

function owedBy(told: SlotEnd['result']): number {
  return told === undefined ? 0 : owedOf(told.stores) + owedOf(told.consumers)
}

function owedOf(map: Readonly<Record<string, { readonly owed: number }>>): number {
  return Object.values(map).reduce((total, { owed }) => total + owed, 0)
}
