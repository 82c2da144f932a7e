import { afterEach, describe, expect, it } from 'vitest'
import { temporaryFolder } from '../harness/cli.ts'
import { QuickstartJob } from '../harness/quickstart-job.ts'

const ROWS = process.env['ADFLOW_TEST_LONG'] === '1' ? 2_000_000 : 200_000
const folders: { remove(): void }[] = []

function quickstart(name: string): QuickstartJob {
  const folder = temporaryFolder(name)
  folders.push(folder)
  return new QuickstartJob(folder.path)
}

afterEach(() => {
  for (const folder of folders.splice(0)) folder.remove()
})

describe(`the main job over ${ROWS} events`, () => {
  it.each([
    ['ndjson', []],
    ['ndjson', ['--gzip']],
    ['csv', []],
    ['csv', ['--gzip']],
    ['parquet', []],
  ] as const)(
    'finds exactly the stated truth in %s %s, loads it once, and later only what is new',
    async (format, flags) => {
      const job = quickstart(`truth-${format}`)
      const truth = await job.sample('--rows', String(ROWS), '--seed', '7', '--format', format, ...flags)
      const first = await job.summary()
      expect(first).toMatchObject({ status: 'done', exit: 0, ...job.expected(truth) })
      expect(await job.stores()).toEqual({ warehouse: job.expectedStore(truth), archive: job.expectedStore(truth) })

      const second = await job.summary()
      expect(second).toMatchObject({ status: 'done', exit: 0, read: 0, passed: 0 })

      const both = await job.sample(
        '--rows',
        String(ROWS / 10),
        '--seed',
        '7',
        '--format',
        format,
        ...flags,
        '--append',
      )
      const third = await job.summary()
      const more = job.expected(both)
      const before = job.expected(truth)
      expect(third).toMatchObject({
        status: 'done',
        read: more.read - before.read,
        passed: more.passed - before.passed,
        unaccounted: 0,
      })
      expect(await job.stores()).toEqual({ warehouse: job.expectedStore(both), archive: job.expectedStore(both) })
    },
  )
})
