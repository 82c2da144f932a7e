import { describe, expect, it } from 'vitest'
import { chunkBytesAt } from '../../../src/clients/objects/read-file.ts'

const MB = 1e6

/** Of a file that is cut where it should be, to the byte. */
function sizes(fileBytes: number, chunkBytes: number, end = fileBytes): number[] {
  const all: number[] = []
  for (let from = 0; from < fileBytes; ) {
    const bytes = Math.min(chunkBytesAt(from, chunkBytes, end), fileBytes - from)
    all.push(bytes / MB)
    from += bytes
  }
  return all
}

describe('the sizes of chunks', () => {
  it('begin small where chunks are large, and end with two halves of what would be one and a smaller one', () => {
    expect(sizes(1320 * MB, 256 * MB)).toEqual([64, 64, 128, 256, 256, 256, 148, 148])
    expect(sizes(1320 * MB, 512 * MB)).toEqual([64, 64, 128, 256, 404, 404])
    expect(sizes(1320 * MB, 64 * MB).slice(-3)).toEqual([64, 52, 52])
    expect(sizes(1344 * MB, 64 * MB).slice(-3)).toEqual([64, 64, 64])
    expect(sizes(1290 * MB, 64 * MB).slice(-3)).toEqual([64, 37, 37])
    expect(sizes(90 * MB, 256 * MB)).toEqual([45, 45])
  })

  it('are never more in number than without the halves', () => {
    for (const chunk of [1, 16, 64, 256])
      for (let bytes = 1; bytes < 900; bytes += 7)
        expect(sizes(bytes * MB, chunk * MB)).toHaveLength(sizes(bytes * MB, chunk * MB, Infinity).length)
  })

  it('follow from the beginnings alone where the end is not known', () => {
    expect(sizes(90 * MB, 256 * MB, Infinity)).toEqual([64, 26])
    expect(sizes(1320 * MB, 256 * MB, Infinity)).toEqual([64, 64, 128, 256, 256, 256, 256, 40])
  })
})
