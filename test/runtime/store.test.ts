import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { LoadBatch, Loader } from '../../src/core/contracts.ts'
import { AdflowError } from '../../src/core/errors.ts'
import type { Job, JobLoader } from '../../src/core/job/job.ts'
import { Engine, type Session } from '../../src/engine/session.ts'
import { Spool } from '../../src/runtime/spool.ts'
import { type Delivery, Store, type StoreOptions } from '../../src/runtime/store.ts'

let folder: string
let engine: Engine
let session: Session
let spool: Spool

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'adflow-store-'))
  engine = await Engine.open({ memoryBytes: 256_000_000, threads: 1, tempFolder: folder, locked: false })
  session = await engine.connect()
  spool = new Spool(join(folder, 'spool'))
  await spool.open()
})

afterEach(() => {
  session.close()
  engine.close()
  rmSync(folder, { recursive: true })
})

/** A store in memory that is down as long as `down` says so. */
class MemoryLoader implements Loader {
  readonly replay = 'token'
  readonly order = 'lane'
  readonly written: string[] = []
  down = () => false

  dataset() {
    return { namespace: 'memory', name: 'memory' }
  }

  async open() {}

  async write({ token }: LoadBatch) {
    if (this.down()) throw new AdflowError('STORE_UNAVAILABLE', 'it is down')
    const repeated = this.written.includes(token)
    if (!repeated) this.written.push(token)
    return { rows: 1, repeated, outputs: [] }
  }

  async close() {}
}

function storeOf(
  loader: Loader,
  more: Partial<Pick<StoreOptions, 'paid'>> & { readonly maxBytes?: number } = {},
): Store {
  const { maxBytes = 1_000_000, paid = async () => undefined } = more
  return new Store({
    config: { id: 'memory', optional: false } as JobLoader,
    loader,
    spool,
    job: {
      resources: { threads: 2, inFlight: 2 },
      retry: { attempts: 1, initialMs: 1, maxMs: 1 },
      spool: { maxBytes, whenFull: 'block' },
    } as Job,
    signal: new AbortController().signal,
    paid,
  })
}

function delivery(token: string): Delivery {
  return {
    job: 'j',
    source: 's',
    range: { lane: 'a', from: token, to: `${token}9` },
    token,
    batch: token,
    digest: 'd',
    clock: '2026-01-01T00:00:00.000Z',
    sequence: token,
    origin: 'a',
    columns: [{ name: 'n', type: 'INTEGER', from: ['n'] }],
    relation: '(SELECT 1 AS n)',
  }
}

describe('paying what is owed', () => {
  it('ends the run when the ledger cannot be written: the store is not down, and the batch stays in the spool', async () => {
    const loader = new MemoryLoader()
    const full = new AdflowError('DISK_FULL', 'cannot append to the ledger')
    const store = storeOf(loader, { paid: () => Promise.reject(full) })
    await store.owe(delivery('1'), session)
    await expect(store.pay(session)).rejects.toBe(full)
    expect([store.down, loader.written, spool.owed.length]).toEqual([undefined, ['1'], 1])
    const again = storeOf(loader)
    await again.pay(session)
    expect([again.loaded, spool.owed.length]).toEqual([0, 0])
  })

  it('keeps what a store that is down again does not take', async () => {
    const loader = new MemoryLoader()
    const store = storeOf(loader)
    for (const token of ['1', '2', '3']) await store.owe(delivery(token), session)
    loader.down = () => loader.written.length > 0
    await store.pay(session)
    expect(store.down).toMatchObject({ code: 'STORE_UNAVAILABLE' })
    expect(spool.owed.map(({ token }) => token)).toEqual(['2', '3'])
  })
})

describe('a store that is tried again while batches come', () => {
  it('gets the lane in its order: what is owed first, the batch that comes meanwhile behind it', async () => {
    const loader = new MemoryLoader()
    const store = storeOf(loader)
    await store.open(session, [])
    store.down = new AdflowError('STORE_UNAVAILABLE', 'it was down')
    for (const token of ['1', '2']) await store.owe(delivery(token), session)
    const turn = store.turns.take()
    const recovering = store.recover(session)
    await turn.ready
    // The batch has seen that the store is down, and is put into the spool while the others are paid.
    await store.owe(delivery('3'), session)
    expect(store.down).toBeDefined()
    turn.done()
    await recovering
    expect([store.down, loader.written, spool.owed.length]).toEqual([undefined, ['1', '2', '3'], 0])
  })

  it('is left alone where it could not be opened for want of access', async () => {
    const loader = new MemoryLoader()
    const opened: number[] = []
    loader.open = async () => void opened.push(1)
    const store = storeOf(loader)
    store.down = new AdflowError('STORE_UNAVAILABLE', 'its file cannot be attached')
    await store.recover(session)
    expect([store.down?.message, opened]).toEqual(['its file cannot be attached', []])
  })
})

describe('a store into which batches are still sent when they are encoded', () => {
  it('has them encoded one after the other, each while the one before is sent', async () => {
    const [first, second] = [session, await engine.connect()]
    const steps: string[] = []
    const secondEncoded = Promise.withResolvers<void>()
    class StreamingLoader extends MemoryLoader {
      readonly streams = 'chunks'
      override async write(batch: LoadBatch) {
        await batch.encode('csv', { file: join(folder, `${batch.token}.csv`) })
        steps.push(`encoded ${batch.token}`)
        if (batch.token === '1') await secondEncoded.promise
        else secondEncoded.resolve()
        return super.write(batch)
      }
    }
    const store = storeOf(new StreamingLoader())
    const slow = { ...delivery('1'), relation: '(SELECT sum(sin(range)) AS n FROM range(3000000))' }
    const [one, two] = await Promise.all([store.attempt(slow, first), store.attempt(delivery('2'), second)])
    second.close()
    expect([one, two]).toMatchObject([{ status: 'loaded' }, { status: 'loaded' }])
    expect(steps).toEqual(['encoded 1', 'encoded 2'])
  })
})

describe('a full spool', () => {
  it('is paid when the store comes back, and the batch that waited goes to the store, not behind the next one', async () => {
    const loader = new MemoryLoader()
    let refusals = 2
    loader.down = () => refusals-- > 0
    const store = storeOf(loader, { maxBytes: 1 })
    await store.owe(delivery('1'), session)
    store.down = new AdflowError('STORE_UNAVAILABLE', 'it is down')
    expect(await store.owe(delivery('2'), session)).toMatchObject({ status: 'loaded' })
    expect([loader.written, spool.owed, store.down]).toEqual([['1', '2'], [], undefined])
  })
})

describe('a batch whose bytes changed while the store was down', () => {
  it('is not taken over by the spool', async () => {
    const store = storeOf(new MemoryLoader())
    const changed = new AdflowError('SOURCE_CHANGED', 'the file was changed while it was read')
    await expect(store.owe({ ...delivery('1'), verify: () => Promise.reject(changed) }, session)).rejects.toBe(changed)
    expect([spool.owed, readdirSync(spool.folder).filter((name) => !name.startsWith('.'))]).toEqual([[], []])
  })
})
