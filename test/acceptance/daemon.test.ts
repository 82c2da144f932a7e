import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { DaemonSite, faketime, type RunningDaemon, until } from '../harness/daemons.ts'
import { duckdbRows } from '../harness/engine.ts'

const LONG = process.env['ADFLOW_TEST_LONG'] === '1'
const ROTATIONS = LONG ? 20 : 3
/** The promise is 15 s; a test under load gets a little more than nothing of it. */
const TAKEOVER_MS = 15_000
const BIG_ROWS = 200_000
const HUGE_ROWS = 1_000_000

describe('two daemons on one state directory', () => {
  it.concurrent(`run each time once, while they are killed or stopped in turn, ${ROTATIONS} times`, async ({
    expect,
  }) => {
    await using site = new DaemonSite()
    site.job('often', '{ cron: "*/3 * * * * *", overlap: queue_one, missed: all }')
    let leader = site.start()
    await until('the first leads', () => leader.leads)
    let standby = site.start()
    await until('the second stands by', () => standby.says(/^stands by/) !== undefined)
    for (let round = 0; round < ROTATIONS; round += 1) {
      const before = site.runs('often').length
      await until('a run ends', () => site.runs('often').length > before)
      leader.kill(round % 2 === 0 ? 'SIGKILL' : 'SIGTERM')
      await until('the other leads', () => standby.leads, TAKEOVER_MS)
      await leader.ended
      leader = standby
      standby = site.start()
    }
    const before = site.runs('often').length
    await until('two more runs end', () => site.runs('often').length >= before + 2)
    leader.kill('SIGTERM')
    standby.kill('SIGTERM')
    expect(await Promise.all([leader.ended, standby.ended])).toEqual([0, 0])

    expectOnce(site, 'often')
    // Under load a time may find two others waiting; then it is passed over, which is an answer too.
    const passed = site.daemons.flatMap(({ lines }) =>
      lines.flatMap(({ to, reason }) => (reason === 'overlap' ? [`${to}`] : [])),
    )
    const times = [...new Set([...done(site, 'often'), ...passed])].sort()
    const first = Date.parse(times[0] ?? '')
    expect(times).toEqual(times.map((_, index) => new Date(first + index * 3000).toISOString()))
    expect(await rowsOf(site, 'often')).toBe(2)
  })

  it.concurrent('keep the run of a leader that is killed, and one that was stopped and wakes up does nothing more', async ({
    expect,
  }) => {
    await using site = new DaemonSite()
    bigFile(site, HUGE_ROWS)
    site.job(
      'big',
      '{ cron: "*/2 * * * * *", overlap: queue_one }',
      'resources: { chunk: 60kB, in_flight: 1, parallel: 1 }\n',
    )
    const first = site.start()
    await until('the run has begun', () => site.begun('big').length > 0)
    const second = site.start()
    await until('the second stands by', () => second.says(/^stands by/) !== undefined)
    first.kill('SIGKILL')
    const took = await until('the second leads', () => second.leads, TAKEOVER_MS)
    expect(took).toBeLessThan(TAKEOVER_MS)
    await until('it looks after the run', () => second.says(/goes on; this daemon looks after it/) !== undefined)
    await until('the run ends', () => site.runs('big').length > 0, 60_000)
    expect(site.begun('big').filter((slot) => slot === site.runs('big')[0]?.slot)).toHaveLength(1)

    const third = site.start()
    await until('the third stands by', () => third.says(/^stands by/) !== undefined)
    second.kill('SIGSTOP')
    const silent = await until('the third leads', () => third.leads, TAKEOVER_MS)
    expect(silent).toBeLessThan(TAKEOVER_MS)
    await until('it runs a time', () => third.says(/^runs big@/) !== undefined)
    second.kill('SIGCONT')
    expect(await second.ended).toBe(77)
    third.kill('SIGTERM')
    expect(await third.ended).toBe(0)
    expectOnce(site, 'big')
    expect(await rowsOf(site, 'big')).toBe(HUGE_ROWS + 2)
  })

  it.concurrent('end within 25 s under load with 0, and read nothing twice after the restart', async ({ expect }) => {
    await using site = new DaemonSite()
    bigFile(site)
    site.job('big', '{ cron: "*/2 * * * * *" }', 'resources: { chunk: 60kB, in_flight: 1, parallel: 1 }\n')
    const daemon = site.start()
    await until('the run has loaded something', () => batches(site, 'big') > 2)
    const begun = performance.now()
    daemon.kill('SIGTERM')
    expect(await daemon.ended).toBe(0)
    expect(performance.now() - begun).toBeLessThan(25_000)
    expect(site.runs('big').map(({ status }) => status)).toEqual(['interrupted'])
    const again = site.start()
    await until('the run is finished', () => site.runs('big').length > 1, 60_000)
    again.kill('SIGTERM')
    expect(await again.ended).toBe(0)
    const [first, second] = site.runs('big')
    expect(second).toEqual({ slot: first?.slot, status: 'done', exit: 0 })
    expect(await rowsOf(site, 'big')).toBe(BIG_ROWS + 2)
    const read = tokens(site, 'big')
    expect(new Set(read).size).toBe(read.length)
  })
})

