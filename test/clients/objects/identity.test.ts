import { appendFile, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { type FileFacts, fileFacts } from '../../../src/clients/objects/discover.ts'
import { differenceOf, isSameFile, parseMark, Witness } from '../../../src/clients/objects/identity.ts'
import { LocalFile } from '../../../src/clients/objects/local-file.ts'

const folder = await mkdtemp(join(tmpdir(), 'adflow-identity-'))
afterAll(() => rm(folder, { recursive: true, force: true }))
const path = join(folder, 'a.log')

const factsNow = async (): Promise<FileFacts> => {
  const facts = await fileFacts(path)
  if (facts === undefined) throw new Error(`${path} is no file`)
  return facts
}

const evidenceAt = async (raw: number) => {
  const file = await LocalFile.open(path)
  try {
    return await new Witness({ path: 'a.log', absolute: path, facts: file.facts }, file.facts, file).evidence(raw)
  } finally {
    await file.close()
  }
}

const x = (count: number): string => 'x'.repeat(count)

describe('what a lane remembers of its file', () => {
  it.each([
    ['is as it was', `${x(6000)}ab`, 6001, `${x(6000)}ab`, undefined],
    ['has grown', x(100), 100, `${x(100)}more`, undefined],
    ['changed only where it was not read yet', `${x(6000)}ab`, 6000, `${x(6000)}cd`, undefined],
    ['is shorter than what was read', x(100), 100, x(99), 'truncated'],
    ['begins otherwise', `a${x(99)}`, 100, `b${x(200)}`, 'replaced'],
    ['is other where reading stopped', `${x(6000)}a`, 6001, `${x(6000)}b`, 'replaced'],
    ['was not read at all', 'a', 0, 'b', undefined],
  ])('tells a file that %s', async (_, before, read, now, difference) => {
    await writeFile(path, before)
    const mark = await evidenceAt(read)
    await writeFile(path, now)
    expect(await differenceOf(mark, await factsNow(), () => LocalFile.open(path))).toBe(difference)
  })

  it('reads nothing where size and time say that nothing changed', async () => {
    await writeFile(path, 'abc')
    const mark = await evidenceAt(3)
    const opened = (): never => {
      throw new Error('opened')
    }
    expect(await differenceOf(mark, await factsNow(), opened)).toBeUndefined()
    await appendFile(path, 'd')
    await expect(differenceOf(mark, await factsNow(), opened)).rejects.toThrow('opened')
  })

  it('does not take a later file for the same because it was given the same inode', async () => {
    await writeFile(path, 'abc')
    const facts = await factsNow()
    expect(isSameFile(facts, facts)).toBe(true)
    for (const other of [{ born: '1' }, { ino: '1' }, { dev: '1' }])
      expect(isSameFile(facts, { ...facts, ...other })).toBe(false)
  })

  it.each([undefined, '', 'not JSON', '{"v":2}', '{"v":1,"path":3}'])(
    'counts on the name alone where the mark is %j',
    (mark) => {
      expect(parseMark(mark)).toBeUndefined()
    },
  )
})
