/** A run that a signal reaches between its start and its end: what it says of itself, and what the next run makes of it. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { z } from 'zod'
import type { LoadBatch, Loader } from '../../src/core/contracts.ts'
import { defineLoader } from '../../src/core/define.ts'
import { AdflowError } from '../../src/core/errors.ts'
import { loadJob } from '../../src/core/job/load.ts'
import { loadRegistry } from '../../src/core/registry.ts'
import { type RunObserver, runJob } from '../../src/runtime/run.ts'

const log = pino({ level: 'silent' })

let folder: string
let drain: AbortController
/** What the store has: token → rows. */
let taken: Map<string, number>
/** What happens while the store is opened, and in the middle of a write. */
let opening: () => void
let writing: () => void

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'adflow-told-'))
  drain = new AbortController()
  taken = new Map()
  opening = () => undefined
  writing = () => undefined
  await writeFile(join(folder, 'a.ndjson'), '{"id":1}\n{"id":2}\n')
  await writeFile(
    join(folder, 'job.yaml'),
    `version: 1
name: told
extract: { input: { type: files, path: "*.ndjson", settle: 0s } }
contract: { columns: { id: { type: bigint, required: true } } }
load: { store: { type: memory } }
retry: { attempts: 3, initial: 1ms, max: 1ms }
`,
  )
})
afterEach(() => rm(folder, { recursive: true }))

/** As the client of a server does: what is under way when the signal comes is cut off. */
class MemoryLoader implements Loader {
  readonly replay = 'token'
  readonly order = 'none'

  dataset() {
    return { namespace: 'memory', name: 'memory' }
  }

  async open() {
    opening()
  }

  async write(batch: LoadBatch, { signal }: { readonly signal: AbortSignal }) {
    writing()
    signal.throwIfAborted()
    const repeated = taken.has(batch.token)
    const rows = await batch.encode('ndjson', { file: join(folder, 'rows') })
    taken.set(batch.token, rows)
    return { rows, repeated, outputs: [] }
  }

  async history() {
    return []
  }

  async close() {}
}

const memory = defineLoader({
  summary: 'A store in memory.',
  description: 'A store in memory.',
  options: z.strictObject({}),
  example: {},
  create: () => new MemoryLoader(),
})

async function run(signal?: AbortSignal, observer: RunObserver = {}) {
  const registry = await loadRegistry({ extra: { loader: { memory } } })
  const job = await loadJob(join(folder, 'job.yaml'), { registry, env: {} })
  const options = { job, registry, stateDir: join(folder, 'state'), log, command: 'test', version: '0' }
  return runJob({ ...options, observer, ...(signal === undefined ? {} : { drain: signal }) })
}

it.each<[when: string, arm: (stop: () => void) => void, owed: number]>([
  ['before it begins', (stop) => stop(), 0],
  [
    'while its store is opened',
    (stop) => {
      opening = stop
    },
    0,
  ],
  [
    'while its store does not answer yet',
    (stop) => {
      opening = () => {
        stop()
        throw new AdflowError('STORE_UNAVAILABLE', 'the connection was closed')
      }
    },
    0,
  ],
  [
    'in the middle of a write',
    (stop) => {
      writing = stop
    },
    2,
  ],
])('is interrupted by a signal that comes %s, and the next run loads everything once', async (_, arm, owed) => {
  arm(() => drain.abort())
  const summary = await run(drain.signal)
  expect(summary.error).toBeUndefined()
  expect(summary).toMatchObject({ status: 'interrupted', exit: 0, stores: { store: { loaded: 0, owed } } })
  opening = () => undefined
  writing = () => undefined
  expect(await run()).toMatchObject({ status: 'done', exit: 0, stores: { store: { loaded: 2, owed: 0 } } })
  expect([...taken.values()]).toEqual([2])
})

it('says that its store was down where the signal came later', async () => {
  opening = () => {
    throw new AdflowError('STORE_UNAVAILABLE', 'nobody listens there')
  }
  const summary = await run(drain.signal, { began: () => drain.abort() })
  expect(summary).toMatchObject({ status: 'owed', exit: 69, error: { code: 'STORE_OWED' } })
})

it('is interrupted by a signal that comes while it pays what is owed', async () => {
  opening = () => {
    throw new AdflowError('STORE_UNAVAILABLE', 'nobody listens there')
  }
  expect(await run()).toMatchObject({ status: 'owed', stores: { store: { owed: 2 } } })
  opening = () => undefined
  writing = () => drain.abort()
  expect(await run(drain.signal)).toMatchObject({ status: 'interrupted', exit: 0, stores: { store: { owed: 2 } } })
  writing = () => undefined
  expect(await run()).toMatchObject({ status: 'done', stores: { store: { loaded: 2, owed: 0 } } })
  expect([...taken.values()]).toEqual([2])
})
