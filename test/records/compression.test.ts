import { gzipSync, zstdCompressSync } from 'node:zlib'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { compressionOf, Inflater, type RandomReader } from '../../src/records/compression.ts'

const data = Buffer.from(Array.from({ length: 40_000 }, (_, i) => `{"i":${i},"r":${Math.sin(i)}}\n`).join(''))

function reader(bytes: Buffer): RandomReader {
  return {
    readAt: async (target, offset, length, position) => bytes.copy(target, offset, position, position + length),
    close: async () => undefined,
  }
}

async function inflate(bytes: Buffer, skip = 0, maxRatio = 200): Promise<{ output: Buffer; error: unknown }> {
  const kind = compressionOf(bytes)
  if (kind === 'none') throw new Error('not compressed')
  const inflater = new Inflater(reader(bytes), kind, { origin: 'memory', skip, maxRatio })
  const parts: Buffer[] = []
  const piece = Buffer.alloc(50_000)
  try {
    for (;;) {
      const count = await inflater.read(piece, 0, piece.length)
      if (count === 0) return { output: Buffer.concat(parts), error: undefined }
      parts.push(Buffer.from(piece.subarray(0, count)))
    }
  } catch (error) {
    return { output: Buffer.concat(parts), error }
  } finally {
    await inflater.close()
  }
}

describe.each([
  ['gzip', gzipSync],
  ['zstd', zstdCompressSync],
] as const)('%s', (name, compress) => {
  const whole = compress(data)

  it('is recognised by its first bytes', () => {
    expect(compressionOf(whole)).toBe(name)
    expect(compressionOf(Buffer.from('{"a":1}'))).toBe('none')
  })

  it('gives back the bytes, of several members too, from any offset', async () => {
    const two = Buffer.concat([whole, compress('middle'), whole])
    const all = Buffer.concat([data, Buffer.from('middle'), data])
    for (const skip of [0, 1, data.length + 3, all.length - 1])
      expect((await inflate(two, skip)).output.equals(all.subarray(skip))).toBe(true)
  })

  it('gives an empty stream for nothing', async () => {
    expect(await inflate(compress(''))).toEqual({ output: Buffer.alloc(0), error: undefined })
  })

  it('delivers what stands before a cut and then says where the source ends', async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 20, max: whole.length - 1 }), async (length) => {
        const { output, error } = await inflate(whole.subarray(0, length))
        expect(error).toMatchObject({ code: 'SOURCE_DAMAGED' })
        expect(output.equals(data.subarray(0, output.length))).toBe(true)
        expect(output.length).toBeGreaterThan((data.length * length) / whole.length - 300_000)
      }),
      { numRuns: 20 },
    )
  })

  it('stops at damage with what stands before it delivered', async () => {
    const damaged = Buffer.from(whole)
    damaged.fill(0xff, whole.length >> 1, (whole.length >> 1) + 60)
    const { output, error } = await inflate(damaged)
    expect(error).toMatchObject({ code: 'SOURCE_DAMAGED' })
    expect(output.length).toBeGreaterThan(data.length * 0.3)
    expect(output.subarray(0, data.length * 0.3).equals(data.subarray(0, data.length * 0.3))).toBe(true)
  })

  it('refuses other bytes behind the stream', async () => {
    const { error } = await inflate(Buffer.concat([whole, Buffer.from('garbage')]))
    expect(error).toMatchObject({ code: 'SOURCE_DAMAGED' })
  })

  it('refuses to expand without limit', async () => {
    const bomb = compress(Buffer.alloc(100 << 20))
    const { output, error } = await inflate(bomb)
    expect(error).toMatchObject({ code: 'SOURCE_BOMB' })
    expect(output.length).toBeLessThan(66 << 20)
  })
})

describe('a gzip member whose checksum is wrong', () => {
  it('is damaged, but all but its last few KB are delivered', async () => {
    const member = gzipSync(data)
    member.fill(0, member.length - 8)
    const { output, error } = await inflate(member)
    expect(error).toMatchObject({ code: 'SOURCE_DAMAGED' })
    expect(data.length - output.length).toBeLessThanOrEqual(4096)
    expect(output.equals(data.subarray(0, output.length))).toBe(true)
  })
})
