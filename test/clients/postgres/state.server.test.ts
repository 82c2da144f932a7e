/** A folder and its copy in PostgreSQL: what was durable is there, in every state that another machine could find it in. */
import { mkdir, open, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { appendDurably, publish, removeDurably, truncateDurably, writeDurably } from '../../../src/core/durable.ts'
import { settled } from '../../../src/core/durable-copy.ts'
import { parseStatePlace } from '../../../src/core/state-place.ts'
import { Engine } from '../../../src/engine/session.ts'
import { openLedger } from '../../../src/lineage/ledger.ts'
import { openCheckpoints } from '../../../src/runtime/checkpoints.ts'
import { fetchFolder, takeFolder } from '../../../src/runtime/shared-folder.ts'
import { temporaryFolder } from '../../harness/cli.ts'
import { freshDatabase } from '../../harness/servers/fresh.ts'
import { serverSuite } from '../../harness/servers/suite.ts'

const APPENDS = 300
const BATCHES = 12
const KEPT = 4
const ROWS = 20_000

await serverSuite('a folder with a copy in PostgreSQL', ['postgres'], ({ postgres }) => {
  it('is the same elsewhere after every durable step: written, appended, cut, published, removed', async () => {
    await using site = await Site.open(postgres)
    const { here } = site
    await mkdir(join(here, 'spool'), { recursive: true })
    const steps: (() => Promise<unknown>)[] = [
      () => writeDurably(join(here, 'empty'), ''),
      () => writeDurably(join(here, 'big'), Buffer.alloc(1_000_000, 'a')),
      () => writeDurably(join(here, 'big'), Buffer.alloc(600_000, 'b')),
      async () => {
        await writeFile(join(here, 'spool', '.part'), 'x'.repeat(300_000))
        await publish(join(here, 'spool', '.part'), join(here, 'spool', 'token.parquet'))
      },
      async () => {
        const path = join(here, 'spool', 'log')
        const handle = await open(path, 'a')
        for (let line = 0; line < APPENDS; line += 1) await appendDurably(handle, `${line}\n`, path)
        await truncateDurably(handle, 900, path)
        await appendDurably(handle, 'after the cut\n', path)
        await handle.close()
      },
      () => removeDurably(join(here, 'big')),
      async () => {
        const checkpoints = await openCheckpoints(here, 'rows')
        for (let save = 0; save < 3; save += 1) await checkpoints.save(checkpoints.current)
        const ledger = await openLedger(join(here, 'ledger'), { segmentBytes: 2000 })
        for (let event = 0; event < 30; event += 1)
          await ledger.append([{ type: 'ledger_cut', segment: 'a', byte: event, bytes: 1 }])
        await ledger.close()
      },
    ]
    for (const step of steps) {
      await step()
      expect(await contentOf(await site.elsewhere())).toEqual(await contentOf(here))
    }
    const there = await site.elsewhere()
    expect((await openCheckpoints(there, 'rows')).current.generation).toBe('3')
    const ledger = await openLedger(join(there, 'ledger'))
    expect(ledger.head.seq).toBe(30)
    await ledger.close()
  })

  describe('with the file of the engine', () => {
    it('has whole transactions of it, also while checkpoints are made, and all that were settled', async () => {
      await using site = await Site.open(postgres)
      const { here } = site
      const engine = await engineIn(here)
      const session = await engine.connect()
      await session.run("SET checkpoint_threshold = '256KB'")
      await session.run('CREATE TABLE state.marks (batch INTEGER, key VARCHAR)')
      await session.run('CREATE TABLE state.batches (batch INTEGER, n BIGINT)')
      let done = -1
      const writing = (async () => {
        for (let batch = 0; batch < BATCHES; batch += 1) {
          await session.transaction(async () => {
            const rows = ROWS + ((batch * 7919) % ROWS)
            // What goes leaves blocks in the middle of the file, which are written again.
            await session.run(`DELETE FROM state.marks WHERE batch = ${batch - KEPT}`)
            await session.run(`DELETE FROM state.batches WHERE batch = ${batch - KEPT}`)
            await session.run(`INSERT INTO state.marks SELECT ${batch}, md5(i::VARCHAR) FROM range(${rows}) AS r(i)`)
            await session.run(`INSERT INTO state.batches VALUES (${batch}, ${rows})`)
          })
          done = batch
        }
      })()
      for (let settledTo = -1; settledTo < BATCHES - 1; ) {
        const before = done
        await settled(here)
        settledTo = before
        const found = await batchesIn(await site.elsewhere())
        expect(Math.max(-1, ...found.map(({ batch }) => batch))).toBeGreaterThanOrEqual(settledTo)
        expect(found.filter(({ n, marks }) => n !== marks)).toEqual([])
      }
      await writing
      session.close()
      engine.close()
    })
  })
})

class Site {
  readonly #folder = temporaryFolder('state-copy')
  readonly #database: Awaited<ReturnType<typeof freshDatabase>>
  #taken: Awaited<ReturnType<typeof takeFolder>>
  #copies = 0

  private constructor(database: Awaited<ReturnType<typeof freshDatabase>>) {
    this.#database = database
  }

  static async open(postgres: Parameters<typeof freshDatabase>[0]): Promise<Site> {
    const site = new Site(await freshDatabase(postgres))
    await mkdir(site.here)
    site.#taken = await takeFolder(site.#shared(site.here), { command: 'test', more: {} })
    return site
  }

  get here(): string {
    return join(this.#folder.path, 'here')
  }

  /** What another machine finds now. */
  async elsewhere(): Promise<string> {
    this.#copies += 1
    const path = join(this.#folder.path, `there-${this.#copies}`)
    await mkdir(path)
    await fetchFolder(this.#shared(path))
    return path
  }

  #shared(path: string) {
    const place = parseStatePlace(`${this.#database.url}?lease=60s`)
    return { place, baseDir: this.#folder.path, name: 'rows', path }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#taken?.close()
    await this.#database[Symbol.asyncDispose]()
    this.#folder.remove()
  }
}

async function contentOf(folder: string): Promise<Record<string, string>> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true })
  const files = entries.filter((entry) => entry.isFile()).map(({ parentPath, name }) => join(parentPath, name))
  const contents = await Promise.all(
    files.map(async (path) => [path.slice(folder.length), await readFile(path, 'latin1')]),
  )
  return Object.fromEntries(contents) as Record<string, string>
}

async function engineIn(folder: string): Promise<Engine> {
  const engine = await Engine.open({
    memoryBytes: 256_000_000,
    threads: 2,
    tempFolder: join(folder, 'temp'),
    locked: false,
  })
  const session = await engine.connect()
  await session.attach(join(folder, 'state.duckdb'), 'state', false)
  session.close()
  return engine
}

async function batchesIn(folder: string): Promise<{ batch: number; n: number; marks: number }[]> {
  const engine = await engineIn(folder)
  const session = await engine.connect()
  const rows = await session.rows(
    'SELECT b.batch, b.n, (SELECT count(*) FROM state.marks m WHERE m.batch = b.batch) AS marks FROM state.batches b',
  )
  session.close()
  engine.close()
  return rows.map(({ batch, n, marks }) => ({ batch: Number(batch), n: Number(n), marks: Number(marks) }))
}
