/** The metrics page, in the text format of Prometheus (version 0.0.4). Figures of runs are those of the journal: they go on over restarts. */
import type { LiveRun } from '../runtime/live-file.ts'
import { type DaemonFace, jobLines } from './face.ts'
import type { Totals } from './slot-book.ts'

type Labels = Readonly<Record<string, string>>
type Sample = readonly [labels: Labels, value: number]

export async function metricsText(face: DaemonFace): Promise<string> {
  const page = new Page()
  const book = await face.book()
  const leading = face.role() === 'leading'
  page.add('adflow_build_info', 'gauge', 'Version of adflow.', [[{ version: face.version }, 1]])
  page.add('adflow_daemon_leader', 'gauge', '1: this daemon schedules. 0: another does.', [[{}, leading ? 1 : 0]])
  page.add('adflow_daemon_epoch', 'gauge', 'Epoch of the daemon that leads.', [[{}, (await face.lease())?.epoch ?? 0]])
  page.add('adflow_daemon_idle_seconds', 'gauge', 'Since the last round of the scheduler.', [[{}, face.idleSeconds()]])
  page.add('adflow_daemon_rounds_total', 'counter', 'Rounds of the scheduler.', [[{}, face.ticks()]])
  page.add('adflow_process_resident_bytes', 'gauge', 'Resident memory of the daemon, without its runs.', [
    [{}, process.memoryUsage.rss()],
  ])
  page.add('adflow_config_reloads_total', 'counter', 'Job files that were looked at because they had changed.', [
    [{ result: 'ok' }, face.reloads().ok],
    [{ result: 'failed' }, face.reloads().failed],
  ])
  page.add('adflow_config_reload_failed', 'gauge', 'Job files that are not taken up as they stand.', [
    [{}, face.invalid().length],
  ])
  const lines = (await jobLines(face)).filter(({ job }) => face.leads(job))
  const perJob = (value: (line: (typeof lines)[number]) => number | undefined): Sample[] =>
    lines.flatMap((line) => {
      const found = value(line)
      return found === undefined ? [] : [[{ job_name: line.job }, found] as const]
    })
  page.add(
    'adflow_job_running',
    'gauge',
    '1: a run of the job goes on.',
    perJob(({ state }) => (state === 'running' ? 1 : 0)),
  )
  page.add(
    'adflow_job_paused',
    'gauge',
    '1: the job is paused.',
    perJob(({ paused }) => (paused === null ? 0 : 1)),
  )
  page.add(
    'adflow_job_waiting_slots',
    'gauge',
    'Claimed times that wait for a run.',
    perJob(({ open }) => open.filter(({ seconds }) => seconds === null).length),
  )
  page.add(
    'adflow_job_next_start_timestamp_seconds',
    'gauge',
    'When the job starts next.',
    perJob(({ next }) => (next === null ? undefined : Date.parse(next) / 1000)),
  )
  page.add(
    'adflow_job_last_run_seconds',
    'gauge',
    'How long the last run took.',
    perJob(({ last }) => last?.seconds),
  )
  page.add(
    'adflow_job_last_run_ok',
    'gauge',
    '1: the last time ended well.',
    perJob(({ last }) => (last === null ? undefined : last.ok ? 1 : 0)),
  )
  page.add(
    'adflow_job_last_end_timestamp_seconds',
    'gauge',
    'When the last time ended.',
    perJob(({ last }) => (last === null ? undefined : Date.parse(last.ended_at) / 1000)),
  )
  page.add(
    'adflow_job_gaps',
    'gauge',
    'Gaps that the last run has told of.',
    perJob(({ gaps }) => gaps),
  )
  page.add(
    'adflow_job_stores_down',
    'gauge',
    'Stores to which a job that goes on for ever does not write now.',
    perJob((line) => {
      const stores = line.live === null ? undefined : Object.values(line.live.stores)
      return stores?.filter(({ down }) => down !== null).length
    }),
  )
  page.add(
    'adflow_job_lag_records',
    'gauge',
    'Records that wait in the sources of a job that goes on for ever, where these tell.',
    lines.flatMap(({ job, lag, shards }): Sample[] =>
      shards.length === 0
        ? lag === null
          ? []
          : [[{ job_name: job }, lag]]
        : shards.flatMap(({ shard, live }): Sample[] =>
            shard === null || live?.lag == null ? [] : [[{ job_name: job, shard }, live.lag]],
          ),
    ),
  )
  page.add(
    'adflow_job_shard_running',
    'gauge',
    '1: this daemon runs that part of the job.',
    lines.flatMap(({ job, shards }) =>
      shards.map(({ shard, seconds }): Sample => [{ job_name: job, shard: shard ?? '' }, seconds === null ? 0 : 1]),
    ),
  )
  page.add(
    'adflow_job_owed_rows',
    'gauge',
    'Rows that stores and consumers are owed.',
    perJob(({ owed }) => owed),
  )
  const live = new Map(lines.map((line) => [line.job, line.live]))
  const totals = [...book.jobs]
    .filter(([job, { removed }]) => !removed && face.leads(job))
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([job, { totals: ended }]) => [job, { totals: withLive(ended, live.get(job) ?? null) }] as const)
  const counter = (name: string, help: string, value: (each: (typeof totals)[number][1]['totals']) => number) =>
    page.add(
      name,
      'counter',
      help,
      totals.map(([job, each]) => [{ job_name: job }, value(each.totals)]),
    )
  const counters = (
    name: string,
    help: string,
    label: string,
    value: (each: (typeof totals)[number][1]['totals']) => Readonly<Record<string, number>>,
  ) =>
    page.add(
      name,
      'counter',
      help,
      totals.flatMap(([job, each]) =>
        Object.entries(value(each.totals)).map(([key, count]): Sample => [{ job_name: job, [label]: key }, count]),
      ),
    )
  counters(
    'adflow_slots_ended_total',
    'Scheduled times that have had their run, by how it ended.',
    'status',
    ({ ended }) => ended,
  )
  counters('adflow_slots_passed_total', 'Scheduled times without a run, by why.', 'reason', ({ passed }) => passed)
  counter('adflow_run_attempts_total', 'Runs that were started.', ({ attempts }) => attempts)
  counter('adflow_run_seconds_total', 'Time that runs took.', ({ seconds }) => seconds)
  counter('adflow_read_bytes_total', 'Bytes of records that were read.', ({ bytes }) => bytes)
  counter('adflow_records_read_total', 'Records that were read.', ({ read }) => read)
  counter('adflow_records_quarantined_total', 'Records that were rejected.', ({ quarantined }) => quarantined)
  counter('adflow_records_filtered_total', 'Records that steps took out.', ({ filtered }) => filtered)
  counter('adflow_records_deduplicated_total', 'Records that were there already.', ({ deduplicated }) => deduplicated)
  counters('adflow_rows_loaded_total', 'Rows that were written, by store.', 'store', ({ loaded }) => loaded)
  return page.text
}

