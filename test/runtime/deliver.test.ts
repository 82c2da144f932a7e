import { expect, it } from 'vitest'
import { AdflowError } from '../../src/core/errors.ts'
import { Turnstile } from '../../src/core/turnstile.ts'
import type { Batch, BatchesOptions } from '../../src/runtime/batch.ts'
import { deliver } from '../../src/runtime/deliver.ts'
import { Phases } from '../../src/runtime/phases.ts'
import type { Streamed } from '../../src/runtime/refine.ts'
import type { Store } from '../../src/runtime/store.ts'

const loaded = { rows: 1, status: 'loaded', outputs: [] } as const
const streamed = {
  outputs: new Map([['main', { relation: 't', columns: [] }]]),
  direct: false,
  streamed: true,
} as Streamed

function storeOf(id: string, attempt: () => Promise<unknown>, local?: true): Store {
  return { id, input: 'main', loader: { local }, down: undefined, attempt } as unknown as Store
}

function deliverTo(stores: readonly Store[], storeTurns: Batch['storeTurns'] = new Map()) {
  const batch = {
    ...{ source: { config: { id: 's' } }, plan: {}, token: 'token', storeTurns },
    chunk: { range: { lane: 'a', from: '0', to: '1' }, records: 1 },
  } as unknown as Batch
  const workshop = { pipeline: { reorders: true } }
  const options = { job: { name: 'j' }, saver: { state: { epoch: '0' } }, workshop, stores, phases: new Phases() }
  const nothing = () => undefined
  return deliver(batch, streamed, options as unknown as BatchesOptions, nothing, nothing)
}

it('stores take a batch at the same time, and those of the engine before them, alone', async () => {
  const seen: string[] = []
  const met = Promise.withResolvers<typeof loaded>()
  const meet = async () => {
    seen.push('remote')
    // Neither ends before the other has begun.
    if (seen.filter((one) => one === 'remote').length === 2) met.resolve(loaded)
    return met.promise
  }
  const local = async () => {
    seen.push('begins')
    await new Promise((resolve) => setImmediate(resolve))
    seen.push('ends')
    return loaded
  }
  const outcomes = await deliverTo([storeOf('a', meet), storeOf('b', meet), storeOf('engine', local, true)])
  expect(seen).toEqual(['begins', 'ends', 'remote', 'remote'])
  expect(Object.keys(outcomes)).toEqual(['a', 'b', 'engine'])
})

it('rejects when every store is through with the batch', async () => {
  let ended = false
  const slow = async () => {
    await new Promise((resolve) => setImmediate(resolve))
    ended = true
    return loaded
  }
  const failing = async () => new AdflowError('ENGINE_FAILED', 'a value is too large')
  await expect(deliverTo([storeOf('a', failing), storeOf('b', slow)])).rejects.toThrow('too large')
  expect(ended).toBe(true)
})

it('a store that has a batch takes the next one while another has not', async () => {
  const turns = { quick: new Turnstile(), slow: new Turnstile() }
  const first = new Map(Object.entries(turns).map(([id, own]) => [id, own.take()]))
  const next = turns.quick.take()
  const held = Promise.withResolvers<typeof loaded>()
  const delivering = deliverTo([storeOf('quick', async () => loaded), storeOf('slow', () => held.promise)], first)
  await next.ready
  held.resolve(loaded)
  await delivering
})
