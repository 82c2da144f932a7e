/** What an SFTP server that cannot be trusted may say. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import sftp from '../../src/extractors/sftp.ts'
import { temporaryFolder } from '../harness/cli.ts'
import { readOnce } from '../harness/file-source.ts'
import { hostileSftp } from '../harness/hostile-sftp.ts'

const ROW = Buffer.from('{"id":1}\n')

let folder: ReturnType<typeof temporaryFolder>
beforeEach(() => {
  folder = temporaryFolder('sftp-source')
})
afterEach(() => folder.remove())

describe('a server that sends names which lead elsewhere', () => {
  it('is asked for none of them: each is a gap, and the good files are read', async () => {
    const names = [
      '../../x.ndjson',
      '/etc/x.ndjson',
      'a/../../x.ndjson',
      'nul\0.ndjson',
      'line\nend.ndjson',
      '..x/../y',
    ]
    const bad = Object.fromEntries(names.map((name) => [name, { bytes: ROW }]))
    await using server = await hostileSftp({ ...bad, 'good.ndjson': { bytes: ROW }, '..good.ndjson': { bytes: ROW } })
    const found = await readOnce(sftp, { ...server.place, files: ['**/*.ndjson', '**/..*'] }, folder.path)
    expect(found.lanes).toEqual({ 'good.ndjson': ROW.toString(), '..good.ndjson': ROW.toString() })
    expect(server.opened.toSorted()).toEqual(['/drop/..good.ndjson', '/drop/good.ndjson'])
    expect(found.gaps.map(({ code }) => code)).toEqual(names.map(() => 'SOURCE_UNSUPPORTED'))
    for (const name of names)
      expect(found.gaps.filter(({ message }) => message.includes(JSON.stringify(name)))).toHaveLength(1)
  })
})

describe('a file of which it cannot be told whether it is still the same', () => {
  it('is a gap at its position: neither read on nor taken for new', async () => {
    await using before = await hostileSftp({ 'a.ndjson': { bytes: ROW }, 'b.ndjson': { bytes: ROW } })
    const { positions } = await readOnce(sftp, before.place, folder.path)
    const more = Buffer.concat([ROW, ROW])
    await using after = await hostileSftp({ 'a.ndjson': { bytes: more, denied: true }, 'b.ndjson': { bytes: more } })
    const found = await readOnce(sftp, after.place, folder.path, { from: positions })
    expect(found.gaps).toMatchObject([{ gap: { lane: 'a.ndjson', from: String(ROW.length) }, code: 'SOURCE_DENIED' }])
    expect(found.lanes).toEqual({ 'b.ndjson': ROW.toString() })
  })
})

describe('a folder with more names than may be in memory', () => {
  it('is one gap', async () => {
    const many = Object.fromEntries(Array.from({ length: 20 }, (_, n) => [`${n}.ndjson`, { bytes: ROW }]))
    await using server = await hostileSftp(many)
    const found = await readOnce(sftp, { ...server.place, max_files: 19 }, folder.path)
    expect([found.lanes, found.gaps]).toMatchObject([{}, [{ gap: { lane: '/drop' }, code: 'SOURCE_UNSUPPORTED' }]])
    expect(Object.keys((await readOnce(sftp, { ...server.place, max_files: 20 }, folder.path)).lanes)).toHaveLength(20)
  })
})

describe('one bad file of a server', () => {
  it.each([
    ['may not be read', { bytes: ROW, denied: true }, 'SOURCE_DENIED'],
    ['is shorter than the server says', { bytes: ROW, size: 3_000_000 }, 'SOURCE_CHANGED'],
    ['ends before its first byte', { bytes: Buffer.alloc(0), size: 100 }, 'SOURCE_CHANGED'],
  ])('that %s is a gap and costs no other', async (_, bad, code) => {
    await using server = await hostileSftp({
      'a.ndjson': { bytes: ROW },
      'bad.ndjson': bad,
      'c.ndjson': { bytes: ROW },
    })
    const found = await readOnce(sftp, { ...server.place, unterminated: 'read' }, folder.path)
    expect(found.gaps).toMatchObject([{ gap: { lane: 'bad.ndjson' }, code }])
    expect(found.lanes).toMatchObject({ 'a.ndjson': ROW.toString(), 'c.ndjson': ROW.toString() })
    expect(found.lanes['bad.ndjson'] ?? ROW.toString()).toBe(ROW.toString())
  })
})
