import { access, mkdir, mkdtemp, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { fileFacts } from '../../../src/clients/objects/discover.ts'
import { bringIn, linkInPlace, verifyInPlace } from '../../../src/clients/objects/in-place.ts'
import { Engine } from '../../../src/engine/session.ts'

const OTHER_FILE_SYSTEM = '/dev/shm'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'adflow-in-place-'))
  await mkdir(join(folder, 'chunks'))
  await writeFile(join(folder, 'a.ndjson'), '{"a":1}\n')
  await symlink(join(folder, 'a.ndjson'), join(folder, 'link.ndjson'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

const factsOf = async (path: string) => {
  const facts = await fileFacts(path)
  if (facts === undefined) throw new Error(`${path} is no file`)
  return facts
}

describe('a source that is read in place', () => {
  it.each(['a.ndjson', 'link.ndjson'])('can be read by the locked engine through its second name: %s', async (name) => {
    const target = join(folder, 'chunks', `${name}-chunk`)
    expect(await linkInPlace(join(folder, name), target, await factsOf(join(folder, name)))).toBe(true)
    const engine = await Engine.open({
      memoryBytes: 1e8,
      threads: 1,
      tempFolder: join(folder, 'temp'),
      folders: [join(folder, 'chunks')],
    })
    const session = await engine.connect()
    const read = (path: string) => session.rows(`SELECT a FROM read_json('${path}', format = 'newline_delimited')`)
    expect(await read(target)).toEqual([{ a: 1n }])
    await expect(read(join(folder, 'a.ndjson'))).rejects.toThrow(/disabled by configuration/)
    session.close()
    engine.close()
  })

  it('is not taken when the name leads to another file by now', async () => {
    const facts = await factsOf(join(folder, 'a.ndjson'))
    const target = join(folder, 'chunks', 'other')
    expect(await linkInPlace(join(folder, 'a.ndjson'), target, { ...facts, ino: '1' })).toBe(false)
    await expect(access(target)).rejects.toThrow('ENOENT')
  })

  it('is copied where it lies on another file system', async (test) => {
    const away = await mkdtemp(join(OTHER_FILE_SYSTEM, 'adflow-')).catch(() => undefined)
    if (away === undefined || (await stat(away)).dev === (await stat(folder)).dev)
      return test.skip('there is no other file system here')
    const source = join(away, 'a.ndjson')
    await writeFile(source, '{"a":2}\n')
    const target = join(folder, 'chunks', 'copied')
    expect(await linkInPlace(source, target, await factsOf(source))).toBe(false)
    await bringIn(source, target, await factsOf(source))
    expect(await readFile(target, 'utf8')).toBe('{"a":2}\n')
    await rm(away, { recursive: true })
  })

  it('is found changed by its size or its time', async () => {
    const path = join(folder, 'b.ndjson')
    await writeFile(path, '1\n')
    const facts = await factsOf(path)
    await verifyInPlace(path, path, facts)
    await writeFile(path, '1\n2\n')
    await expect(verifyInPlace(path, path, facts)).rejects.toMatchObject({ code: 'SOURCE_CHANGED' })
  })
})
