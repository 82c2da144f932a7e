import { hash } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { Finding } from '../../src/core/diagnosis.ts'
import { diagnoseDaemon } from '../../src/daemon/diagnose.ts'
import { Candidate } from '../../src/daemon/epoch.ts'
import { Journal } from '../../src/daemon/journal.ts'
import { SchedulerSite } from '../harness/scheduler.ts'

describe('what the doctor says of the daemon', () => {
  it('is nothing where none has been, and otherwise whether it runs the job as the file says', async () => {
    await using site = await SchedulerSite.make('2026-03-01T12:00:00Z')
    const file = join(site.folder, 'job.yaml')
    await writeFile(file, 'as it was')
    expect(await found(file, site.folder)).toEqual([])
    const epochs = join(site.folder, '_daemon', 'epochs')
    await mkdir(epochs, { recursive: true })
    const leader = await new Candidate({ epochs, clock: site.clock, command: 'test', url: null }).stand()
    if (leader === undefined) throw new Error('somebody leads')
    const journal = await Journal.open(epochs, leader)
    expect(await found(file, site.folder)).toEqual([['ok', expect.stringContaining('it has no job of this file')]])
    const digest = hash('sha256', 'as it was')
    await journal.append([{ type: 'accepted', job: 'job', file, digest, from: 0, consumed: {} }])
    expect(await found(file, site.folder)).toEqual([['ok', expect.stringContaining('job runs as the file says')]])
    await writeFile(file, 'with a mistake')
    await journal.append([{ type: 'paused', job: 'job', act: { who: 'ann', why: 'the store is moved', at: 'noon' } }])
    expect(await found(file, site.folder)).toEqual([
      ['warning', expect.stringContaining('goes on as the file was before its last change')],
      ['warning', 'job is paused by ann since noon: the store is moved'],
    ])
    await journal.close()
    await leader.release()
  })
})

async function found(file: string, stateDir: string): Promise<(readonly [string, string])[]> {
  const findings: Finding[] = []
  for await (const finding of diagnoseDaemon(file, stateDir).findings) findings.push(finding)
  return findings.map((each) => [each.status, each.found] as const)
}
