/**
 * What holds when something dies under a job that reads from a real server: no record is lost, none comes twice. An extractor brings its server;
 * see also extractor.ts, which kills it between any two changes of the disk.
 */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { RunSummary } from '../../../src/runtime/summary.ts'
import { type CliOptions, temporaryFolder } from '../../harness/cli.ts'
import { SmallJob } from '../../harness/small-job.ts'

/** A server of the test's own, which has `SOURCE_ROWS`. */
export interface FaultySource {
  /** An entry of `extract`. */
  readonly extract: Readonly<Record<string, unknown>>
  /** Where its records have the columns elsewhere: column → option `from`. */
  readonly from?: Readonly<Record<'id' | 'micros' | 'name', string>>
  /** Of one of its records. Default: those of SOURCE_ROWS as they are. */
  readonly recordBytes?: number
  /** Kills it. What it has stays. */
  kill9(): Promise<void>
  restart(): Promise<void>
  end(): Promise<void>
}

const LONG = process.env['ADFLOW_TEST_LONG'] === '1'
const KILLS = LONG ? 20 : 3
/** In CI adflow dies in the place of each of the first saves, and of some of the later ones. */
const EVERY_SAVE = 3
const ROWS = LONG ? 40_000 : 6000
const FIRST_ID = 9_007_199_254_740_993n

/** JSON texts: id BIGINT (beyond 2^53), micros DECIMAL(38,18), name VARCHAR. */
export const SOURCE_ROWS: readonly string[] = Array.from(
  { length: ROWS },
  (_, index) => `{"id":${FIRST_ID + BigInt(index)},"micros":${microsOf(index)},"name":"name ü ${index}"}`,
)

/** The rows as files of different sizes: name → text. */
export const SOURCE_PARTS: Readonly<Record<string, string>> = {
  'large.ndjson': linesOf(SOURCE_ROWS.slice(0, ROWS * 0.6)),
  'middle.ndjson': linesOf(SOURCE_ROWS.slice(ROWS * 0.6, ROWS * 0.9)),
  'small.ndjson': linesOf(SOURCE_ROWS.slice(ROWS * 0.9)),
}

const WHOLE = {
  rows: ROWS,
  ids: ROWS,
  micros: sumOf(Array.from({ length: ROWS }, (_, index) => microsOf(index))),
}

function linesOf(rows: readonly string[]): string {
  return `${rows.join('\n')}\n`
}

/** A decimal of 18 digits behind the point, which no double holds. */
function microsOf(index: number): string {
  return `${index}.${123_456_789_012_345_678n + BigInt(index)}`
}

function sumOf(decimals: readonly string[]): string {
  const sum = decimals.reduce((total, text) => total + BigInt(text.replace('.', '')), 0n).toString()
  return `${sum.slice(0, -18)}.${sum.slice(-18)}`
}

/** `startsSlowly`: a server that needs many seconds to be there again is restarted once less in CI. */
export function sourceFaults(
  name: string,
  start: () => Promise<FaultySource>,
  { startsSlowly = false }: { readonly startsSlowly?: boolean } = {},
): void {
  describe(`${name}, when something dies`, () => {
    let source: FaultySource
    let folder: ReturnType<typeof temporaryFolder>
    let job: SmallJob
    beforeAll(async () => {
      source = await start()
    })
    afterAll(() => source.end())
    beforeEach(() => {
      folder = temporaryFolder('source-faults')
      job = new SmallJob(folder.path, jobOf(source))
    })
    afterEach(() => folder.remove())

    const summary = async (options?: CliOptions) => (await job.run([], options)).json<RunSummary>()
    const held = async () =>
      job.warehouse(
        'SELECT count(*)::INTEGER AS rows, count(DISTINCT id)::INTEGER AS ids, sum(micros)::VARCHAR AS micros FROM w.rows',
      )
    async function expectWhole(): Promise<void> {
      expect(await held()).toEqual([WHOLE])
      expect(await summary()).toMatchObject({ exit: 0, read: 0 })
      expect(await held()).toEqual([WHOLE])
      const archived = await job.archive(
        'SELECT count(*)::INTEGER AS rows, count(DISTINCT id)::INTEGER AS ids, sum(micros)::VARCHAR AS micros FROM archive',
      )
      expect(archived).toEqual([WHOLE])
    }

    test('adflow, in the place of saves of its checkpoint', async () => {
      let deaths = 0
      for (let save = 1; ; save += LONG || save < EVERY_SAVE ? 1 : EVERY_SAVE) {
        const run = await job.run([], { env: dyingBefore(save) })
        if (run.signal !== 'SIGKILL') {
          expect(run.code, run.stdout + run.stderr).toBe(0)
          break
        }
        deaths += 1
      }
      expect(deaths).toBeGreaterThan(0)
      await expectWhole()
    })

    test(`adflow, ${KILLS} times while batches are on their way`, async () => {
      let killed = 0
      for (let kill = 0; kill < KILLS; kill += 1) {
        const run = await job.run([], {
          started: job.onceClosed(job.closedBatches(), (child) => child.kill('SIGKILL')),
        })
        killed += run.signal === 'SIGKILL' ? 1 : 0
      }
      expect(killed).toBeGreaterThan(1)
      const last = await job.run()
      expect(last.code, last.stdout + last.stderr).toBe(0)
      await expectWhole()
    })

    test('the server, in the middle of a run: what came is loaded, and the next run has the rest', async () => {
      let dying: Promise<void> | undefined
      const started = job.onceClosed(0, () => {
        dying = source.kill9()
      })
      const first = await summary({ started })
      await dying
      await source.restart()
      expect([0, 69]).toContain(first.exit)
      expect((await summary()).exit).toBe(0)
      await expectWhole()
    })

    const back = 'the server, in the middle of a run, and it is back before the run gives up'
    const throughout = startsSlowly && !LONG ? undefined : test // a test that is skipped counts as failed
    throughout?.(back, async () => {
      let restarted: Promise<void> | undefined
      const started = job.onceClosed(0, () => {
        restarted = source.kill9().then(() => source.restart())
      })
      await summary({ started })
      await restarted
      expect((await summary()).exit).toBe(0)
      await expectWhole()
    })

    test('the server, before the run: a gap with exit 69 that the next run fills', async () => {
      await source.kill9()
      const first = await summary()
      await source.restart()
      expect(first).toMatchObject({ exit: 69, status: 'gaps', gaps: [{ source: 'input' }] })
      expect((await summary()).exit).toBe(0)
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

/** About ten batches. */
function jobOf({
  extract,
  recordBytes = 85,
  from = { id: 'id', micros: 'micros', name: 'name' },
}: FaultySource): string {
  return `version: 1
name: rows
extract: { input: ${JSON.stringify(extract)} }
contract:
  columns:
    id: { type: bigint, required: true, from: ${from.id} }
    micros: { type: "decimal(38,18)", from: ${from.micros} }
    name: { type: varchar, from: ${from.name} }
load:
  warehouse: { type: duckdb, path: warehouse.duckdb, table: rows }
  archive: { type: files, format: parquet, path: archive }
resources: { chunk: ${Math.round((ROWS * recordBytes) / 10)}B }
`
}
