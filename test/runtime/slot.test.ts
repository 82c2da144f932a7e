import { appendFile, mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { openLedger } from '../../src/lineage/ledger.ts'
import { admitSlot, ledgerEnd, parseTicket } from '../../src/runtime/slot.ts'

let folder: string
let ledger: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'adflow-slot-'))
  ledger = join(folder, 'ledger')
  await mkdir(join(folder, 'epochs', '00000003'), { recursive: true })
})
afterEach(() => rm(folder, { recursive: true }))

describe('a run for a scheduled time', () => {
  it('may be while its epoch is the newest', async () => {
    expect(await admit('job@1', 3)).toBeUndefined()
    await expect(admit('job@1', 2)).rejects.toMatchObject({ code: 'FENCED', exit: 77 })
  })

  it('has nothing to do when the time has had a run that ended well, and has when that one did not', async () => {
    const since = await ledgerEnd(ledger)
    await run('r1', 'job@1', { status: 'owed', exit: 69 })
    expect(await admit('job@1', 3, since)).toBeUndefined()
    await run('r2', 'job@1', { status: 'interrupted', exit: 0 })
    expect(await admit('job@1', 3, since)).toBeUndefined()
    await run('r3', 'job@1', { status: 'done', exit: 0 })
    expect(await admit('job@1', 3, since)).toMatchObject({ run: 'r3', status: 'done', exit: 0 })
    expect(await admit('job@10', 3, since)).toBeUndefined()
    expect(await admit('job@1', 3, await ledgerEnd(ledger))).toBeUndefined()
  })

  it('looks from the beginning of a segment that became shorter, and over a torn end', async () => {
    await run('r1', 'job@1', { status: 'done', exit: 0 })
    const { segment, byte } = await ledgerEnd(ledger)
    await appendFile(join(ledger, segment), '{"type":"run_started","slot":"job@2"')
    expect(await admit('job@1', 3, { segment, byte: byte + 1_000_000 })).toMatchObject({ run: 'r1' })
    expect(await admit('job@2', 3, { segment, byte: 0 })).toBeUndefined()
  })

  it('is told of by the daemon alone', () => {
    for (const text of ['', '{}', '{"slot":"a@1","epoch":0,"epochs":"x","since":{"segment":"","byte":0}}'])
      expect(() => parseTicket(text)).toThrow(/not from `adflow daemon`/)
  })
})

function admit(slot: string, epoch: number, since = { segment: '', byte: 0 }) {
  return admitSlot({ slot, epoch, epochs: join(folder, 'epochs'), inServer: false, since }, ledger)
}

async function run(id: string, slot: string, end: { readonly status: string; readonly exit: number }): Promise<void> {
  const book = await openLedger(ledger, { run: id })
  await book.append([
    { type: 'run_started', run: id, job: 'job', command: 'adflow run', version: '1', epoch: '0', pin: 'p', slot },
    { type: 'run_ended', run: id, ...end },
  ])
  await book.close()
}
