import { defineConfig } from 'vitest/config'

const long = process.env['ADFLOW_TEST_LONG'] === '1'

export default defineConfig({
  test: {
    reporters: ['default', './test/harness/closing-line.ts'],
    projects: [
      { test: { name: 'unit', include: ['test/**/*.test.ts'], exclude: ['test/acceptance/**'], testTimeout: 60_000 } },
      {
        test: {
          name: long ? 'long' : 'acceptance',
          include: ['test/acceptance/**/*.test.ts'],
          testTimeout: long ? 3_600_000 : 600_000,
          hookTimeout: 600_000,
          fileParallelism: false,
        },
      },
    ],
  },
})