const clock = await faketime()

describe('under a clock that is moved', () => {
  if ('reason' in clock) {
    it('is told by libfaketime', ({ skip }) => skip(clock.reason))
    return
  }
  const { library } = clock
  it.concurrent('an hour forward misses what lies between, an hour back repeats nothing, and twelve hours asleep are made up for by policy', async () => {
    await using site = new DaemonSite({ faketime: library })
    site.setClock('2026-03-01T10:29:55Z')
    site.job('one', '{ cron: "30 * * * *", missed: one, catch_up: 6h }')
    site.job('all', '{ cron: "30 * * * *", missed: all, catch_up: 3h }')
    site.job('none', '{ cron: "30 * * * *", missed: none }')
    const daemon = site.start(['--parallel', '3'])
    const times = (job: string) => done(site, job).map((time) => time.slice(11, 16))
    await until('the first time is run', () => ['one', 'all', 'none'].every((job) => times(job).length === 1))
    await idle(daemon)

    site.setClock('2026-03-01T11:31:30Z') // an hour forward
    await until('the missed time is run', () => times('one').length === 2 && times('all').length === 2)
    await idle(daemon)
    for (const time of ['2026-03-01T10:30:01Z', '2026-03-01T11:30:01Z']) {
      site.setClock(time) // an hour back, at times that were run
      await twoRounds(daemon)
    }
    expect([times('one'), times('all'), times('none')]).toEqual([['10:30', '11:30'], ['10:30', '11:30'], ['10:30']])

    daemon.kill('SIGSTOP')
    site.setClock('2026-03-01T23:35:00Z') // twelve hours asleep
    daemon.kill('SIGCONT')
    await until('what was missed is run', () => times('all').length === 5 && times('one').length === 3)
    expect(times('one').slice(2)).toEqual(['23:30'])
    expect(times('all').slice(2)).toEqual(['21:30', '22:30', '23:30'])
    expect(times('none')).toEqual(['10:30'])
    for (const job of ['one', 'all', 'none']) expectOnce(site, job)
  })

  it.concurrent('over both changes of summer time in three zones runs each time once', async () => {
    await using site = new DaemonSite({ faketime: library })
    const zones = {
      berlin: ['Europe/Berlin', { daily: '30 2 * * *' }],
      new_york: ['America/New_York', { spring: '30 2 * * *', autumn: '30 1 * * *' }],
      lord_howe: ['Australia/Lord_Howe', { spring: '15 2 * * *', autumn: '45 1 * * *' }],
    } as const
    const jobs = Object.entries(zones).flatMap(([zone, [timezone, times]]) =>
      Object.entries({ ...times, hourly: '10 * * * *' }).map(([name, cron]) => {
        site.job(`${zone}_${name}`, `{ cron: "${cron}", timezone: ${timezone}, missed: none, overlap: queue_one }`)
        return `${zone}_${name}`
      }),
    )
    site.setClock('2026-03-08T00:00:00Z')
    const daemon = site.start(['--parallel', '3'])
    await until('it leads', () => jobs.every((job) => daemon.says(new RegExp(`took up ${job}`)) !== undefined))
    const started = () => jobs.flatMap((job) => done(site, job).map(() => job)).sort()
    // For each change: instants that some clock on the wall would name, and the jobs that start at each.
    const hourly = ['berlin_hourly', 'lord_howe_hourly', 'new_york_hourly']
    const walk: readonly (readonly [string, readonly string[]])[] = [
      // New York, 02:00 EST becomes 03:00 EDT at 07:00Z: 02:30 is in the gap.
      ['2026-03-08T06:30', ['new_york_autumn']],
      ['2026-03-08T07:00', ['new_york_spring']],
      ['2026-03-08T07:10', hourly],
      ['2026-03-08T07:30', []],
      // Berlin, 02:00 CET becomes 03:00 CEST at 01:00Z.
      ['2026-03-29T01:00', ['berlin_daily']],
      ['2026-03-29T01:10', hourly],
      ['2026-03-29T01:30', []],
      // Lord Howe, 02:00 (+11) becomes 01:30 (+10:30) at 15:00Z: 01:45 comes twice.
      ['2026-04-04T14:45', ['lord_howe_autumn']],
      ['2026-04-04T15:15', []],
      ['2026-04-04T15:40', ['lord_howe_hourly']],
      ['2026-04-04T15:45', ['lord_howe_spring']],
      // Lord Howe, 02:00 (+10:30) becomes 02:30 (+11) at 15:30Z: 02:15 is in the gap.
      ['2026-10-03T15:30', ['lord_howe_spring']],
      ['2026-10-03T15:45', []],
      // Berlin, 03:00 CEST becomes 02:00 CET at 01:00Z: 02:30 comes twice.
      ['2026-10-25T00:30', ['berlin_daily']],
      ['2026-10-25T01:10', hourly],
      ['2026-10-25T01:30', []],
      // New York, 02:00 EDT becomes 01:00 EST at 06:00Z: 01:30 comes twice.
      ['2026-11-01T05:30', ['new_york_autumn']],
      ['2026-11-01T06:10', hourly],
      ['2026-11-01T06:30', []],
      ['2026-11-01T07:30', ['new_york_spring']],
    ]
    let expected: string[] = []
    // What it took up is in its journal under the first time, or that which is next lies before it.
    await twoRounds(daemon)
    for (const [time, names] of walk) {
      site.setClock(`${time}:00Z`)
      expected = [...expected, ...names].sort()
      await twoRounds(daemon)
      await until(`what starts at ${time}`, () => started().length >= expected.length)
      expect(started(), time).toEqual(expected)
    }
    for (const job of jobs) expectOnce(site, job)
  })
})

