import { createHash, randomUUID } from 'node:crypto'
import { mkdtemp, open, readdir, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeEach, describe, expect, it } from 'vitest'
import { Journal } from '../../../src/clients/push/journal.ts'
import { JournalFetcher } from '../../../src/clients/push/journal-fetcher.ts'
import { journalPath } from '../../../src/clients/push/journal-folder.ts'
import type { FetchTask } from '../../../src/clients/staging/fetcher.ts'
import { DyingProcess } from '../../harness/dying-process.ts'

const root = await mkdtemp(join(tmpdir(), 'adflow-journal-'))
afterAll(() => rm(root, { recursive: true, force: true }))

/** Every step, every byte. */
const LONG = process.env['ADFLOW_TEST_LONG'] === '1'

let folder: string
let now: number
const opened: Journal[] = []
beforeEach(async () => {
  folder = join(root, randomUUID())
  now = 1_000_000
})
afterAll(async () => {
  for (const journal of opened) await journal.close()
})

async function start(options: { fileBytes?: number; windowMs?: number } = {}): Promise<Journal> {
  const journal = await Journal.open(join(folder, 'l'), {
    fileBytes: options.fileBytes ?? 1 << 20,
    windowMs: options.windowMs ?? 10_000,
    now: () => now,
  })
  opened.push(journal)
  return journal
}

const digest = (text: string) => createHash('sha256').update(text).digest().subarray(0, 16)
const push = (journal: Journal, text: string) =>
  journal.append({ payload: Buffer.from(`${text}\n`), records: 1, key: digest(text), digest: digest(text) })

/** What a job reads from the cursor on, and the cursor after it. */
async function read(cursor?: string, source = 's') {
  const fetcher = new JournalFetcher({ job: 'j', source, folder, lanes: ['l'] })
  const lines: string[] = []
  let last = cursor
  const sink = {
    pageBytes: 0,
    isFullBy: () => false,
    write: async (bytes: Buffer) => void lines.push(...bytes.toString().split('\n').slice(0, -1)),
    page: async (at: string) => {
      last = at
    },
    drop: async () => undefined,
    format: async () => undefined,
  }
  const [lane] = await fetcher.lanes()
  const task: FetchTask = {
    lane: 'l',
    origin: lane?.origin ?? '',
    cursor,
    sink,
    segmentBytes: 1 << 20,
    maxRecordBytes: 1 << 20,
    signal: new AbortController().signal,
  }
  await fetcher.fetch(task)
  return { lines, cursor: last, loaded: async () => fetcher.confirm('l', last ?? '') }
}

const files = async () => (await readdir(join(folder, 'l'))).sort()

