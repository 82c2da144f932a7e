/** The state of a job in PostgreSQL: machines that are lost, that stand still, and a server that goes away. */
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Client } from 'pg'
import { expect, it } from 'vitest'
import type { DoctorReport } from '../../src/runtime/doctor.ts'
import type { JobStatus } from '../../src/runtime/status.ts'
import type { RunSummary } from '../../src/runtime/summary.ts'
import { type CliOptions, temporaryFolder } from '../harness/cli.ts'
import { freshDatabase } from '../harness/servers/fresh.ts'
import { serverSuite } from '../harness/servers/suite.ts'
import { proxyFor } from '../harness/servers/toxics.ts'
import { SmallJob } from '../harness/small-job.ts'

const LONG = process.env['ADFLOW_TEST_LONG'] === '1'
const DIE = fileURLToPath(new URL('../harness/die-at-commit.ts', import.meta.url))
const FILES = 6
const ROWS = 40
const ALL = { n: `${idsOf(FILES)}`, ids: `${idsOf(FILES)}` }
const PATIENCE_MS = LONG ? 1_800_000 : 240_000

/** Each id comes twice, in neighbouring files. */
function idsOf(files: number): number {
  return ((files + 1) * ROWS) / 2
}

await serverSuite('a state in PostgreSQL', ['postgres', 'toxiproxy'], ({ postgres, toxiproxy }) => {
  it(
    'goes on in an empty folder after a kill at any commit, with a store that was down: nothing lost, nothing doubled',
    async () => {
      const kills = LONG ? Array.from({ length: 60 }, (_, index) => index + 1) : [9, 16]
      let killed = 0
      for (const [index, commit] of kills.entries()) {
        await using machines = await Machines.open(postgres, toxiproxy)
        const down = index % 2 === 1
        if (down) await machines.store.down()
        const { code, signal, stderr } = await machines.run('first', { dieAt: commit })
        expect({ commit, code: code ?? signal }, stderr).toEqual({ commit, code: signal ?? (down ? 69 : 0) })
        if (signal !== null) killed += 1
        await machines.expire()
        if (down) await machines.store.up()
        expect(await machines.run('second')).toMatchObject({ code: 0 })
        expect(await machines.stored()).toEqual(ALL)
        if (commit !== kills.at(-1)) continue
        // A third machine finds nothing left to do.
        const third = await machines.run('third')
        expect(third.json<RunSummary>(), third.stderr).toMatchObject({ exit: 0, read: 0 })
        expect((await machines.command('fourth', ['audit', 'verify', machines.job.file])).code).toBe(0)
      }
      expect(killed).toBeGreaterThan(LONG ? 20 : 1)
    },
    PATIENCE_MS,
  )

  it(
    'refuses a process that stood still while another took over, and one whose server was away for too long',
    async () => {
      await using machines = await Machines.open(postgres, toxiproxy, { files: 40 })
      const { started, stopped } = machines.stopOnceStored()
      const first = machines.run('first', { started })
      const zombie = await stopped
      await machines.expire()
      const second = await machines.run('second')
      expect(second, second.stderr).toMatchObject({ code: 0 })
      const before = await machines.everything()
      process.kill(zombie, 'SIGCONT')
      const { code, stdout, stderr } = await first
      expect({ code, said: `${stdout}${stderr}`.includes('FENCED') }, stderr).toEqual({ code: 77, said: true })
      expect(await machines.everything()).toEqual(before)
      expect(await machines.stored()).toEqual({ n: `${idsOf(40)}`, ids: `${idsOf(40)}` })

      machines.addFiles(40, 80)
      const cut = machines.run('first', {
        viaProxy: true,
        options: '&lease=6s',
        started: () => {
          void machines.whenStored(idsOf(40) + 1).then(() => machines.state.down())
        },
      })
      expect((await cut).stdout).toContain('STATE_UNREACHABLE')
      expect((await cut).code).toBe(75)
      await machines.expire()
      expect(await machines.run('second')).toMatchObject({ code: 0 })
      expect(await machines.stored()).toEqual({ n: `${idsOf(80)}`, ids: `${idsOf(80)}` })
    },
    PATIENCE_MS,
  )

  it(
    'waits for a server that comes back in time, and is looked at from machines that do not hold it',
    async () => {
      await using machines = await Machines.open(postgres, toxiproxy, { files: 20 })
      const looked = Promise.withResolvers<{ code: number | null; said: string; running: string | undefined }>()
      const run = machines.run('first', {
        viaProxy: true,
        started: () => {
          const outage = async () => {
            await machines.whenStored(1)
            await machines.state.down()
            const held = await machines.command('second', ['run', machines.job.file, '--json'])
            const seen = await machines.command('second', ['status', machines.job.file, '--json'])
            await machines.state.up()
            return { code: held.code, said: held.stdout, running: seen.json<JobStatus>().running?.command }
          }
          looked.resolve(outage())
        },
      })
      expect(await looked.promise).toEqual({
        code: 75,
        said: expect.stringContaining('JOB_LOCKED'),
        running: expect.stringContaining(' run '),
      })
      expect(await run).toMatchObject({ code: 0 })
      expect(await machines.stored()).toEqual({ n: `${idsOf(20)}`, ids: `${idsOf(20)}` })
      const status = await machines.command('other', ['status', machines.job.file, '--json'])
      expect(status.json(), status.stderr).toMatchObject({ job: 'rows', running: null, planned: 0, owed: [] })
      const doctor = await machines.command('other', ['doctor', machines.job.file, '--json'])
      const said = doctor
        .json<DoctorReport>()
        .findings.filter(({ kind, status }) => kind === 'state' && status === 'ok')
      expect(said.map(({ check }) => check)).toEqual(
        expect.arrayContaining(['reachable', 'durability', 'permission', 'lock', 'checkpoint', 'ledger']),
      )
      const rewind = ['state', 'rewind', machines.job.file, 'input', '--reason', 'again', '--json']
      expect((await machines.command('another', rewind)).code).toBe(0)
      expect((await machines.run('second')).json<RunSummary>()).toMatchObject({ exit: 0, read: 20 * ROWS })
      expect(await machines.stored()).toEqual({ n: `${idsOf(20)}`, ids: `${idsOf(20)}` })
    },
    PATIENCE_MS,
  )
})

