/** Single records of a chunk file, found again by their ordinal: for what is said of those that are rejected. */
import type { Chunk } from '../../core/contracts.ts'
import { type ChunkLayout, Places } from '../../records/locate.ts'
import { RecordIndex } from '../../records/record-index.ts'
import type { Splitter } from '../../records/splitter.ts'

type ChunkRecords = Required<Pick<Chunk, 'locate' | 'raw' | 'spans'>>

/** `expected`: how many there probably are; asked when the first of them is looked for. */
export function chunkRecords(
  file: string,
  splitter: Splitter,
  layout: ChunkLayout,
  expected: () => number,
): ChunkRecords {
  let index: Promise<RecordIndex> | undefined
  const records = () => {
    index ??= RecordIndex.build(file, splitter, expected())
    return index
  }
  return {
    locate: async (ordinals) => {
      const known = await records()
      const places = new Places(layout)
      return ordinals.map((ordinal) => {
        const { start, end, lineEnds } = known.span(ordinal)
        return places.of(start, end - start, lineEnds)
      })
    },
    raw: async (ordinals) => (await records()).bytes(ordinals),
    spans: async (ordinals) => {
      const known = await records()
      return ordinals.map((ordinal) => known.span(ordinal))
    },
  }
}
