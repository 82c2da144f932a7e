/** A daemon and its jobs, for people. */
import type { DaemonStatus, JobLine, RunLine, ShardLine } from '../daemon/face.ts'
import { integer, table } from './table.ts'

export interface DaemonReport {
  readonly schema_version: 1
  readonly status: DaemonStatus
  readonly jobs: readonly JobLine[]
  readonly runs: readonly RunLine[]
}

/** `now`: milliseconds since the epoch, by which "in 5 min" is told. */
export function daemonText({ status, jobs, runs }: DaemonReport, now: number): string {
  return [headText(status), silentText(status), jobsText(jobs, now), runsText(runs), invalidText(status)]
    .filter(Boolean)
    .join('\n\n')
}

function headText({ role, version, pid, leader, running, parallel, waiting, folder }: DaemonStatus): string {
  const leads = leader === null ? 'nobody leads' : `epoch ${leader.epoch}, process ${leader.pid} on ${leader.host}`
  return `adflow ${version} · ${role} (process ${pid}; ${leads}) · ${running} of ${parallel} runs, ${waiting} wait · ${folder}`
}

function silentText({ shared }: DaemonStatus): string {
  const silent = shared.filter(({ answers }) => !answers)
  return silent
    .map(({ place }) => `${place} does not answer: what is shared there is shown as it was known last`)
    .join('\n')
}

function jobsText(jobs: readonly JobLine[], now: number): string {
  if (jobs.length === 0) return 'no jobs'
  return table(
    [
      { name: 'job' },
      { name: 'state' },
      { name: 'schedule' },
      { name: 'next' },
      { name: 'last' },
      { name: 'took', align: 'right' },
      { name: 'read', align: 'right' },
      { name: 'rows/s', align: 'right' },
      { name: 'lag', align: 'right' },
      { name: 'owed', align: 'right' },
      { name: 'gaps', align: 'right' },
    ],
    jobs.flatMap((line) => [
      [
        line.job,
        stateText(line),
        scheduleText(line),
        line.next === null ? '–' : ahead(Date.parse(line.next) - now),
        line.last === null ? '–' : `${line.last.status}, ${ahead(Date.parse(line.last.ended_at) - now)}`,
        line.last === null ? '–' : spanText(line.last.seconds),
        line.live?.read ?? line.last?.result?.read ?? '–',
        line.rate ?? '–',
        line.lag ?? '–',
        line.owed,
        line.gaps,
      ],
      ...line.shards.map(shardCells),
    ]),
  )
}

function shardCells({ shard, holder, seconds, live }: ShardLine): (string | number)[] {
  const state = seconds === null ? 'waiting' : `running ${spanText(seconds)}`
  const owed = live === null ? '–' : Object.values(live.stores).reduce((total, store) => total + store.owed, 0)
  const where = holder ?? 'nobody'
  return [
    `  ${shard}`,
    holder === null || seconds !== null ? state : 'elsewhere',
    where,
    '',
    '',
    '',
    live?.read ?? '–',
    live?.rate ?? '–',
    live?.lag ?? '–',
    owed,
    live?.gaps ?? '–',
  ]
}

function stateText({ state, open, paused }: JobLine): string {
  const at = open.find(({ seconds }) => seconds !== null)
  if (at?.seconds != null) return `${state} ${spanText(at.seconds)}${at.attempts > 1 ? `, run ${at.attempts}` : ''}`
  return paused === null ? state : `paused by ${paused.who}`
}

function scheduleText({ cron, timezone, after, forever }: JobLine): string {
  if (forever) return 'for ever'
  if (cron !== null) return timezone === 'UTC' ? cron : `${cron} ${timezone}`
  return after.length === 0 ? 'when asked' : `after ${after.join(', ')}`
}

function runsText(runs: readonly RunLine[]): string {
  if (runs.length === 0) return ''
  return table(
    [
      { name: 'ended' },
      { name: 'time' },
      { name: 'how' },
      { name: 'took', align: 'right' },
      { name: 'read', align: 'right' },
      { name: '' },
    ],
    runs.map(({ ended_at, slot, status, seconds, result, message }) => [
      ended_at.slice(0, 19).replace('T', ' '),
      slot.replace('.000Z', 'Z'),
      status,
      spanText(seconds),
      result?.read ?? '–',
      message?.split('\n', 1)[0]?.slice(0, 60) ?? '',
    ]),
  )
}

function invalidText({ invalid }: DaemonStatus): string {
  return invalid
    .map(({ file, problems, keeps }) => {
      const goesOn = keeps === null ? 'it is not run' : `${keeps} goes on as it was`
      return [`${file} has mistakes; ${goesOn}`, ...problems.map(({ at, message }) => `  ${at}  ${message}`)].join('\n')
    })
    .join('\n')
}

function ahead(ms: number): string {
  const span = spanText(Math.abs(ms) / 1000)
  return ms >= 0 ? `in ${span}` : `${span} ago`
}

function spanText(seconds: number): string {
  if (seconds < 60) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`
  return seconds < 172_800 ? `${Math.round(seconds / 3600)} h` : `${integer(Math.round(seconds / 86_400))} d`
}