describe('a job', () => {
  it.concurrent('that takes too long is ended, one that crashes is run again, and neither costs another', async ({
    expect,
  }) => {
    await using site = new DaemonSite()
    bigFile(site)
    const slow = 'resources: { chunk: 60kB, in_flight: 1, parallel: 1 }\n'
    site.job('slow', '{ cron: "0 0 1 1 *", timeout: 1s, retries: { attempts: 1 } }', slow)
    site.job('crash', '{ cron: "0 0 1 1 *", retries: { initial: 100ms } }', slow)
    site.job('quick', '{ cron: "0 0 1 1 *" }', 'resources: { memory_limit: 200MB }\n')
    site.job('later', '{ after: [quick] }')
    const daemon = site.start(['--parallel', '4'])
    await until('all are there', () => daemon.says(/took up slow/) !== undefined)
    for (const job of ['slow', 'crash', 'quick'])
      await daemon.post(`/api/v1/jobs/${job}/trigger`, { who: 'test', why: 'test' })
    await until('the run that is to crash has begun', () => batches(site, 'crash') > 0)
    process.kill(holderPid(site, 'crash'), 'SIGKILL')
    await until(
      'the others have ended',
      () => done(site, 'crash').length === 1 && done(site, 'quick').length === 1 && done(site, 'later').length === 1,
      60_000,
    )
    for (const job of ['slow', 'crash'])
      await until(`the end of ${job} is booked`, async () => (await lastOf(daemon, job)) !== undefined)
    expect(await lastOf(daemon, 'slow')).toMatchObject({ status: 'timeout', ok: false })
    expect(await lastOf(daemon, 'crash')).toMatchObject({ status: 'done', attempts: 2 })
    expect(site.begun('crash')).toHaveLength(2)
    expect(await rowsOf(site, 'crash')).toBe(BIG_ROWS + 2)
  })
})

