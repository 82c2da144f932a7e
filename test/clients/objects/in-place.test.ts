import { access, mkdir, mkdtemp, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { fileFacts } from '../../../src/clients/objects/discover.ts'
import { bringIn, linkInPlace, readInPlace, verifyInPlace } from '../../../src/clients/objects/in-place.ts'
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

  describe('on another file system', () => {
    let away: string | undefined
    beforeAll(async () => {
      away = await mkdtemp(join(OTHER_FILE_SYSTEM, 'adflow-')).catch(() => undefined)
      if (away !== undefined && (await stat(away)).dev === (await stat(folder)).dev) away = undefined
    })
    afterAll(async () => {
      if (away !== undefined) await rm(away, { recursive: true })
    })
    const put = async (name: string): Promise<string | undefined> => {
      if (away === undefined) return undefined
      await writeFile(join(away, name), '{"a":2}\n')
      return join(away, name)
    }

    it('is read by its own name, which outlives the chunk, where the engine may', async (test) => {
      const source = await put('a.ndjson')
      if (source === undefined) return test.skip('there is no other file system here')
      const target = join(folder, 'chunks', 'unused')
      const readable = await readInPlace(source, target, await factsOf(source), [dirname(source)])
      expect(readable?.file).toBe(source)
      await readable?.discard()
      expect(await readFile(source, 'utf8')).toBe('{"a":2}\n')
      await expect(access(target)).rejects.toThrow('ENOENT')
    })

    it.each([
      ['the engine may not read there', 'b.ndjson', false],
      ['its name is a pattern', 'b[1].ndjson', true],
    ])('is copied where %s', async (_, name, allowed) => {
      const source = await put(name)
      if (source === undefined) return
      const target = join(folder, 'chunks', `copy of ${name}`)
      const folders = allowed ? [dirname(source)] : []
      expect(await readInPlace(source, target, await factsOf(source), folders)).toBeUndefined()
      const copy = await bringIn(source, target, await factsOf(source), folders)
      expect(copy.file).toBe(target)
      expect(await readFile(target, 'utf8')).toBe('{"a":2}\n')
      await copy.discard()
      expect(await readFile(source, 'utf8')).toBe('{"a":2}\n')
      await expect(access(target)).rejects.toThrow('ENOENT')
    })

    it('is not read by its own name when that leads to another file by now', async (test) => {
      const source = await put('c.ndjson')
      if (source === undefined) return test.skip('there is no other file system here')
      const facts = { ...(await factsOf(source)), ino: '1' }
      const target = join(folder, 'chunks', 'never')
      expect(await readInPlace(source, target, facts, [dirname(source)])).toBeUndefined()
      await expect(bringIn(source, target, facts, [dirname(source)])).rejects.toMatchObject({ code: 'SOURCE_CHANGED' })
      await expect(access(target)).rejects.toThrow('ENOENT')
    })
  })

  it('is found changed by its size or its time', async () => {
    const path = join(folder, 'b.ndjson')
    await writeFile(path, '1\n')
    const facts = await factsOf(path)
    await verifyInPlace(path, path, facts)
    await writeFile(path, '1\n2\n')
    await expect(verifyInPlace(path, path, facts)).rejects.toMatchObject({ code: 'SOURCE_CHANGED' })
    await rm(path)
    await expect(verifyInPlace(path, path, facts)).rejects.toMatchObject({ code: 'SOURCE_CHANGED' })
  })
})
