import { describe, expect, it } from 'vitest'
import { ownsLane, parseShard, shardOfLane, shardText } from '../../src/core/shard.ts'

const partitions = (topic: string, count: number) => Array.from({ length: count }, (_, index) => `${topic}/${index}`)

describe('the shard of a lane', () => {
  it('is where positions lie: it never changes', () => {
    expect(partitions('ads.events', 6).map((lane) => shardOfLane(lane, 4))).toEqual([2, 3, 0, 1, 2, 3])
    expect(['a.ndjson', 'b.ndjson', '2026/09/x'].map((lane) => shardOfLane(lane, 4))).toEqual([2, 3, 3])
  })

  it.each([
    [8, 1],
    [8, 3],
    [12, 4],
    [5, 7],
  ])('of %i partitions and %i shards: each partition has one, and no shard has two more than another', (count, of) => {
    const owned = Array.from({ length: of }, (_, index) =>
      partitions('topic', count).filter((lane) => ownsLane({ index, of }, lane)),
    )
    expect(owned.flat().sort()).toEqual(partitions('topic', count).sort())
    const sizes = owned.map(({ length }) => length)
    expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(1)
  })

  it('of many topics with one partition each is not always the same', () => {
    const shards = new Set(Array.from({ length: 40 }, (_, topic) => shardOfLane(`topic-${topic}/0`, 4)))
    expect(shards.size).toBe(4)
  })
})

describe('the name of a shard', () => {
  it.each(['0/1', '2/8', '255/256'])('%s is read as it was written', (text) => {
    const shard = parseShard(text)
    expect(shard === undefined ? undefined : shardText(shard)).toBe(text)
  })

  it.each(['', '1', '8/8', '-1/4', '1/0', '1/4 ', '0/257', '1/4/8'])('%j is none', (text) => {
    expect(parseShard(text)).toBeUndefined()
  })
})