type Fresh = Awaited<ReturnType<typeof freshDatabase>>
type Proxy = Awaited<ReturnType<typeof proxyFor>>

interface Sizes {
  readonly files?: number
}

/** Folders, each of which stands for a machine; one database for state and store, each reached by a way of its own that can be cut. */
class Machines {
  readonly #folder = temporaryFolder('shared')
  readonly #database: Fresh
  readonly store: Proxy
  readonly state: Proxy
  readonly job: SmallJob

  private constructor(database: Fresh, store: Proxy, state: Proxy, { files = FILES }: Sizes) {
    this.#database = database
    this.store = store
    this.state = state
    this.job = new SmallJob(this.#folder.path, jobOf(store.url))
    this.addFiles(0, files)
  }

  static async open(
    postgres: Parameters<typeof freshDatabase>[0],
    toxiproxy: Parameters<typeof proxyFor>[0],
    sizes: Sizes = {},
  ): Promise<Machines> {
    const database = await freshDatabase(postgres)
    const ways = [await proxyFor(toxiproxy, database.url), await proxyFor(toxiproxy, database.url)] as const
    return new Machines(database, ...ways, sizes)
  }

  addFiles(from: number, to: number): void {
    for (let file = from; file < to; file += 1) {
      const ids = Array.from({ length: ROWS }, (_, index) => (file * ROWS) / 2 + index)
      this.job.put(`data/${file}.ndjson`, ids.map((id) => `{"id":${id}}\n`).join(''))
    }
  }

  run(machine: string, { dieAt, ...options }: MachineOptions & { readonly dieAt?: number } = {}) {
    return this.command(machine, ['run', this.job.file, '--json'], {
      ...options,
      ...(dieAt === undefined
        ? {}
        : { env: { NODE_OPTIONS: `--import ${DIE}`, ADFLOW_TEST_DIE_AT_COMMIT: String(dieAt) } }),
    })
  }

  command(
    machine: string,
    args: readonly string[],
    { viaProxy = false, options: more = '', ...options }: MachineOptions = {},
  ) {
    const url = `${viaProxy ? this.state.url : this.#database.url}?schema=adflow${more}`
    const env = { ...options.env, ADFLOW_STATE_DIR: join(this.#folder.path, machine) }
    return this.job.command([...args, '--state-dir', url], { ...options, env })
  }

  /** For `started`: the process is held still once the store has a batch. */
  stopOnceStored() {
    const { promise: stopped, resolve } = Promise.withResolvers<number>()
    const started = ({ pid = 0 }: { readonly pid?: number | undefined }) => {
      void this.whenStored(1).then(() => {
        process.kill(pid, 'SIGSTOP')
        resolve(pid)
      })
    }
    return { started, stopped }
  }

  async whenStored(more: number): Promise<void> {
    const count = async () => {
      const [found] = await this.rows("SELECT to_regclass('rows') IS NOT NULL AS made")
      return found?.['made'] === true ? Number((await this.stored())?.['n']) : 0
    }
    while ((await count()) < more) await delay(5)
  }

  /** As if its time were over. */
  async expire(): Promise<void> {
    const [found] = await this.rows("SELECT to_regclass('adflow.leases') IS NOT NULL AS made")
    if (found?.['made'] === true) await this.rows("UPDATE adflow.leases SET expires = '-infinity'")
  }

  async stored(): Promise<Record<string, unknown> | undefined> {
    return (await this.rows('SELECT count(*) AS n, count(DISTINCT id) AS ids FROM rows'))[0]
  }

  /** Digests of the state and of the store. */
  everything(): Promise<Record<string, unknown>[]> {
    return this.rows(
      "SELECT 'state' AS what, md5(string_agg(md5(x::text), '' ORDER BY x::text)) FROM adflow.extents x UNION ALL SELECT 'lease', epoch::text FROM adflow.leases UNION ALL SELECT 'store', md5(string_agg(r::text, '' ORDER BY r::text)) FROM rows r",
    )
  }

  async rows(sql: string): Promise<Record<string, unknown>[]> {
    const client = new Client(this.#database.url)
    await client.connect()
    try {
      return (await client.query(sql)).rows
    } finally {
      await client.end()
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.store[Symbol.asyncDispose]()
    await this.state[Symbol.asyncDispose]()
    await this.#database[Symbol.asyncDispose]()
    this.#folder.remove()
  }
}

interface MachineOptions extends CliOptions {
  /** Its way to the state can be cut. */
  readonly viaProxy?: boolean
  /** Behind the URL of the state. */
  readonly options?: string
}

function jobOf(store: string): string {
  return `version: 1
name: rows
extract:
  input: { type: files, path: "data/*", settle: 0s }
contract:
  columns:
    id: { type: bigint, required: true }
transform:
  - dedupe: { key: [id] }
load:
  table: { type: postgres, url: "${store}", table: rows }
retry: { attempts: 1 }
resources: { in_flight: 2 }
`
}
