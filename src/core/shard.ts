/** A part of the lanes of a job. The shards of one job share no lane, and together they have all. */
import { hash } from 'node:crypto'

export interface Shard {
  /** From 0. */
  readonly index: number
  /** How many there are. */
  readonly of: number
}

export const MOST_SHARDS = 256

/** `2/8`. */
export function shardText({ index, of }: Shard): string {
  return `${index}/${of}`
}

/** undefined: it is none. */
export function parseShard(text: string): Shard | undefined {
  const [, index = '', of = ''] = /^(\d{1,3})\/(\d{1,3})$/.exec(text) ?? []
  const shard = { index: Number(index), of: Number(of) }
  return index !== '' && of !== '' && shard.of <= MOST_SHARDS && shard.index < shard.of ? shard : undefined
}

/** Without a shard all lanes are owned. */
export function ownsLane(shard: Shard | undefined, lane: string): boolean {
  return shard === undefined || shardOfLane(lane, shard.of) === shard.index
}

/** Partitions of one topic go round, so that shards have equally many; topics begin at different ones. It must never change: positions
 *  lie where this says. */
export function shardOfLane(lane: string, of: number): number {
  const [, topic, partition] = /^(.*)\/(\d{1,9})$/s.exec(lane) ?? []
  const first = Number.parseInt(hash('sha256', topic ?? lane).slice(0, 8), 16) % of
  return (first + Number(partition ?? 0)) % of
}
