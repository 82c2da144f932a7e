/** Where partitions begin and end, and where a time stands in them. */
import type { KafkaCluster } from './cluster.ts'
import { type Isolation, isolationLevel } from './fetch.ts'

/** Asked for in the place of a time. Under `read_committed` the end is the first offset that is not decided yet. */
const EARLIEST = -2n
const END = -1n
const NOBODY = -1

export interface Bounds {
  readonly start: bigint
  readonly end: bigint
}

export async function boundsOf(
  cluster: KafkaCluster,
  topic: string,
  isolation: Isolation,
): Promise<ReadonlyMap<number, Bounds>> {
  const [starts, ends] = [
    await offsetsAt(cluster, topic, EARLIEST, isolation),
    await offsetsAt(cluster, topic, END, isolation),
  ]
  return new Map([...starts].map(([partition, start]) => [partition, { start, end: ends.get(partition) ?? start }]))
}

/** Where partitions end now. */
export function endsOf(
  cluster: KafkaCluster,
  topic: string,
  isolation: Isolation,
): Promise<ReadonlyMap<number, bigint>> {
  return offsetsAt(cluster, topic, END, isolation)
}

/** The first offset at that time or later; partitions that have none are left out. */
export async function offsetsSince(
  cluster: KafkaCluster,
  topic: string,
  timeMs: number,
  isolation: Isolation,
): Promise<ReadonlyMap<number, bigint>> {
  const found = await offsetsAt(cluster, topic, BigInt(timeMs), isolation)
  return new Map([...found].filter(([, offset]) => offset >= 0n))
}

async function offsetsAt(
  cluster: KafkaCluster,
  topic: string,
  timestamp: bigint,
  isolation: Isolation,
): Promise<ReadonlyMap<number, bigint>> {
  const { listOffsetsV7 } = await cluster.library()
  const leaders = cluster.leaders(topic).map((leader, partition) => ({ leader, partition }))
  const found = new Map<number, bigint>()
  for (const [leader, own] of Map.groupBy(leaders, (each) => each.leader ?? NOBODY)) {
    const partitions = own.map(({ partition }) => ({ partitionIndex: partition, currentLeaderEpoch: -1, timestamp }))
    const { topics } = await listOffsetsV7.api.async(await cluster.broker(leader), NOBODY, isolationLevel(isolation), [
      { name: topic, partitions },
    ])
    for (const { partitionIndex, offset } of topics[0]?.partitions ?? []) found.set(partitionIndex, offset)
  }
  return found
}
