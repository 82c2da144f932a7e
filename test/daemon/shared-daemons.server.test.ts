/** Daemons on several machines, which know of each other by PostgreSQL alone. */
import { join } from 'node:path'
import { Client } from 'pg'
import { expect, it, onTestFinished } from 'vitest'
import { DaemonSite, type RunningDaemon, until } from '../harness/daemons.ts'
import { makeCertificate } from '../harness/servers/core/certificates.ts'
import { makeFolder } from '../harness/servers/core/folder.ts'
import { freshDatabase } from '../harness/servers/fresh.ts'
import { startPrivate } from '../harness/servers/private.ts'
import { serverSuite } from '../harness/servers/suite.ts'
import { proxyFor } from '../harness/servers/toxics.ts'

const LONG = process.env['ADFLOW_TEST_LONG'] === '1'
const ROTATIONS = LONG ? 20 : 2
const EVERY_MS = 3000
const KILLS = 3
const SCHEDULE = `{ cron: "*/${EVERY_MS / 1000} * * * * *", overlap: queue_one, missed: all, retries: { initial: 1s } }`
const TAKEOVER_MS = 60_000

await serverSuite('daemons that share a state in PostgreSQL', ['postgres', 'toxiproxy'], ({ postgres, toxiproxy }) => {
  it(
    `run each time once, on folders of their own, while they are killed or stopped in turn, ${ROTATIONS} times`,
    async () => {
      await using database = await freshDatabase(postgres)
      await using site = new DaemonSite()
      const state = `${database.url}?lease=4s`
      site.job('often', SCHEDULE, `state: ${JSON.stringify(state)}\n`)
      let machines = 0
      const start = () => {
        machines += 1
        return startMachine(site, state, machines)
      }
      const ended = async () => (await slots(database.url)).filter(({ ended }) => ended)
      let leader = start()
      await until('the first leads', () => leads(leader), TAKEOVER_MS)
      let standby = start()
      await until('the second stands by', () => standsBy(standby), TAKEOVER_MS)
      for (let round = 0; round < ROTATIONS; round += 1) {
        const before = (await ended()).length
        await until('a run ends', async () => (await ended()).length > before, TAKEOVER_MS)
        leader.kill(round % 2 === 0 ? 'SIGKILL' : 'SIGTERM')
        await until('the other leads', () => leads(standby), TAKEOVER_MS)
        await leader.ended
        leader = standby
        standby = start()
      }
      const before = (await ended()).length
      await until('one more run ends', async () => (await ended()).length > before, TAKEOVER_MS)
      await until('the last one stands by', () => standsBy(standby), TAKEOVER_MS)
      leader.kill('SIGTERM')
      standby.kill('SIGTERM')
      expect(await Promise.all([leader.ended, standby.ended]), leader.stderr + standby.stderr).toEqual([0, 0])

      await expectOnceEach(site, database.url)
    },
    LONG ? 1_800_000 : 240_000,
  )

  it('wait for a server that comes up after them, and not for ever', async () => {
    await using database = await freshDatabase(postgres)
    await using proxy = await proxyFor(toxiproxy, database.url)
    await using site = new DaemonSite()
    await proxy.down()
    const start = (lease: string, number: number) => startMachine(site, `${proxy.url}?lease=${lease}`, 2 * number + 1)
    const [patient, short] = [start('30s', 1), start('1s', 2)]
    expect(await short.ended, short.stderr).toBe(75)
    expect(short.says(/; it is asked again for 4 s$/)).toBeDefined()
    expect(patient.says(/; it is asked again for 120 s$/)).toBeDefined()
    await proxy.up()
    await until('it leads', () => leads(patient), TAKEOVER_MS)
    patient.kill('SIGTERM')
    expect(await patient.ended, patient.stderr).toBe(0)
  }, 120_000)

  const onlyLong = LONG ? it : undefined
  onlyLong?.(
    `outlive the server ${KILLS} times, which is killed and stays away for longer than their leases, over TLS that they verify`,
    async () => {
      await using site = new DaemonSite()
      const certificates = makeFolder('certificates')
      onTestFinished(() => certificates.remove())
      const good = await makeCertificate(certificates)
      await using server = await startPrivate('postgres', { tls: good })
      const state = `${server.endpoint.url}?lease=3s&tls=verify&ca=${encodeURIComponent(good.authorityFile)}`
      site.job('often', SCHEDULE, `state: ${JSON.stringify(state)}\n`)
      const wells = async () => (await slots(server.endpoint.url)).filter(({ well }) => well).length
      const daemons = [startMachine(site, state, 1), startMachine(site, state, 2)]
      const oneLeads = () => daemons.some((daemon) => lastOf(daemon)?.startsWith('leads') === true)
      for (let kill = 0; kill < KILLS; kill += 1) {
        await until('one of them leads', oneLeads, TAKEOVER_MS)
        const ended = await wells()
        await until('a run ends', async () => (await wells()) > ended, TAKEOVER_MS)
        expect(await unencrypted(server.endpoint.url)).toBe(0)
        const before = daemons.map(timesAway)
        await server.kill9()
        await until(
          'both have noticed',
          () => daemons.every((each, index) => timesAway(each) > (before[index] ?? 0)),
          TAKEOVER_MS,
        )
        await server.restart()
      }
      const before = await wells()
      await until('one more run ends', async () => (await wells()) > before, TAKEOVER_MS)
      for (const daemon of daemons) daemon.kill('SIGTERM')
      const told = daemons.map(({ stderr }) => stderr).join('')
      expect(await Promise.all(daemons.map(({ ended }) => ended)), told).toEqual([0, 0])
      await expectOnceEach(site, server.endpoint.url)

      // A server whose certificate nobody vouches for is not told anything.
      const distrusting = site.start(['--state-dir', state.replace(/&ca=.*/, '')], { ADFLOW_STATE_DIR: site.state })
      expect(await distrusting.ended, distrusting.stderr).toBe(77)
      expect(distrusting.stderr).toMatch(/certificate/)
    },
    600_000,
  )
})

