import { execFileSync } from 'node:child_process'
import { link, mkdir, mkdtemp, realpath, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { baseFolders, discover, naturalOrder } from '../../../src/clients/objects/discover.ts'
import { formatOf } from '../../../src/clients/objects/file-format.ts'

let base: string
beforeAll(async () => {
  base = await mkdtemp(join(tmpdir(), 'adflow-discover-'))
  await mkdir(join(base, 'sub'))
  await mkdir(join(base, 'folder.ndjson'))
  for (const name of ['a.ndjson', 'sub/b.ndjson', '.hidden.ndjson']) await writeFile(join(base, name), '')
  await link(join(base, 'a.ndjson'), join(base, 'twin.csv'))
  await symlink(join(base, 'sub', 'b.ndjson'), join(base, 'linked.ndjson'))
  await symlink('/nonexistent/file', join(base, 'dangling.ndjson'))
  execFileSync('mkfifo', [join(base, 'sub', 'pipe.fifo')])
  await symlink(join(base, 'sub', 'pipe.fifo'), join(base, 'linked.fifo'))
})
afterAll(() => rm(base, { recursive: true, force: true }))

const find = async (patterns: string[], exclude: string[] = []) => {
  const { files, problems } = await discover({ patterns, exclude, baseDir: base, allowEmpty: false })
  return { paths: files.map((file) => file.path), problems: problems.map(({ path, code }) => `${code} ${path}`) }
}

describe('patterns', () => {
  it.each([
    ['*.ndjson', ['a.ndjson', 'linked.ndjson'], ['SOURCE_UNREADABLE dangling.ndjson']],
    ['sub/*', ['sub/b.ndjson'], ['SOURCE_UNSUPPORTED sub/pipe.fifo']],
    ['*.fifo', [], ['SOURCE_UNSUPPORTED linked.fifo']],
    ['*.csv', ['twin.csv'], []],
    ['.*.ndjson', ['.hidden.ndjson'], []],
    ['sub', [], ['SOURCE_UNSUPPORTED sub']],
    ['none-*', [], ['SOURCE_MISSING none-*']],
    ['a.ndjson', ['a.ndjson'], []],
  ])('%s names what a shell would name, and says what it cannot read', async (pattern, paths, problems) => {
    expect(await find([pattern])).toEqual({ paths, problems })
  })

  it('are each accounted for, and name each file once', async () => {
    expect(await find(['a.*', '*.csv', 'a.ndjson', 'gone.csv'], ['*.csv'])).toEqual({
      paths: ['a.ndjson'],
      problems: ['SOURCE_MISSING *.csv', 'SOURCE_MISSING gone.csv'],
    })
  })
})

describe('folders that the engine may read in', () => {
  it.each([
    ['of a pattern', ['sub/*.ndjson'], ['sub']],
    ['of a name', ['sub/b.ndjson'], ['sub']],
    ['of patterns from the first folder on', ['*.ndjson', '**/x', '{a,b}/c'], ['']],
    ['each once, by its real path', ['alias/*.ndjson', 'sub/*'], ['sub']],
    ['none that is not there', ['nowhere/*.ndjson'], []],
  ])('%s', async (_, patterns, folders) => {
    await symlink(join(base, 'sub'), join(base, 'alias')).catch(() => undefined) // there from the case before
    const real = await realpath(base)
    expect(baseFolders(patterns, base)).toEqual(folders.map((folder) => join(real, folder).replace(/\/$/, '')))
  })

  it('never everything', () => {
    expect(baseFolders(['/*/x.ndjson'], base)).toEqual([])
  })
})

describe('names', () => {
  it('are ordered by their numbers', () => {
    expect(['e10', 'e9', 'E9', 'e09', 'e1'].sort(naturalOrder)).toEqual(['e1', 'e09', 'e9', 'E9', 'e10'])
  })

  it.each([
    ['a.ndjson', 'ndjson'],
    ['a.JSONL.gz', 'ndjson'],
    ['a.json.zst', 'json'],
    ['a.csv', 'csv'],
    ['a.tsv.gz', 'tsv'],
    ['a.parquet', 'parquet'],
    ['app.log.1', 'ndjson'],
    ['app.csv-20260101', 'csv'],
    ['a.dat', undefined],
    ['gz', undefined],
  ])('%s tell the format %s', (name, format) => {
    expect(formatOf(name)).toBe(format)
  })
})
