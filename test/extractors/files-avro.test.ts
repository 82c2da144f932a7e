import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { crc32, zstdCompressSync } from 'node:zlib'
import { compressionsAlgorithms } from '@platformatic/kafka'
import avro from 'avsc'
import pino from 'pino'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import Init from '../../src/commands/init.ts'
import type { PlannedRange, Positions, ReadContext } from '../../src/core/contracts.ts'
import files from '../../src/extractors/files.ts'
import type { RunSummary } from '../../src/runtime/summary.ts'
import { runCommand } from '../commands/run-command.ts'
import { avroType } from '../harness/avro-values.ts'
import { temporaryFolder } from '../harness/cli.ts'
import { SmallJob } from '../harness/small-job.ts'

const FIRST_ID = 9_007_199_254_740_993n
const SCHEMA = {
  type: 'record',
  name: 'Row',
  fields: [
    { name: 'id', type: 'long' },
    { name: 'n', type: ['null', 'int'] },
    { name: 'name', type: 'string' },
  ],
}
const type = avroType(SCHEMA)
const { snappy } = compressionsAlgorithms

/** As avsc writes it: blocks of about so many bytes. */
function container(rows: number, codec: string, { from = 0, blockBytes = 2000 } = {}): Promise<Buffer> {
  const codecs = {
    zstandard: (data: Buffer, done: (error: Error | null, packed?: Buffer) => void) =>
      done(null, zstdCompressSync(data)),
    snappy: (data: Buffer, done: (error: Error | null, packed?: Buffer) => void) => {
      const sum = Buffer.alloc(4)
      sum.writeUInt32BE(crc32(data))
      done(null, Buffer.concat([snappy.compressSync(data), sum]))
    },
    null: avro.streams.BlockEncoder.defaultCodecs().null,
    deflate: avro.streams.BlockEncoder.defaultCodecs().deflate,
  }
  const encoder = new avro.streams.BlockEncoder(type, { codec, codecs, blockSize: blockBytes } as never)
  const parts: Buffer[] = []
  for (let row = from; row < from + rows; row += 1)
    encoder.write({ id: FIRST_ID + BigInt(row), n: row % 3 === 0 ? null : { int: row }, name: `name ü ${row}` })
  encoder.end()
  return new Promise((resolve, reject) => {
    encoder.on('data', (part: Buffer) => parts.push(part)).on('error', reject)
    encoder.on('end', () => resolve(Buffer.concat(parts)))
  })
}

const line = (row: number) =>
  `{"id":${FIRST_ID + BigInt(row)},"n":${row % 3 === 0 ? null : row},"name":"name ü ${row}"}`
const lines = (from: number, to: number) => Array.from({ length: to - from }, (_, row) => line(from + row))