/** Told where the state is by the command line, and by the job file alone: they are daemons of one kind. */
function startMachine(site: DaemonSite, state: string, number: number): RunningDaemon {
  const args = number % 2 === 0 ? [] : ['--state-dir', state]
  return site.start(args, { ADFLOW_STATE_DIR: join(site.folder, 'machines', `${number}`) })
}

function leads(daemon: RunningDaemon): boolean {
  return daemon.says(/^leads the times in /) !== undefined
}

function standsBy(daemon: RunningDaemon): boolean {
  return daemon.says(/^stands by: .* leads the times in /) !== undefined
}

/** How often it has said that it cannot reach the server, or has lost what it had there. */
function timesAway({ lines }: RunningDaemon): number {
  return lines.filter(({ msg }) => `${msg}`.endsWith('; this daemon stands by')).length
}

/** What it has said last of who leads. */
function lastOf({ lines }: RunningDaemon): string | undefined {
  return lines.map(({ msg }) => `${msg}`).findLast((text) => /leads the times in |this daemon stands by$/.test(text))
}

async function unencrypted(url: string): Promise<number> {
  const client = new Client(url)
  await client.connect()
  try {
    const sql = `SELECT count(*)::int AS n FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
      WHERE NOT ssl AND backend_type = 'client backend' AND pid <> pg_backend_pid()`
    return (await client.query<{ n: number }>(sql)).rows[0]?.n ?? -1
  } finally {
    await client.end()
  }
}

/** No time twice, and none without a run or a reason between the first and the last. */
async function expectOnceEach(site: DaemonSite, url: string): Promise<void> {
  const done = (await slots(url)).filter(({ well }) => well).map(({ slot }) => slot)
  expect(done).toEqual([...new Set(done)])
  const passed = site.daemons.flatMap(({ lines }) =>
    lines.flatMap(({ to, reason }) => (reason === 'overlap' ? [`often@${to}`] : [])),
  )
  // What was claimed last may not have had its turn yet.
  const last = [...done].sort().at(-1) ?? ''
  const answered = [...new Set([...done, ...passed])].filter((slot) => slot <= last).sort()
  const times = answered.map((slot) => Date.parse(slot.replace('often@', '')))
  const told = site.daemons.map(({ stderr }, index) => `${index}:\n${stderr}`).join('')
  expect(times, told + JSON.stringify(await slots(url))).toEqual(
    times.map((_, index) => (times[0] ?? 0) + index * EVERY_MS),
  )
}

interface Slot {
  readonly slot: string
  readonly ended: boolean
  readonly well: boolean
}

/** Runs for scheduled times in the order in which they began, as the ledger in the server tells. */
async function slots(url: string): Promise<Slot[]> {
  const client = new Client(url)
  await client.connect()
  try {
    const { rows } = await client.query<{ text: string }>(
      "SELECT convert_from(string_agg(bytes, '' ORDER BY path, at), 'UTF8') AS text FROM adflow.extents WHERE name = 'often' AND path ~ '^ledger/[0-9]+.ndjson$'",
    )
    const events = (rows[0]?.text ?? '')
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line) as Readonly<Record<string, unknown>>)
    return events
      .filter(({ type }) => type === 'run_started')
      .map(({ run, slot }) => {
        const end = events.find((event) => event['type'] === 'run_ended' && event['run'] === run)
        return { slot: `${slot}`, ended: end !== undefined, well: end?.['exit'] === 0 && end['status'] === 'done' }
      })
  } finally {
    await client.end()
  }
}
