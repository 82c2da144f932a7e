/** Daemons on several machines, which know of each other by PostgreSQL alone. */
import { join } from 'node:path'
import { Client } from 'pg'
import { expect, it } from 'vitest'
import { DaemonSite, type RunningDaemon, until } from '../harness/daemons.ts'
import { freshDatabase } from '../harness/servers/fresh.ts'
import { serverSuite } from '../harness/servers/suite.ts'

const LONG = process.env['ADFLOW_TEST_LONG'] === '1'
const ROTATIONS = LONG ? 20 : 2
const EVERY_MS = 3000
const TAKEOVER_MS = 60_000

await serverSuite('daemons that share a state in PostgreSQL', ['postgres'], ({ postgres }) => {
  it(
    `run each time once, on folders of their own, while they are killed or stopped in turn, ${ROTATIONS} times`,
    async () => {
      await using database = await freshDatabase(postgres)
      await using site = new DaemonSite()
      const state = { url: `${database.url}?lease=4s`, folder: join(site.folder, 'machines') }
      const schedule = `{ cron: "*/${EVERY_MS / 1000} * * * * *", overlap: queue_one, missed: all }`
      site.job('often', schedule, `state: ${JSON.stringify(state.url)}\n`)
      let machines = 0
      // Told where the state is by the command line, and by the job file alone: they are daemons of one kind.
      const start = () => {
        machines += 1
        const args = machines % 2 === 0 ? [] : ['--state-dir', state.url]
        return site.start(args, { ADFLOW_STATE_DIR: join(state.folder, `${machines}`) })
      }
      const leads = (daemon: RunningDaemon) => daemon.says(/^leads the times in /) !== undefined
      const standsBy = (daemon: RunningDaemon) => daemon.says(/^stands by: .* leads the times in /) !== undefined
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
      leader.kill('SIGTERM')
      standby.kill('SIGTERM')
      expect(await Promise.all([leader.ended, standby.ended]), leader.stderr + standby.stderr).toEqual([0, 0])

      const done = (await slots(database.url)).filter(({ well }) => well).map(({ slot }) => slot)
      expect(done).toEqual([...new Set(done)])
      const passed = site.daemons.flatMap(({ lines }) =>
        lines.flatMap(({ to, reason }) => (reason === 'overlap' ? [`often@${to}`] : [])),
      )
      // What was claimed last may not have had its turn yet.
      const last = [...done].sort().at(-1) ?? ''
      const answered = [...new Set([...done, ...passed])].filter((slot) => slot <= last).sort()
      const times = answered.map((slot) => Date.parse(slot.replace('often@', '')))
      const told = site.daemons.map(({ stderr }, index) => `${index}:\n${stderr}`).join('')
      expect(times, told + JSON.stringify(await slots(database.url))).toEqual(
        times.map((_, index) => (times[0] ?? 0) + index * EVERY_MS),
      )
    },
    LONG ? 1_800_000 : 240_000,
  )
})

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
