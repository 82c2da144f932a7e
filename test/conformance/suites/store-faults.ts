/**
 * What holds when something dies under a job that loads into a real server: no row is lost, none is there twice. A store's own
 * line is in test/conformance/<store>.server.test.ts.
 */
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { RunSummary } from '../../../src/runtime/summary.ts'
import { type CliOptions, temporaryFolder } from '../../harness/cli.ts'
import { freshName } from '../../harness/servers/fresh.ts'
import { SmallJob } from '../../harness/small-job.ts'

/** What there is of the rows of the job: how many, how many different ids, and the exact sum of `micros`, as text. */
export interface Held {
  readonly rows: number
  readonly ids: number
  readonly micros: string
}

/** A server of the test's own. */
export interface FaultyStore {
  /** Entries of `load`, in a place of this name (letters, digits, `_`). Columns: id BIGINT (beyond 2^53), n INTEGER, micros BIGINT, name VARCHAR. */
  loads(place: string): Readonly<Record<string, Readonly<Record<string, unknown>>>>
  /** What is there, by an independent client; one entry for each thing that must agree (a table, a view on it). Rows that a
   *  reader does not see (an uncommitted transaction, an unpublished file) do not count. */
  held(place: string): Promise<Readonly<Record<string, Held>>>
  kill9(): Promise<void>
  restart(): Promise<void>
  end(): Promise<void>
}

const LONG = process.env['ADFLOW_TEST_LONG'] === '1'
const KILLS = LONG ? 30 : 2
const FILES = 3
const FILE_ROWS = LONG ? 20_000 : 3_000
const FIRST_ID = 9_007_199_254_740_993n

const ARCHIVE = { type: 'files', format: 'parquet', path: 'archive' }

const WHOLE: Held = {
  rows: FILES * FILE_ROWS,
  ids: FILES * FILE_ROWS,
  micros: String(Array.from({ length: FILES * FILE_ROWS }, (_, index) => microsOf(index)).reduce((a, b) => a + b)),
}