/** A run that goes on for ever counts while it does. */
function withLive(ended: Totals, live: LiveRun | null): Totals {
  if (live === null) return ended
  const { bytes, read, quarantined, filtered, deduplicated, stores } = live
  const loaded = { ...ended.loaded }
  for (const [store, now] of Object.entries(stores)) loaded[store] = (loaded[store] ?? 0) + now.loaded
  return {
    ...ended,
    bytes: ended.bytes + bytes,
    read: ended.read + read,
    quarantined: ended.quarantined + quarantined,
    filtered: ended.filtered + filtered,
    deduplicated: ended.deduplicated + deduplicated,
    loaded,
  }
}

class Page {
  text = ''

  add(name: string, type: 'gauge' | 'counter', help: string, samples: readonly Sample[]): void {
    if (samples.length === 0) return
    this.text += `# HELP ${name} ${help.replaceAll('\\', '\\\\').replaceAll('\n', '\\n')}\n# TYPE ${name} ${type}\n`
    for (const [labels, value] of samples) {
      const list = Object.entries(labels).map(([key, each]) => `${key}="${escaped(each)}"`)
      this.text += `${name}${list.length === 0 ? '' : `{${list.join(',')}}`} ${value}\n`
    }
  }
}

function escaped(value: string): string {
  return value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')
}
