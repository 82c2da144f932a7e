import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { afterAll, describe, expect, it } from 'vitest'
import { diagnosePush } from '../../../src/clients/push/diagnose.ts'
import { Journal } from '../../../src/clients/push/journal.ts'
import { writeLoaded } from '../../../src/clients/push/journal-folder.ts'
import { pushOptions } from '../../../src/clients/push/options.ts'
import type { Finding } from '../../../src/core/diagnosis.ts'

const folder = await mkdtemp(join(tmpdir(), 'adflow-push-doctor-'))
afterAll(() => rm(folder, { recursive: true, force: true }))

async function ask(options: object): Promise<Record<string, Finding>> {
  const { findings } = diagnosePush(pushOptions.parse({ journal: folder, ...options }), {
    ...{ id: 's', job: 'j', baseDir: folder, log: pino({ level: 'silent' }), columns: undefined },
    ...{ runningPid: undefined, answerMs: 1000, signal: new AbortController().signal, now: Date.now },
  })
  const found: Record<string, Finding> = {}
  for await (const finding of findings) found[finding.check] = finding
  return found
}

describe('the doctor of pushes', () => {
  it('says what waits, warns before it is too much, and names another reader', async () => {
    expect(await ask({})).toMatchObject({
      permission: { status: 'ok', found: expect.stringContaining('no token') },
      target: { status: 'ok', found: expect.stringContaining('serve-push') },
    })
    const journal = await Journal.open(join(folder, 'events'), { fileBytes: 1 << 20, windowMs: 1000 })
    const digest = Buffer.alloc(16)
    await journal.append({ payload: Buffer.alloc(900, 'x'), records: 1, key: undefined, digest })
    await journal.close()
    const tokens = [{ name: 'web', token: 'a-token-of-the-web-of-32-characters' }]
    const found = await ask({ tokens })
    expect(found).toMatchObject({ permission: { found: '1 tokens: web' }, owed: { status: 'ok' } })
    expect(JSON.stringify(found)).not.toContain('a-token')
    expect(await ask({ max_pending: '1KiB' })).toMatchObject({ owed: { status: 'warning' } })
    await writeLoaded(join(folder, 'events'), { job: 'other', source: 's', file: 1, at: 24 })
    expect(await ask({})).toMatchObject({ target: { status: 'failed', code: 'SOURCE_UNSUPPORTED' } })
  })

  it('says what it cannot read', async () => {
    const journal = join(folder, 'events', 'loaded.json')
    expect(await ask({ journal })).toMatchObject({ reachable: { status: 'failed' } })
  })
})
