import { appendFile, mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { epochFolder } from '../../src/daemon/epoch.ts'
import { Journal, readBook } from '../../src/daemon/journal.ts'
import { SchedulerSite } from '../harness/scheduler.ts'

const since = { segment: '', byte: 0 }
const claimed = (at: number) =>
  ({ type: 'claimed', slot: { id: `job@${at}`, job: 'job', at, kind: 'cron', since } }) as const

describe('the slot journal', () => {
  it('is read by the next leader, file after file', async () => {
    await using site = await SchedulerSite.make('2026-03-01T12:00:00Z')
    for (let epoch = 1; epoch <= 3; epoch += 1) {
      const { journal, die } = await open(site, { fileBytes: 500 })
      for (let index = 0; index < 5; index += 1) await journal.append([claimed(epoch * 10 + index)])
      await die()
    }
    const book = await readBook(site.epochs)
    expect(book.job('job').open.map(({ at }) => at)).toEqual([
      10, 11, 12, 13, 14, 20, 21, 22, 23, 24, 30, 31, 32, 33, 34,
    ])
    for (const name of await readdir(site.epochs))
      expect((await readdir(join(site.epochs, name))).filter((file) => file.startsWith('journal'))).toHaveLength(1)
  })

  it('has nothing of a line that a kill cut off', async () => {
    await using site = await SchedulerSite.make('2026-03-01T12:00:00Z')
    const { journal, die, folder } = await open(site)
    await journal.append([claimed(1)])
    await die()
    await appendFile(join(folder, 'journal-000001.ndjson'), JSON.stringify(claimed(2)).slice(0, 40))
    expect((await readBook(site.epochs)).job('job').open.map(({ at }) => at)).toEqual([1])
  })

  it('that is damaged stops the daemon and names the place', async () => {
    await using site = await SchedulerSite.make('2026-03-01T12:00:00Z')
    const { journal, die, folder } = await open(site)
    await journal.append([claimed(1), claimed(2)])
    await die()
    const path = join(folder, 'journal-000001.ndjson')
    const lines = (await readFile(path, 'utf8')).split('\n')
    await writeFile(path, [lines[0], '{', ...lines.slice(2)].join('\n'))
    await expect(readBook(site.epochs)).rejects.toMatchObject({ code: 'STATE_DAMAGED', message: /line 2 of / })
  })

  it('of a leader that was killed before its first file is that of the one before', async () => {
    await using site = await SchedulerSite.make('2026-03-01T12:00:00Z')
    const { journal, die } = await open(site)
    await journal.append([claimed(1)])
    await die()
    await mkdir(epochFolder(site.epochs, 2))
    expect((await readBook(site.epochs)).job('job').open).toHaveLength(1)
    const candidate = site.candidate()
    expect(await candidate.stand()).toBeUndefined()
    site.clock.pass(10_000)
    const leader = await candidate.stand()
    expect(leader?.epoch).toBe(3)
    await leader?.release()
  })

  it('counts what was left out, and forgets nothing of it', async () => {
    await using site = await SchedulerSite.make('2026-03-01T12:00:00Z')
    const { journal, die } = await open(site)
    await journal.append([{ type: 'passed', job: 'job', from: 0, to: 50, reason: 'missed', count: 7 }])
    await die()
    expect((await readBook(site.epochs)).job('job')).toMatchObject({ watermark: 50, totals: { passed: { missed: 7 } } })
  })
})

describe('leading', () => {
  it('is for one of many that stand at once', async () => {
    await using site = await SchedulerSite.make('2026-03-01T12:00:00Z')
    const stood = await Promise.all(Array.from({ length: 8 }, () => site.candidate().stand()))
    const leaders = stood.filter((leader) => leader !== undefined)
    expect(leaders).toHaveLength(1)
    await leaders[0]?.release()
  })

  it('passes on at once when the leader leaves in order, and not while it shows that it lives', async () => {
    await using site = await SchedulerSite.make('2026-03-01T12:00:00Z')
    const leader = await site.candidate().stand()
    const other = site.candidate()
    for (let second = 0; second < 30; second += 1) {
      await leader?.beat()
      expect(await other.stand()).toBeUndefined()
      site.clock.pass(1_000)
    }
    await leader?.release()
    const next = await other.stand()
    expect(next?.epoch).toBe(2)
    await next?.release()
  })

  it('does not depend on the wall clock', async () => {
    await using site = await SchedulerSite.make('2026-03-01T12:00:00Z')
    const leader = await site.candidate().stand()
    const other = site.candidate()
    expect(await other.stand()).toBeUndefined()
    site.clock.set('2036-03-01T12:00:00Z')
    expect(await other.stand()).toBeUndefined()
    await leader?.release()
  })
})

async function open(site: SchedulerSite, options = {}) {
  const leader = await site.candidate().stand()
  if (leader === undefined) throw new Error('somebody leads')
  const journal = await Journal.open(site.epochs, leader, options)
  const die = async () => {
    await journal.close()
    await leader.release()
  }
  return { journal, die, folder: leader.folder }
}
