import { randomFillSync, randomInt } from 'node:crypto'
import { crc32 } from 'node:zlib'
import { expect, it } from 'vitest'
import { compiledMemory } from '../../src/records/compiled.ts'
import { sumOf } from '../../src/records/sum.ts'

it('gives the CRC-32 of pieces of any length from any place, whatever came before them', () => {
  const [buffer = Buffer.alloc(0)] = compiledMemory(0, 1).buffers
  const lengths = [0, 1, 19_999, 20_000, 20_001, 20_063, 24_000, 24_064, 43_200, 43_264, 262_144]
  for (let more = 0; more < 100; more += 1) lengths.push(randomInt(buffer.length - 100))
  for (const length of lengths) {
    const piece = buffer.subarray(randomInt(100)).subarray(0, length)
    randomFillSync(piece)
    const before = randomInt(2 ** 32)
    expect(sumOf(piece, before), `${length} bytes at ${piece.byteOffset} after ${before}`).toBe(crc32(piece, before))
  }
  for (const value of [0, 255]) expect(sumOf(buffer.fill(value), 0)).toBe(crc32(buffer, 0))
})

it('leaves the bytes as they are', () => {
  const [buffer = Buffer.alloc(0)] = compiledMemory(64, 2).buffers
  const copy = Buffer.from(randomFillSync(buffer))
  sumOf(buffer, 7)
  expect(buffer.equals(copy)).toBe(true)
})
