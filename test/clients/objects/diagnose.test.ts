import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import filesConsumer from '../../../src/consumers/files.ts'
import filesExtractor from '../../../src/extractors/files.ts'
import filesLoader from '../../../src/loaders/files.ts'
import fileTransport from '../../../src/transports/file.ts'
import { diagnosed, statuses } from '../../harness/diagnosis.ts'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'adflow-diagnose-'))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

const loader = (path: string) => diagnosed(filesLoader, { path, format: 'parquet' }, { baseDir: folder })

describe('a folder that is written', () => {
  it('is asked before it is made, and not made', async () => {
    const findings = await loader('out/events')
    expect(statuses(findings)).toEqual({ target: 'ok', permission: 'ok', disk: 'ok' })
    expect(findings[0]).toMatchObject({ found: 'would be made: the folder', place: join(folder, 'out', 'events') })
    expect(readdirSync(folder)).toEqual([])
  })

  it('is no file', async () => {
    writeFileSync(join(folder, 'out'), '')
    expect(await loader('out')).toMatchObject([{ check: 'target', status: 'failed', code: 'LOCAL_IO' }])
    expect(await loader('out/events')).toMatchObject([
      { status: 'failed', found: `${join(folder, 'out')} is no folder` },
    ])
  })

  it('is asked in the same way for a consumer, and for the file of a transport', async () => {
    const consumer = await diagnosed(filesConsumer, { path: 'out', format: 'csv' }, { baseDir: folder })
    const transport = await diagnosed(fileTransport, { log_file_path: 'lineage.ndjson' }, { baseDir: folder })
    for (const findings of [consumer, transport])
      expect(statuses(findings)).toEqual({ target: 'ok', permission: 'ok', disk: 'ok' })
    expect(readdirSync(folder)).toEqual([])
  })
})

describe('files that are read', () => {
  const sources = (path: string | string[], now = Date.now) =>
    diagnosed(filesExtractor, { path }, { baseDir: folder, now })

  it('are counted, and may be read', async () => {
    mkdirSync(join(folder, 'in'))
    writeFileSync(join(folder, 'in', 'a.ndjson'), '{}\n')
    writeFileSync(join(folder, 'in', 'b.ndjson'), '{}\n{}\n')
    const findings = await sources('in/*.ndjson')
    expect(statuses(findings)).toEqual({ target: 'ok', permission: 'ok', clock: 'ok' })
    expect(findings[0]?.found).toBe('2 files, 9 B')
  })

  it('are missing, or are none', async () => {
    expect(await sources('in/*.ndjson')).toMatchObject([
      { check: 'target', status: 'failed', code: 'SOURCE_MISSING', found: expect.stringContaining('in/*.ndjson') },
    ])
    symlinkSync('nowhere', join(folder, 'dangling.ndjson'))
    mkdirSync(join(folder, 'folder.ndjson'))
    const codes = (await sources(['dangling.ndjson', 'folder.ndjson'])).map((finding) =>
      finding.status === 'failed' ? finding.code : finding.status,
    )
    expect(codes).toEqual(['SOURCE_UNREADABLE', 'SOURCE_UNSUPPORTED'])
  })

  it('come from the future', async () => {
    const path = join(folder, 'a.ndjson')
    writeFileSync(path, '{}\n')
    utimesSync(path, 1_800_000_000, 1_800_000_000)
    const findings = await sources('a.ndjson', () => 1_799_999_000_000)
    expect(findings.find(({ check }) => check === 'clock')).toMatchObject({
      status: 'warning',
      found: expect.stringContaining('1000 s in the future'),
    })
  })
})
