import {
  appendFile,
  copyFile,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  symlink,
  truncate,
  utimes,
  writeFile,
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import pino from 'pino'
import { afterAll, beforeEach, describe, expect, it } from 'vitest'
import type { Chunk, Extractor, Gap, LanePosition, Positions, ReadContext } from '../../src/core/contracts.ts'
import type { LaneSurvey } from '../../src/core/lane-survey.ts'
import files from '../../src/extractors/files.ts'

const root = await mkdtemp(join(tmpdir(), 'adflow-files-'))
let base: string
let chunkDir: string
let cases = 0
let warnings: string[]

beforeEach(async () => {
  cases += 1
  base = join(root, `source-${cases}`)
  chunkDir = join(root, `chunks-${cases}`)
  await mkdir(base)
  await mkdir(chunkDir)
  warnings = []
})
afterAll(() => rm(root, { recursive: true, force: true }))

const put = async (name: string, content: string | Buffer, settled = true): Promise<void> => {
  await writeFile(join(base, name), content)
  if (settled) await settle(name)
}
const settle = (name: string): Promise<void> => utimes(join(base, name), 1_700_000_000, 1_700_000_000 + cases)

function extractor(options: object = {}): Extractor {
  const log = pino({ level: 'warn' }, { write: (line: string) => warnings.push(JSON.parse(line).msg) })
  const parsed = files.options.parse({ path: '*.ndjson', ...options })
  return files.create(parsed, {
    id: 'source',
    job: 'job',
    baseDir: base,
    chunkDir,
    stageDir: join(root, 'staged'),
    log,
  })
}

interface Result {
  readonly lanes: Record<string, string>
  readonly chunks: Chunk[]
  readonly gaps: Gap[]
  readonly positions: Positions
}

/** One run; the text of each lane is put together from its chunks. */
async function run(options: object = {}, context: Partial<ReadContext> = {}): Promise<Result> {
  const source = extractor(options)
  const lanes: Record<string, string> = {}
  const positions: Record<string, LanePosition> = { ...context.from }
  const chunks: Chunk[] = []
  const gaps: Gap[] = []
  const signal = new AbortController().signal
  const limits = { chunkBytes: 1 << 20, maxRecordBytes: 1 << 20, parallel: 2 }
  for await (const item of source.read({ from: {}, planned: [], until: 'now', signal, ...limits, ...context })) {
    if ('gap' in item) {
      gaps.push(item)
      continue
    }
    const { lane, to } = item.range
    lanes[lane] = (lanes[lane] ?? '') + (await readFile(item.file, 'utf8'))
    positions[lane] = { at: to, ...(item.mark === undefined ? {} : { mark: item.mark }) }
    chunks.push(item)
    await item.release()
  }
  await source.close()
  expect(await readdir(chunkDir)).toEqual([])
  return { lanes, chunks, gaps, positions }
}

async function survey(from: Positions, options: object = {}): Promise<readonly LaneSurvey[]> {
  return extractor(options).survey(from)
}

const LINES = '{"a":1}\n{"a":2}\n'

describe('which files are read', () => {
  it('takes them in natural order, one lane each, named by their path', async () => {
    await mkdir(join(base, 'sub'))
    for (const name of ['e-10.ndjson', 'e-9.ndjson', 'sub/e.ndjson', 'skip.ndjson']) await put(name, LINES)
    const { chunks, gaps } = await run({ path: '**/*.ndjson', exclude: '**/skip*' }, { parallel: 1 })
    expect(chunks.map((chunk) => chunk.range.lane)).toEqual(['e-9.ndjson', 'e-10.ndjson', 'sub/e.ndjson'])
    expect(gaps).toEqual([])
  })

  it('takes a name with pattern characters for the file of that name', async () => {
    await put('a[1]*.ndjson', LINES)
    expect((await run({ path: 'a[1]*.ndjson' })).lanes).toEqual({ 'a[1]*.ndjson': LINES })
  })

  it('gives chunk files names of its own, whatever the source is called', async () => {
    await put("..'; drop table x; --\n.ndjson", LINES)
    const { chunks } = await run({ path: ['*.ndjson', '..*'] })
    for (const chunk of chunks) expect(chunk.file).toMatch(new RegExp(`^${chunkDir}/[0-9a-f]{8}-\\d+\\.ndjson$`))
  })

  it('says that a pattern matches nothing, unless that is allowed', async () => {
    expect((await run({ path: 'nothing/*.ndjson' })).gaps).toMatchObject([
      { code: 'SOURCE_MISSING', gap: { lane: 'nothing/*.ndjson' } },
    ])
    expect((await run({ path: 'nothing/*.ndjson', allow_empty: true })).gaps).toEqual([])
  })

  it('books a gap for one that cannot be opened and reads the others', async () => {
    await put('good.ndjson', LINES)
    await symlink('/nonexistent/file', join(base, 'dangling.ndjson'))
    await mkdir(join(base, 'folder'))
    const { lanes, gaps } = await run({ path: ['*.ndjson', 'folder'] })
    expect(lanes).toEqual({ 'good.ndjson': LINES })
    expect(gaps.map(({ code, gap }) => [gap.lane, code])).toEqual([
      ['dangling.ndjson', 'SOURCE_UNREADABLE'],
      ['folder', 'SOURCE_UNSUPPORTED'],
    ])
  })

  it.each([
    ['an unknown extension', 'a.dat', LINES, 'SOURCE_UNSUPPORTED'],
    ['UTF-16', 'a.ndjson', Buffer.from('\ufeff{"a":1}\n', 'utf16le'), 'SOURCE_UNSUPPORTED'],
    ['a .gz that is no gzip', 'a.ndjson.gz', 'not compressed\n', 'SOURCE_DAMAGED'],
    ['a .parquet that is none', 'a.parquet', 'PAR1 and so on', 'SOURCE_DAMAGED'],
    ['a Parquet file cut off', 'b.parquet', 'PAR1', 'SOURCE_DAMAGED'],
  ])('books a gap for %s', async (_, name, content, code) => {
    await put(name, content)
    const { gaps, chunks } = await run({ path: name })
    expect(gaps).toMatchObject([{ code, gap: { lane: name, from: '0' } }])
    expect(chunks).toEqual([])
  })

  it('leaves out what was modified outside the wanted time, or too long ago to begin', async () => {
    await put('old.ndjson', LINES)
    await put('new.ndjson', LINES, false)
    expect(Object.keys((await run({ ignore_older_than: '1h' })).lanes)).toEqual(['new.ndjson'])
    expect(Object.keys((await run({}, { modified: { to: 1_800_000_000_000 - 50_000_000_000 } })).lanes)).toEqual([
      'old.ndjson',
    ])
  })

  it('has nothing to give for an empty file, of any format', async () => {
    for (const name of ['a.ndjson', 'a.json', 'a.csv', 'a.csv.gz'])
      await put(name, name.endsWith('gz') ? gzipSync('') : '')
    await put('b.ndjson.gz', '')
    expect(await run({ path: '*' })).toMatchObject({ chunks: [], gaps: [] })
  })
})

describe('reading on', () => {
  it('gives exactly what was appended', async () => {
    await put('a.ndjson', LINES)
    const first = await run()
    await appendFile(join(base, 'a.ndjson'), '{"a":3}\n')
    expect(await survey(first.positions)).toMatchObject([
      { lane: 'a.ndjson', state: 'continue', at: '16', end: '24', bytesLeft: 8 },
    ])
    const second = await run({}, { from: first.positions })
    expect(second.lanes).toEqual({ 'a.ndjson': '{"a":3}\n' })
    expect((await run({}, { from: second.positions })).chunks).toEqual([])
  })

  it('counts lines on from where the last run stopped', async () => {
    await put('a.csv', 'x,y\n1,"a\nb"\n')
    const { positions } = await run({ path: 'a.csv' })
    await appendFile(join(base, 'a.csv'), '2,c\n')
    await settle('a.csv')
    const source = extractor({ path: 'a.csv' })
    const limits = { planned: [], chunkBytes: 100, maxRecordBytes: 100, parallel: 1 }
    for await (const item of source.read({
      from: positions,
      until: 'now',
      signal: new AbortController().signal,
      ...limits,
    })) {
      expect(await (item as Chunk).locate([0])).toEqual([{ byteFrom: 12, byteTo: 15, line: 4 }])
      expect((item as Chunk).format).toEqual({ type: 'csv', delimiter: ',', quote: '"', header: ['x', 'y'] })
    }
  })

  it.each([
    ['ndjson', '{"a":1}\n{"b":', '2}\n', '{"a":1}\n', '{"b":2}\n'],
    ['csv', 'x,y\n1,2\n3,4', '5\n', '1,2\n', '3,45\n'],
    ['json', '[{"a":1},{"b":', '2}]', '{"a":1}\n', '{"b":2}\n'],
  ])('waits for the rest of a half-written %s record', async (extension, before, after, first, second) => {
    const name = `a.${extension}`
    await put(name, before, false)
    const one = await run({ path: name, settle: '1h' })
    expect(one.lanes).toEqual({ [name]: first })
    await appendFile(join(base, name), after)
    expect((await run({ path: name, settle: '1h' }, { from: one.positions })).lanes).toEqual({ [name]: second })
  })

  it.each([
    ['has settled', { settle: '0s' }, '1,2\n3,4'],
    ['is to be read as it is', { settle: '1h', unterminated: 'read' }, '1,2\n3,4'],
    ['is to wait for its line end', { settle: '0s', unterminated: 'wait' }, '1,2\n'],
  ])('treats the last line of a file that %s accordingly', async (_, options, expected) => {
    await put('a.csv', 'x,y\n1,2\n3,4', false)
    expect((await run({ path: 'a.csv', ...options })).lanes).toEqual({ 'a.csv': expected })
  })

  it.each([
    ['has settled into halves', [64, 40, 48], '0s'],
    ['is still written as far as it may', [64, 64, 24], '1h'],
  ])('cuts the last chunk and a bit of a file that %s', async (_, sizes, after) => {
    const lines = `${LINES.repeat(9)}{"a":1}\n`
    await put('a.ndjson', lines, false)
    const { chunks, lanes } = await run({ settle: after }, { chunkBytes: 64 })
    expect(chunks.map(({ bytes }) => bytes)).toEqual(sizes)
    expect(lanes).toEqual({ 'a.ndjson': lines })
  })

  it('reads an unfinished NDJSON file without copying it once it is finished, and with a copy before', async () => {
    await put('a.ndjson', LINES, false)
    const [live] = (await run({ settle: '1h' })).chunks
    expect(live?.verify).toBeUndefined()
    await settle('a.ndjson')
    const [still] = (await run()).chunks
    expect(still?.verify).toBeDefined()
    expect([still?.digest, still?.bytes, still?.records]).toEqual([live?.digest, live?.bytes, live?.records])
  })

  it('notices that a file it reads in place was changed meanwhile', async () => {
    await put('a.ndjson', LINES)
    const source = extractor()
    const limits = { from: {}, planned: [], chunkBytes: 100, maxRecordBytes: 100, parallel: 1 }
    for await (const item of source.read({ until: 'now', signal: new AbortController().signal, ...limits })) {
      const { verify, release } = item as Chunk
      await verify?.()
      await appendFile(join(base, 'a.ndjson'), '{"a":3}\n')
      await expect(verify?.()).rejects.toMatchObject({ code: 'SOURCE_CHANGED' })
      await release()
    }
    expect(await readFile(join(base, 'a.ndjson'), 'utf8')).toBe(`${LINES}{"a":3}\n`)
  })

  it('goes on without a mark: lines, header and nesting are found again', async () => {
    await put('a.json', '[\n{"a":1},\n{"a":2}\n]')
    await put('a.csv', 'x,y\n1,2\n3,4\n')
    const from = { 'a.json': { at: '9' }, 'a.csv': { at: '8' } }
    const { lanes, chunks } = await run({ path: 'a.*' }, { from })
    expect(lanes).toEqual({ 'a.json': '{"a":2}\n', 'a.csv': '3,4\n' })
    expect(chunks.map((chunk) => chunk.format)).toContainEqual({
      type: 'csv',
      delimiter: ',',
      quote: '"',
      header: ['x', 'y'],
    })
  })

  it('goes on in the youngest lane of a name when marks are lost', async () => {
    await put('a.ndjson', LINES)
    const { lanes, gaps } = await run({}, { from: { 'a.ndjson': { at: '16' }, 'a.ndjson#2': { at: '8' } } })
    expect({ lanes, gaps }).toEqual({ lanes: { 'a.ndjson#2': '{"a":2}\n' }, gaps: [] })
    await put('a.ndjson#2', '{"b":1}\n')
    const both = { from: { 'a.ndjson': { at: '8' }, 'a.ndjson#2': { at: '0' } } }
    expect((await run({ path: '*' }, both)).lanes).toMatchObject({ 'a.ndjson': '{"a":2}\n' })
  })

  it('waits with a last line that ends between two frames of a compressed file', async () => {
    const [first, second] = ['{"a":1}\n{"a":', '2}\n'].map((part) => zstdCompressSync(Buffer.from(part)))
    await put('a.ndjson.zst', first ?? '', false)
    const before = await run({ path: '*', settle: '1h' })
    expect(before.lanes).toEqual({ 'a.ndjson.zst': '{"a":1}\n' })
    await put('a.ndjson.zst', Buffer.concat([first ?? Buffer.alloc(0), second ?? Buffer.alloc(0)]), false)
    const after = await run({ path: '*', settle: '1h' }, { from: before.positions })
    expect(after.lanes).toEqual({ 'a.ndjson.zst': '{"a":2}\n' })
  })

  it('takes further members of a compressed file, and does not open one that did not change', async () => {
    await put('a.ndjson.gz', gzipSync(LINES))
    const first = await run({ path: '*.gz' })
    expect(await survey(first.positions, { path: '*.gz' })).toMatchObject([{ state: 'done', bytesLeft: 0 }])
    await put('a.ndjson.gz', Buffer.concat([gzipSync(LINES), gzipSync('{"a":3}\n')]))
    const second = await run({ path: '*.gz' }, { from: first.positions })
    expect(second.lanes).toEqual({ 'a.ndjson.gz': '{"a":3}\n' })
  })

  it('reads on inside a JSON array that was written anew with more elements', async () => {
    await put('a.json', '[{"a":1}]')
    const first = await run({ path: 'a.json' })
    await put('a.json', '[{"a":1},{"a":2}]')
    expect((await run({ path: 'a.json' }, { from: first.positions })).lanes).toEqual({ 'a.json': '{"a":2}\n' })
  })
})

describe('files that do not stay what they were', () => {
  it('follows a file that was renamed, and takes the new one under its name for a new lane', async () => {
    await put('app.ndjson', LINES, false)
    const first = await run()
    await appendFile(join(base, 'app.ndjson'), '{"a":3}\n')
    await rename(join(base, 'app.ndjson'), join(base, 'app.ndjson.1'))
    await put('app.ndjson', '{"b":1}\n', false)
    const second = await run({}, { from: first.positions })
    expect(second.lanes).toEqual({ 'app.ndjson': '{"a":3}\n', 'app.ndjson#2': '{"b":1}\n' })
    expect(warnings).toEqual([expect.stringContaining('app.ndjson was rotated')])
    await rename(join(base, 'app.ndjson.1'), join(base, 'app.ndjson.2'))
    await rename(join(base, 'app.ndjson'), join(base, 'app.ndjson.1'))
    await put('app.ndjson', '{"c":1}\n', false)
    await appendFile(join(base, 'app.ndjson.1'), '{"b":2}\n')
    const third = await run({ path: ['*.ndjson', '*.ndjson.[0-9]'] }, { from: second.positions })
    expect(third.lanes).toEqual({ 'app.ndjson#2': '{"b":2}\n', 'app.ndjson#3': '{"c":1}\n' })
    expect((await run({ path: ['*.ndjson', '*.ndjson.[0-9]'] }, { from: third.positions })).chunks).toEqual([])
  })

  it('finds the copy that a rotation left before it truncated the file', async () => {
    await put('app.ndjson', LINES, false)
    const first = await run()
    await appendFile(join(base, 'app.ndjson'), '{"a":3}\n')
    await copyFile(join(base, 'app.ndjson'), join(base, 'app.ndjson.1'))
    await truncate(join(base, 'app.ndjson'))
    await appendFile(join(base, 'app.ndjson'), '{"b":1}\n')
    const second = await run({}, { from: first.positions })
    expect(second.lanes).toEqual({ 'app.ndjson': '{"a":3}\n', 'app.ndjson#2': '{"b":1}\n' })
  })

  it.each([
    ['truncated', '{"b":1}\n'],
    ['replaced', '{"b":1}\n{"b":2}\n{"b":3}\n'],
  ])('reads a file that was %s as a lane of its own', async (state, content) => {
    await put('a.ndjson', LINES)
    const first = await run()
    await put('a.ndjson', content)
    expect(await survey(first.positions)).toMatchObject([{ lane: 'a.ndjson#2', at: '0', state }])
    const second = await run({}, { from: first.positions })
    expect(second.lanes).toEqual({ 'a.ndjson#2': content })
    expect(warnings).toEqual([expect.stringContaining(`a.ndjson was ${state}`)])
    expect((await run({}, { from: second.positions })).chunks).toEqual([])
  })

  it('notices other bytes behind a head that is the same', async () => {
    const head = `{"x":"${'x'.repeat(5000)}"}\n`
    await put('a.ndjson', `${head}{"a":1}\n`)
    const first = await run()
    await put('a.ndjson', `${head}{"a":9}\n{"a":3}\n`)
    expect(Object.keys((await run({}, { from: first.positions })).lanes)).toEqual(['a.ndjson#2'])
  })

  it('does not take a new file for an old one only because it begins alike', async () => {
    await put('2026-01-01.ndjson', '{"ok":1}\n')
    const first = await run()
    await put('2026-01-02.ndjson', '{"ok":1}\n')
    await rm(join(base, '2026-01-01.ndjson'))
    expect((await run({}, { from: first.positions })).lanes).toEqual({ '2026-01-02.ndjson': '{"ok":1}\n' })
  })

  it('lets a file go that was read to its end, but books what was planned of it', async () => {
    await put('a.ndjson', LINES)
    await put('b.ndjson', LINES)
    const first = await run({}, { chunkBytes: 8 })
    await rm(join(base, 'a.ndjson'))
    expect((await run({}, { from: first.positions })).gaps).toEqual([])
    expect((await survey(first.positions)).map((lane) => lane.lane)).toEqual(['b.ndjson'])
    const planned = first.chunks
      .filter((chunk) => chunk.range.lane === 'a.ndjson')
      .map(({ range, mark }) => ({ ...range, mark: mark ?? '' }))
    const { gaps, chunks } = await run({}, { planned })
    expect(gaps).toMatchObject([{ code: 'SOURCE_CHANGED', gap: { lane: 'a.ndjson', from: '0', to: '8' } }])
    expect(chunks.map((chunk) => chunk.range.lane)).toEqual(['b.ndjson'])
  })

  it('books what was not read of a file that is gone, until another has its name', async () => {
    await put('a.ndjson', LINES)
    await put('b.ndjson', LINES)
    const first = await run({}, { chunkBytes: 8 })
    const [half] = first.chunks.filter((chunk) => chunk.range.lane === 'a.ndjson')
    const from = { ...first.positions, 'a.ndjson': { at: '8', mark: half?.mark ?? '' } }
    await rename(join(base, 'a.ndjson'), join(base, 'away'))
    const gap = { code: 'SOURCE_CHANGED', gap: { lane: 'a.ndjson', from: '8' } }
    expect((await run({}, { from })).gaps).toMatchObject([gap])
    expect((await run({}, { from })).gaps).toMatchObject([gap])
    await put('a.ndjson', '{"b":1}\n')
    const second = await run({}, { from })
    expect(second.gaps).toMatchObject([gap])
    expect(second.lanes).toEqual({ 'a.ndjson#2': '{"b":1}\n' })
    expect((await run({}, { from: second.positions })).gaps).toEqual([])
    await rename(join(base, 'away'), join(base, 'a.ndjson.1'))
    expect((await run({}, { from: second.positions })).lanes).toEqual({ 'a.ndjson': '{"a":2}\n' })
  })

  it('cuts a planned range out of a renamed file too', async () => {
    await put('a.ndjson', LINES)
    const [chunk] = (await run()).chunks
    await rename(join(base, 'a.ndjson'), join(base, 'a.ndjson.1'))
    await put('a.ndjson', '{"b":1}\n')
    const { lanes, chunks } = await run(
      {},
      { planned: [{ lane: 'a.ndjson', from: '0', to: '16', mark: chunk?.mark ?? '' }] },
    )
    expect(lanes).toEqual({ 'a.ndjson': LINES, 'a.ndjson#2': '{"b":1}\n' })
    expect(chunks.find(({ range }) => range.lane === 'a.ndjson')?.digest).toBe(chunk?.digest)
  })

  it('cuts a planned range exactly although the file has grown', async () => {
    await put('a.ndjson', LINES)
    const [chunk] = (await run()).chunks
    await appendFile(join(base, 'a.ndjson'), '{"a":3}\n')
    const { chunks } = await run({}, { planned: [{ lane: 'a.ndjson', from: '0', to: '16', mark: chunk?.mark ?? '' }] })
    expect(chunks.map(({ range, digest }) => [range.to, digest === chunk?.digest])).toEqual([
      ['16', true],
      ['24', false],
    ])
  })

  it('books a gap when planned bytes are missing from a file', async () => {
    await put('a.ndjson', LINES)
    const { gaps, chunks } = await run({}, { planned: [{ lane: 'a.ndjson', from: '0', to: '24' }] })
    expect(gaps).toMatchObject([{ code: 'SOURCE_CHANGED', gap: { lane: 'a.ndjson', from: '0', to: '24' } }])
    expect(chunks).toEqual([])
  })
})

describe('damaged sources', () => {
  const many = Array.from({ length: 30_000 }, (_, n) => `{"n":${n},"r":${Math.sin(n)}}\n`).join('')

  it.each([
    ['gzip', 'a.ndjson.gz', gzipSync],
    ['zstd', 'a.ndjson.zst', zstdCompressSync],
  ] as const)(
    'gives every whole record before the cut of a truncated %s file, and goes on once it is repaired',
    async (_, name, compress) => {
      const whole = compress(many)
      await put(name, whole.subarray(0, whole.length >> 1))
      await put('good.ndjson', LINES)
      const first = await run({ path: '*' }, { chunkBytes: 100_000 })
      const text = first.lanes[name] ?? ''
      expect(text.length).toBeGreaterThan(many.length / 4)
      expect(many.startsWith(text) && text.endsWith('\n')).toBe(true)
      expect(first.gaps).toMatchObject([{ code: 'SOURCE_DAMAGED', gap: { lane: name, from: String(text.length) } }])
      expect(first.lanes['good.ndjson']).toBe(LINES)
      await put(name, whole)
      const second = await run({ path: '*' }, { from: first.positions, chunkBytes: 100_000 })
      expect(text + second.lanes[name]).toBe(many)
    },
  )

  it('stops at a zip bomb, as a gap', async () => {
    await put('bomb.ndjson.gz', gzipSync(Buffer.alloc(80 << 20, '{"a":1}\n')))
    const { gaps, chunks } = await run({ path: '*.gz' }, { chunkBytes: 16 << 20 })
    expect(gaps).toMatchObject([{ code: 'SOURCE_BOMB', message: expect.stringContaining('max_ratio') }])
    expect(Number(chunks.at(-1)?.range.to)).toBeLessThan(66 << 20)
  })

  it('refuses a line far beyond the limit without holding it', async () => {
    await put(
      'a.ndjson',
      Buffer.concat([Buffer.from('{"a":1}\n'), Buffer.alloc(40 << 20, 'x'), Buffer.from('\n{"a":2}\n')]),
    )
    const { lanes, chunks } = await run()
    expect(lanes).toEqual({ 'a.ndjson': '{"a":1}\n{"a":2}\n' })
    const [refused, ...more] = chunks.flatMap((chunk) => chunk.refused)
    expect(more).toEqual([])
    expect(refused).toMatchObject({ reason: 'RECORD_TOO_LARGE', byteFrom: 8, byteTo: 8 + (40 << 20), line: 2 })
    expect(refused?.raw).toHaveLength(64 << 10)
  })

  it('leaves NUL bytes and invalid UTF-8 in an object to the engine, and refuses them outside of one, byte for byte', async () => {
    const broken = Buffer.from([0x00, 0xff, 0xc3])
    const inside = Buffer.concat([Buffer.from('{"'), broken, Buffer.from('"}')])
    await put('a.ndjson', Buffer.concat([Buffer.from('{}\n'), inside, Buffer.from('\n'), broken, Buffer.from('\n')]))
    const source = extractor()
    const limits = { from: {}, planned: [], chunkBytes: 100, maxRecordBytes: 100, parallel: 1 }
    for await (const item of source.read({ until: 'now', signal: new AbortController().signal, ...limits })) {
      const chunk = item as Chunk
      expect(await readFile(chunk.file)).toEqual(Buffer.concat([Buffer.from('{}\n'), inside, Buffer.from('\n')]))
      expect(await chunk.raw([1])).toEqual([inside])
      expect(chunk.refused).toEqual([
        { reason: 'RECORD_MALFORMED', message: 'not valid UTF-8', raw: broken, byteFrom: 11, byteTo: 14, line: 3 },
      ])
      await chunk.release()
    }
  })

  it('gives the original bytes of pretty-printed JSON, and its line in the chunk beside it', async () => {
    await put('a.json.gz', gzipSync('[\n  {"a":1},\n  {\n    "a": 2\n  }\n]'))
    const source = extractor({ path: 'a.json.gz' })
    const limits = { from: {}, planned: [], chunkBytes: 100, maxRecordBytes: 100, parallel: 1 }
    for await (const item of source.read({ until: 'now', signal: new AbortController().signal, ...limits })) {
      const chunk = item as Chunk
      expect((await chunk.raw([0, 1])).map(String)).toEqual(['{"a":1}', '{\n    "a": 2\n  }'])
      expect((await chunk.stored?.([1]))?.map(String)).toEqual(['{     "a": 2   }'])
      await chunk.release()
    }
  })
})

describe('CSV columns', () => {
  it.each([
    ['the first record', true, 'a,,A\n1,2,3\n', ['a', 'column1', 'A_1'], '1,2,3\n'],
    ['numbers', false, '1,2\n3,4\n', ['column0', 'column1'], '1,2\n3,4\n'],
    ['a list', ['p', 'q'], '1,2\n', ['p', 'q'], '1,2\n'],
    ['a header after blank lines and a byte order mark', true, '\ufeff\n\n"x","y"\n1,2\n', ['x', 'y'], '1,2\n'],
  ])('are named by %s', async (_, header, content, names, text) => {
    await put('a.csv', content)
    const { chunks, lanes } = await run({ path: 'a.csv', csv: { header } })
    expect(lanes).toEqual({ 'a.csv': text })
    expect(chunks[0]?.format).toMatchObject({ header: names })
  })

  it('cannot be read from a header whose quote is never closed', async () => {
    await put('a.csv', 'a,"b\n1,2\n')
    expect((await run({ path: 'a.csv' })).gaps).toMatchObject([
      { code: 'SOURCE_DAMAGED', message: expect.stringContaining('header') },
    ])
  })
})

describe('a job that runs for ever', () => {
  it('gives what comes, and tells a gap once', async () => {
    await put('a.ndjson', LINES)
    const stop = new AbortController()
    const source = extractor({ path: ['*.ndjson', 'missing.csv'], poll: '1ms' })
    const limits = { from: {}, planned: [], chunkBytes: 100, maxRecordBytes: 100, parallel: 2 }
    const seen: string[] = []
    for await (const item of source.read({ until: 'forever', signal: stop.signal, ...limits })) {
      seen.push('gap' in item ? item.code : `${item.range.lane} ${item.range.from}-${item.range.to}`)
      if (!('gap' in item)) await item.release()
      if (seen.length === 2) await appendFile(join(base, 'a.ndjson'), '{"a":3}\n')
      if (seen.length === 3) await put('b.ndjson', LINES)
      if (seen.length === 4) stop.abort()
    }
    expect(seen).toEqual(['SOURCE_MISSING', 'a.ndjson 0-16', 'a.ndjson 16-24', 'b.ndjson 0-16'])
    expect(await readdir(chunkDir)).toEqual([])
  })
})