describe('the journal of pushes', () => {
  it('gives a job what it has, once, over files, starts and whatever was removed', async () => {
    const all: string[] = []
    let cursor: string | undefined
    const seen: string[] = []
    for (let life = 0; life < 4; life += 1) {
      const journal = await start({ fileBytes: 300 })
      for (let n = 0; n < 9; n += 1) {
        all.push(`{"life":${life},"n":${n}}`)
        await push(journal, all.at(-1) ?? '')
        if (n % 4 !== life) continue
        const got = await read(cursor)
        seen.push(...got.lines)
        cursor = got.cursor
        await got.loaded()
        await journal.tidy()
      }
      if (life % 2 === 0) await journal.close() // else: killed
    }
    seen.push(...(await read(cursor)).lines)
    expect(seen).toEqual(all)
    expect((await files()).filter((name) => name.endsWith('.journal')).length).toBeLessThan(5)
  })

  it('cut off at any byte gives the whole requests before, and goes on after them', async () => {
    const journal = await start()
    for (const text of ['{"a":1}', '{"b":22}', '{"c":333}']) await push(journal, text)
    await journal.close()
    const path = journalPath(join(folder, 'l'), 1)
    const handle = await open(path, 'r')
    const bytes = await handle.readFile()
    await handle.close()
    const ends = [24, 24 + 72 + 8, 24 + 72 + 8 + 72 + 9, bytes.length]
    for (let size = 24; size <= bytes.length; size += LONG ? 1 : 5) {
      await rm(folder, { recursive: true, force: true })
      await (await start()).close()
      await writeFile(path, bytes)
      await truncate(path, size)
      await rm(path.replace('.journal', '.keys'), { force: true })
      const whole = ends.filter((end) => end <= size).length - 1
      const before = await read()
      expect(before.lines.length, `cut at ${size}`).toBe(whole)
      const again = await start()
      expect(again.keys.size).toBe(whole)
      await push(again, '{"later":1}')
      expect((await read(before.cursor)).lines).toEqual(['{"later":1}'])
      expect((await read()).lines.length).toBe(whole + 1)
      await again.close()
    }
  })

  it('dead before any of its changes of the disk has each request once that was sent until it was answered', async () => {
    const texts = Array.from({ length: 12 }, (_, n) => `{"n":${n}}`)
    for (let lastStep = 0; ; lastStep += LONG ? 1 : 4) {
      await rm(folder, { recursive: true, force: true })
      const dying = new DyingProcess(lastStep)
      const seen: string[] = []
      let cursor: string | undefined
      const take = async () => {
        const got = await read(cursor)
        seen.push(...got.lines)
        cursor = got.cursor
        if (cursor !== undefined) await got.loaded()
      }
      const lived = await dying.run(async () => {
        const journal = await start({ fileBytes: 250 })
        for (const [n, text] of texts.entries()) {
          await push(journal, text)
          if (n % 5 !== 4) continue
          await take()
          await journal.tidy()
        }
        await journal.close()
      })
      const again = await start({ fileBytes: 250 })
      for (const text of texts) if (again.keys.find(digest(text), now) === undefined) await push(again, text)
      await take()
      expect(seen, `dead since step ${lastStep}`).toEqual(texts)
      await again.close()
      if (lived && !dying.dead) break
    }
  })

  it('knows keys for the window, over starts and after the events were removed, and no longer', async () => {
    const first = await start({ fileBytes: 100 })
    const receipts = [await push(first, '{"a":1}'), await push(first, '{"a":2}')]
    await (await read()).loaded()
    const second = await start({ fileBytes: 100 })
    await second.tidy()
    expect((await files()).filter((name) => name.endsWith('.journal'))).toEqual(['000000000003.journal'])
    now += 9999
    const third = await start()
    expect(third.keys.find(digest('{"a":1}'), now)?.receipt).toEqual(receipts[0]?.receipt)
    expect(third.keys.find(digest('{"a":2}'), now)?.receipt).toEqual(receipts[1]?.receipt)
    now += 1
    expect(third.keys.find(digest('{"a":1}'), now)).toBeUndefined()
    await third.tidy()
    expect(third.keys.size).toBe(0)
  })

  it('tells a job that something is missing, or does not hold, instead of passing over it', async () => {
    const journal = await start({ fileBytes: 100 })
    for (const text of ['{"a":1}', '{"a":2}', '{"a":3}', '{"a":4}']) await push(journal, text)
    const { cursor } = await read()
    const path = journalPath(join(folder, 'l'), 2)
    const handle = await open(path, 'r+')
    await handle.write(Buffer.from('x'), 0, 1, 24 + 75)
    await handle.close()
    await expect(read()).rejects.toMatchObject({ code: 'SOURCE_DAMAGED' })
    await rm(path)
    await expect(read()).rejects.toMatchObject({ code: 'SOURCE_CHANGED' })
    await rm(folder, { recursive: true })
    await expect(read(cursor)).rejects.toMatchObject({ code: 'SOURCE_CHANGED' })
  })

  it('of a lane that is taken out of the job is still read', async () => {
    await push(await start(), '{"a":1}')
    const others = new JournalFetcher({ job: 'j', source: 's', folder, lanes: ['other'] })
    expect((await others.lanes()).map(({ lane }) => lane)).toEqual(['other', 'l'])
  })

  it('is read by one job', async () => {
    await push(await start(), '{"a":1}')
    await (await read()).loaded()
    await expect(read(undefined, 'other')).rejects.toMatchObject({ code: 'SOURCE_UNSUPPORTED' })
  })
})