export function storeFaults(name: string, start: () => Promise<FaultyStore>): void {
  describe(`${name}, when something dies`, () => {
    let store: FaultyStore
    let folder: ReturnType<typeof temporaryFolder>
    let job: SmallJob
    let place: string
    beforeAll(async () => {
      store = await start()
    })
    afterAll(() => store.end())
    beforeEach(() => {
      place = freshName('faults')
      folder = temporaryFolder('faults')
      job = new SmallJob(folder.path, jobOf({ archive: ARCHIVE, ...store.loads(place) }))
      for (let file = 0; file < FILES; file += 1) job.put(`data/${file}.ndjson`, linesOf(file))
    })
    afterEach(() => folder.remove())

    const summary = async (options?: CliOptions) => (await job.run([], options)).json<RunSummary>()
    const owed = (run: RunSummary) => Object.values(run.stores).map((own) => own.owed)
    async function expectWhole(): Promise<void> {
      for (const [what, held] of Object.entries(await store.held(place))) expect(held, what).toEqual(WHOLE)
      expect(await archived(job)).toEqual(WHOLE)
      // And nothing is done again.
      const again = await summary()
      expect(again).toMatchObject({ exit: 0, read: 0 })
      expect(Object.values(again.stores).map(({ loaded, owed }) => loaded + owed)).toEqual(
        Object.keys(again.stores).map(() => 0),
      )
      for (const [what, held] of Object.entries(await store.held(place))) expect(held, what).toEqual(WHOLE)
    }

    test('adflow, in the place of each save of its checkpoint: before a store has the batch, and after', async () => {
      let deaths = 0
      for (let save = 1; ; save += 1) {
        const run = await job.run([], { env: dyingBefore(save) })
        if (run.signal !== 'SIGKILL') {
          expect(run.code, run.stdout + run.stderr).toBe(0)
          break
        }
        deaths += 1
      }
      expect(deaths).toBeGreaterThan(1)
      await expectWhole()
    })

    test('adflow, the same with no other store, and records among the others that cannot be read', async () => {
      for (const [id, load] of Object.entries(store.loads(place))) {
        const alone = new SmallJob(join(folder.path, id), jobOf({ [id]: load }))
        for (let file = 0; file < FILES; file += 1) alone.put(`data/${file}.ndjson`, `${linesOf(file)}{"id": 1\n`)
        for (let save = 1; (await alone.run([], { env: dyingBefore(save) })).signal === 'SIGKILL'; save += 1);
        expect(alone.quarantine()).toHaveLength(FILES)
      }
      for (const [what, held] of Object.entries(await store.held(place))) expect(held, what).toEqual(WHOLE)
    })

    test(`adflow, ${KILLS} times while batches are on their way`, async () => {
      for (let kill = 0; kill < KILLS; kill += 1)
        await job.run([], { started: job.onceClosed(job.closedBatches(), (child) => child.kill('SIGKILL')) })
      expect((await summary()).exit).toBe(0)
      await expectWhole()
    })

    test('the server, in the middle of a run: the others go on, and the next run pays what is owed', async () => {
      let dying: Promise<void> | undefined
      const started = job.onceClosed(0, () => {
        dying = store.kill9()
      })
      const first = await summary({ started })
      await dying
      await store.restart()
      expect([0, 69]).toContain(first.exit)
      expect(await archived(job)).toEqual(WHOLE)
      const second = await summary()
      expect(second).toMatchObject({ exit: 0, read: 0 })
      await expectWhole()
    })

    test('the server, before the run: exit 69 says what is owed, the other store has everything, the next run pays exactly that', async () => {
      await store.kill9()
      const first = await summary()
      await store.restart()
      expect(first).toMatchObject({ exit: 69, status: 'owed', stores: { archive: { loaded: WHOLE.rows, owed: 0 } } })
      expect(owed(first).filter((rows) => rows > 0)).toHaveLength(Object.keys(store.loads(place)).length)
      expect(await archived(job)).toEqual(WHOLE)
      const second = await summary()
      expect(second).toMatchObject({ exit: 0, read: 0, stores: { archive: { loaded: 0, owed: 0 } } })
      expect(owed(second).every((rows) => rows === 0)).toBe(true)
      await expectWhole()
    })
  })
}

function dyingBefore(save: number): Record<string, string> {
  const preload = new URL('../../harness/die-before-save.ts', import.meta.url).href
  return {
    NODE_OPTIONS: `${process.env['NODE_OPTIONS'] ?? ''} --import=${preload}`,
    ADFLOW_TEST_DIE_BEFORE_SAVE: String(save),
  }
}

/** Two batches to a file. Attempts are few, so that a dead store is given up soon. */
function jobOf(loads: ReturnType<FaultyStore['loads']>): string {
  return `version: 1
name: rows
extract:
  input: { type: files, path: "data/*", settle: 0s }
contract:
  columns: { id: { type: bigint, required: true }, n: integer, micros: bigint, name: varchar }
load: ${JSON.stringify(loads)}
resources: { chunk: ${Math.round((FILE_ROWS * 75) / 2)}B }
retry: { attempts: 2, initial: 50ms, max: 200ms }
`
}

function microsOf(index: number): bigint {
  return BigInt(index) * 1_000_003n + 9_007_199_254_740_993n
}

function linesOf(file: number): string {
  const lines = Array.from({ length: FILE_ROWS }, (_, row) => {
    const index = file * FILE_ROWS + row
    return `{"id":${FIRST_ID + BigInt(index)},"n":${index % 7},"micros":${microsOf(index)},"name":"name ${index}"}`
  })
  return `${lines.join('\n')}\n`
}

async function archived(job: SmallJob): Promise<Held> {
  const [row] = await job.archive(
    'SELECT count(*)::INTEGER AS rows, count(DISTINCT id)::INTEGER AS ids, sum(micros)::VARCHAR AS micros FROM archive',
  )
  return row as unknown as Held
}
