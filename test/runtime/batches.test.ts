import pino from 'pino'
import { expect, it } from 'vitest'
import type { Chunk } from '../../src/core/contracts.ts'
import { AdflowError } from '../../src/core/errors.ts'
import type { BatchesOptions } from '../../src/runtime/batch.ts'
import { Batches } from '../../src/runtime/batches.ts'
import { memorySaver } from '../../src/runtime/memory-saver.ts'
import { Phases } from '../../src/runtime/phases.ts'

it('a chunk that cannot be cleared away ends the run with its error, not the process', async () => {
  const full = new AdflowError('LOCAL_IO', 'cannot remove the chunk')
  const unhandled: unknown[] = []
  const note = (error: unknown) => unhandled.push(error)
  process.on('unhandledRejection', note)
  const damaged = new AdflowError('DISK_FULL', 'cannot read on')
  const chunk = {
    range: { lane: 'a', from: '0', to: '1' },
    refused: [],
    records: 1,
    bytes: 1,
    release: () => Promise.reject(full),
  } as unknown as Chunk
  const extractor = {
    async *read() {
      yield chunk
      // The next chunk is long in coming, and nobody waits for the first one meanwhile.
      await new Promise((resolve) => setImmediate(resolve))
      await new Promise((resolve) => setImmediate(resolve))
    },
  }
  const session = {
    run: () => Promise.reject(damaged),
  }
  const batches = new Batches({
    job: {
      name: 'j',
      batchRules: [],
      budgets: [],
      unknown: 'discard_value',
      columns: [],
      resources: { sources: 1, inFlight: 1, chunkBytes: 1 },
    },
    phases: new Phases(),
    saver: memorySaver(),
    summary: { sources: {} },
    stores: [],
    state: {},
    log: pino({ level: 'silent' }),
    warn: () => undefined,
    workshop: {
      extractors: [{ config: { id: 's' }, extractor, silenceMs: Number.POSITIVE_INFINITY }],
      pipeline: { batchRules: [], warnRules: [], stages: [], plan: {}, outputs: new Map() },
      sessions: { acquire: async () => session, release: () => undefined },
      references: {
        ready: async () => undefined,
        hold: () => undefined,
        show: async () => undefined,
        release: () => undefined,
      },
    },
  } as unknown as BatchesOptions)
  await expect(batches.readAll()).rejects.toBe(damaged)
  await new Promise((resolve) => setImmediate(resolve))
  process.off('unhandledRejection', note)
  expect(unhandled).toEqual([])
})
