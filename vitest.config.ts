import { availableParallelism } from 'node:os'
import { defineConfig } from 'vitest/config'

/** Tests against real servers: each has a server of its own, or a place of its own on a shared one. */
const SERVER_TESTS = 'test/**/*.server.test.ts'

/** Tests that run whole jobs, most of them many times: `npm run check` leaves them to `npm test`. */
const RUN_TESTS = [
  'test/{reconcile,trace,jobs}/**/*.test.ts',
  'test/conformance/{consumers,extractors,loaders}.test.ts',
  'test/runtime/{rerun,run-lineage,whole-chunks}.test.ts',
  'test/lineage/ledger.test.ts',
  'test/sample/generate.test.ts',
  'test/distribute/distributor.test.ts',
]

/** vitest leaves one core free; on two cores that is half of the machine. */
const UNIT_WORKERS = Math.max(2, availableParallelism() - 1)

const long = process.env['ADFLOW_TEST_LONG'] === '1'
/** Some tests are the same at another size. */
const UNIT_TIMEOUT_MS = long ? 900_000 : 60_000

export default defineConfig({
  test: {
    reporters: ['default', './test/harness/closing-line.ts'],
    // Groups run one after another. Not from 0: where there is one worker, vitest puts that group last.
    projects: [
      {
        test: {
          name: 'unit',
          include: ['test/**/*.test.ts'],
          exclude: ['test/acceptance/**', SERVER_TESTS, ...RUN_TESTS],
          testTimeout: UNIT_TIMEOUT_MS,
          maxWorkers: UNIT_WORKERS,
          sequence: { groupOrder: 1 },
        },
      },
      {
        test: {
          name: 'runs',
          include: RUN_TESTS,
          exclude: [SERVER_TESTS],
          testTimeout: UNIT_TIMEOUT_MS,
          maxWorkers: UNIT_WORKERS,
          sequence: { groupOrder: 1 },
        },
      },
      {
        test: {
          name: 'servers',
          include: [SERVER_TESTS],
          globalSetup: ['test/harness/servers/global-setup.ts'],
          testTimeout: 240_000,
          hookTimeout: 240_000,
          // They wait for servers more than they compute.
          maxWorkers: 3,
          // After the unit tests: meanwhile the servers are installed and started.
          sequence: { groupOrder: 2 },
        },
      },
      {
        test: {
          name: long ? 'long' : 'acceptance',
          include: ['test/acceptance/**/*.test.ts'],
          exclude: [SERVER_TESTS],
          testTimeout: long ? 3_600_000 : 600_000,
          hookTimeout: 600_000,
          maxConcurrency: 2,
          // Half of the time they wait for processes. The long loops have the machine for themselves.
          ...(long ? { fileParallelism: false } : { maxWorkers: 2 }),
          sequence: { groupOrder: 3 },
        },
      },
    ],
  },
})