describe('a job that goes on for ever', () => {
  it.concurrent('is kept going, is stopped and begun again as people ask, and outlives its daemon', async ({
    expect,
  }) => {
    await using site = new DaemonSite()
    const file = (more = '') =>
      site.put(
        'jobs/flow.yaml',
        `version: 1
name: flow
until: forever
extract:
  input: { type: files, path: "data/*", settle: 0s, poll: 50ms }
contract:
  columns: { id: { type: bigint, required: true } }
load:
  out: { type: files, format: ndjson, path: flow }
${more}`,
      )
    let next = 100
    const write = (): number => {
      site.put(`jobs/data/${next}.ndjson`, `{"id":${next}}\n`)
      next += 1
      return next - 98 // two are there from the start
    }
    const rows = async () => {
      const sql = `SELECT count(*) AS n, count(DISTINCT id) AS ids FROM read_json('${site.folder}/jobs/flow/**/*.ndjson')`
      const [found] = await duckdbRows(sql).catch(() => [{ n: '0', ids: '0' }]) // no file yet
      expect(found?.['n']).toBe(found?.['ids'])
      return Number(found?.['n'])
    }
    const loaded = async (wanted: number) => until(`${wanted} are loaded`, async () => (await rows()) === wanted)

    file()
    const first = site.start()
    await loaded(2)
    await loaded(write())
    const lineOf = (daemon: RunningDaemon) =>
      daemon.get<{ forever: boolean; live: { read: number } | null }>('/api/v1/jobs/flow')
    await until('it says what it does', async () => (await lineOf(first)).live?.read === 3, 15_000)

    const pid = site.pidOf('flow') ?? 0
    process.kill(pid, 'SIGKILL')
    await loaded(write())
    file('spool: { max_bytes: 1GB }\n')
    await until('the changed job runs', () => site.begun('flow').length === 3, 15_000)
    await loaded(write())

    first.kill('SIGKILL')
    await first.ended
    await loaded(write())
    const second = site.start()
    await until('the second leads', () => second.leads, TAKEOVER_MS)
    await until('it looks after the run', () => second.says(/goes on; this daemon looks after it/) !== undefined)
    await loaded(write())
    second.kill('SIGTERM')
    expect(await second.ended).toBe(0)
    expect(site.runs('flow').map(({ status }) => status)).toEqual(['done', 'done'])
    expect(site.pidOf('flow')).toBeUndefined()
  })
})

function bigFile(site: DaemonSite, rows = BIG_ROWS): void {
  const lines = Array.from({ length: rows }, (_, index) => `{"id":${index + 10}}\n`)
  site.put('jobs/data/big.ndjson', lines.join(''))
}

/** Times of a job whose run ended well. */
function done(site: DaemonSite, job: string): string[] {
  return site.runs(job).flatMap(({ slot, status }) => (status === 'done' ? [slot.split('@')[1] ?? ''] : []))
}

function expectOnce(site: DaemonSite, job: string): void {
  const times = done(site, job)
  expect([...new Set(times)]).toEqual(times)
}

async function rowsOf(site: DaemonSite, job: string): Promise<number> {
  const rows = await duckdbRows('SELECT count(*) AS n, count(DISTINCT id) AS ids FROM w.rows', [
    `ATTACH '${site.folder}/jobs/${job}.duckdb' AS w (READ_ONLY)`,
  ])
  expect(Number(rows[0]?.['n'])).toBe(Number(rows[0]?.['ids']))
  return Number(rows[0]?.['n'])
}

function ledgerText(site: DaemonSite, job: string): string {
  try {
    return readFileSync(`${site.state}/${job}/ledger/000001.ndjson`, 'utf8')
  } catch {
    return ''
  }
}

function batches(site: DaemonSite, job: string): number {
  return ledgerText(site, job).split('"batch_closed"').length - 1
}

function tokens(site: DaemonSite, job: string): string[] {
  const lines = ledgerText(site, job)
    .split('\n')
    .filter((line) => line.includes('"type":"batch_closed"'))
  return lines.map((line) => (JSON.parse(line) as { token: string }).token)
}

/** A run that has ended is booked a moment later; a time that comes between is one that comes while the job runs. */
function idle(daemon: RunningDaemon): Promise<number> {
  return until('all ends are booked', async () => {
    const { running, waiting } = await daemon.get<{ running: number; waiting: number }>('/api/v1/status')
    return running + waiting === 0
  })
}

async function twoRounds(daemon: RunningDaemon): Promise<void> {
  const rounds = await roundsOf(daemon)
  await until('it has looked twice', async () => (await roundsOf(daemon)) >= rounds + 2)
}

async function roundsOf(daemon: RunningDaemon): Promise<number> {
  const { rounds } = await daemon.get<{ rounds: number }>('/api/v1/status')
  return rounds
}

async function lastOf(daemon: RunningDaemon, job: string): Promise<{ readonly status: string } | undefined> {
  const { runs } = await daemon.get<{ runs: { status: string }[] }>(`/api/v1/runs?job=${job}`)
  return runs[0]
}

function holderPid(site: DaemonSite, job: string): number {
  const pid = site.pidOf(job)
  if (pid === undefined) throw new Error(`no run of ${job} goes on`)
  return pid
}