describe('container files of Avro', () => {
  let folder: ReturnType<typeof temporaryFolder>
  beforeEach(() => {
    folder = temporaryFolder('files-avro')
  })
  afterEach(() => folder.remove())

  const put = (name: string, bytes: Buffer) => writeFileSync(join(folder.path, name), bytes)
  const read = async (context: Partial<ReadContext> = {}, options: object = {}, most = Number.POSITIVE_INFINITY) => {
    const env = { id: 'input', job: 'job', baseDir: folder.path, chunkDir: folder.path, stageDir: folder.path }
    const chosen = files.options.parse({ path: '*.avro', settle: '0s', ...options })
    const extractor = files.create(chosen, { ...env, log: pino({ level: 'silent' }) })
    const { signal } = new AbortController()
    const sizes = { chunkBytes: 6000, maxRecordBytes: 1000, parallel: 1 }
    const got = {
      lines: [] as string[],
      gaps: [] as string[],
      planned: [] as PlannedRange[],
      positions: {} as Positions,
    }
    for await (const item of extractor.read({ from: {}, planned: [], until: 'now', ...sizes, signal, ...context })) {
      if ('gap' in item) {
        got.gaps.push(`${item.code} ${item.gap.from}: ${item.message}`)
        continue
      }
      const all = Array.from({ length: item.records }, (_, ordinal) => ordinal)
      const raws = (await item.raw(all)).map(String)
      expect(`${raws.join('\n')}\n`).toBe(readFileSync(item.file, 'utf8'))
      const places = await item.locate(all)
      expect(places.map(({ line: at }) => at)).toEqual(raws.map((raw) => Number(/ü (\d+)/.exec(raw)?.[1]) + 1))
      got.lines.push(...raws)
      got.planned.push({ ...item.range, mark: item.mark ?? '' })
      got.positions = { ...got.positions, [item.range.lane]: { at: item.range.to, mark: item.mark ?? '' } }
      await item.release()
      if (got.planned.length === most) break
    }
    await extractor.close()
    return got
  }

  it.each(['null', 'deflate', 'snappy', 'zstandard'])(
    'compressed by %s: each record once, from whatever chunk a run goes on',
    async (codec) => {
      put('a.avro', await container(500, codec))
      const whole = await read()
      expect(whole.gaps).toEqual([])
      expect(whole.lines).toEqual(lines(0, 500))
      expect(whole.planned.length).toBeGreaterThan(2)
      const first = await read({}, {}, 1)
      const rest = await read({ from: first.positions })
      expect([...first.lines, ...rest.lines]).toEqual(lines(0, 500))
      // Without what the mark knows, and exactly as it was planned.
      const [range] = whole.planned.slice(-1)
      const bare = { [range?.lane ?? '']: { at: range?.from ?? '' } }
      expect((await read({ from: bare, planned: whole.planned.slice(-1) })).planned).toEqual(whole.planned.slice(-1))
      expect((await read({ from: whole.positions })).planned).toEqual([])
    },
  )

  it('that grow by whole blocks are read on; a block that is not whole yet waits', async () => {
    const more = await container(300, 'null')
    put('a.avro', more.subarray(0, more.length - 2500))
    const waiting = await read({}, { unterminated: 'wait' })
    expect(waiting.gaps).toEqual([])
    expect(waiting.lines.length).toBeGreaterThan(0)
    put('a.avro', more)
    const rest = await read({ from: waiting.positions }, { unterminated: 'wait' })
    expect([...waiting.lines, ...rest.lines]).toEqual(lines(0, 300))
  })
  it('that are damaged are read up to the damage, which is told with its place', async () => {
    const good = await container(300, 'null')
    const cases: readonly [Buffer, RegExp, boolean][] = [
      [good.subarray(0, good.length - 5), /SOURCE_DAMAGED \d+: the block at byte \d+ of .* is cut off/, true],
      [Buffer.concat([good.subarray(0, good.length - 5), Buffer.alloc(5)]), /not followed by the marker/, true],
      [Buffer.from('{"id":1}'), /SOURCE_DAMAGED 0: .* does not begin like a container file/, false],
      [good.subarray(0, 60), /SOURCE_DAMAGED 0: .* ends in the middle of its head/, false],
      [Buffer.from(good.toString('latin1').replace('"long"', '"lung"'), 'latin1'), /has no type `lung`/, false],
      [
        Buffer.from(good.toString('latin1').replace('\x08null', '\x08bz_2'), 'latin1'),
        /SOURCE_UNSUPPORTED 0: .* is compressed by bz_2/,
        false,
      ],
    ]
    for (const [bytes, told, some] of cases) {
      put('a.avro', bytes)
      const got = await read()
      expect(got.gaps, String(told)).toEqual([expect.stringMatching(told)])
      expect(got.lines).toEqual(lines(0, got.lines.length))
      expect(got.lines.length > 0, String(told)).toBe(some)
    }
    // Somewhere in the records of a block: nothing of the block is taken.
    for (let at = good.length - 200; at < good.length - 16; at += 7) {
      const bytes = Buffer.from(good)
      bytes[at] = (bytes[at] as number) ^ 0x80
      put('a.avro', bytes)
      const got = await read()
      if (got.gaps.length > 0) expect(got.lines).toEqual(lines(0, got.lines.length))
      else expect(got.lines).toHaveLength(300)
    }
    put('a.avro', await container(50, 'null'))
    expect((await read({ maxRecordBytes: 30 })).gaps).toEqual([
      expect.stringMatching(/SOURCE_UNSUPPORTED 0: .* raise `resources.max_record`/),
    ])
  })

  it('are loaded by a job that was drafted from one', async () => {
    put('rows.avro', await container(120, 'deflate'))
    const made = await runCommand('init', Init, [
      join(folder.path, 'p'),
      '--name',
      'rows',
      '--from',
      join(folder.path, 'rows.avro'),
    ])
    expect(made.exit, made.stdout + made.stderr).toBe(0)
    const drafted = readFileSync(join(folder.path, 'p', 'jobs', 'rows.yaml'), 'utf8')
    expect(drafted).toMatch(/id: .*bigint/)
    const job = new SmallJob(join(folder.path, 'p', 'jobs'), drafted)
    expect((await job.run()).json<RunSummary>()).toMatchObject({ exit: 0, read: 120, quarantined: 0 })
  })
})
