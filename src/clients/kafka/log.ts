/** Reads a partition to its end: what was committed, and nothing else. */
import type * as Library from '@platformatic/kafka'
import type { KafkaCluster } from './cluster.ts'
import { MOVED, patiently } from './patience.ts'

export interface LogRecord {
  readonly offset: bigint
  readonly key: Buffer | null
  readonly value: Buffer | null
}

const FETCH_BYTES = 1 << 22
const READ_UNCOMMITTED = 0
const READ_COMMITTED = 1
const TRANSACTIONAL = 1 << 4
const CONTROL = 1 << 5
const COMMIT_MARKER = 1

type Fetched = Library.fetchV13.FetchResponsePartition
type Batch = Library.RecordsBatch

/**
 * Partition 0 from `from` (an offset) to its end, at most about FETCH_BYTES at a time. Behind a transaction that is still open
 * there are others that are decided: these count too, unlike for a consumer, who waits. Resolves to the offset from which the
 * next call has to read.
 */
export async function readCommitted(
  cluster: KafkaCluster,
  topic: string,
  from: bigint,
  take: (records: readonly LogRecord[]) => void,
): Promise<bigint> {
  let at = from
  for (;;) {
    const fetched = await fetchFrom(cluster, topic, at, READ_COMMITTED)
    const batches = fetched.records ?? []
    take(stable(batches, fetched).filter(({ offset }) => offset >= at))
    at = endOf(batches) ?? at
    if (batches.length === 0 || at >= fetched.lastStableOffset) break
  }
  // Batches of each producer whose end has not been seen.
  const open = new Map<bigint, LogRecord[]>()
  for (let ahead = at; ; ) {
    const fetched = await fetchFrom(cluster, topic, ahead, READ_UNCOMMITTED)
    const batches = fetched.records ?? []
    take(decided(batches, open))
    ahead = endOf(batches) ?? ahead
    if (batches.length === 0 || ahead >= fetched.highWatermark) return at
  }
}

/** Below the last stable offset all is decided, and the broker lists what was aborted. */
function stable(batches: readonly Batch[], { abortedTransactions }: Fetched): LogRecord[] {
  const aborted = [...(abortedTransactions ?? [])].sort((a, b) => Number(a.firstOffset - b.firstOffset))
  const aborting = new Set<bigint>()
  const found: LogRecord[] = []
  for (const batch of batches) {
    while (aborted[0] !== undefined && aborted[0].firstOffset <= lastOffset(batch)) {
      aborting.add(aborted[0].producerId)
      aborted.shift()
    }
    if ((batch.attributes & CONTROL) !== 0) aborting.delete(batch.producerId)
    else if ((batch.attributes & TRANSACTIONAL) === 0 || !aborting.has(batch.producerId))
      found.push(...recordsOf(batch))
  }
  return found
}

function decided(batches: readonly Batch[], open: Map<bigint, LogRecord[]>): LogRecord[] {
  const found: LogRecord[] = []
  for (const batch of batches) {
    const { attributes, producerId, records } = batch
    if ((attributes & TRANSACTIONAL) === 0) {
      found.push(...recordsOf(batch))
    } else if ((attributes & CONTROL) === 0) {
      open.set(producerId, [...(open.get(producerId) ?? []), ...recordsOf(batch)])
    } else {
      if (records[0]?.key?.readInt16BE(2) === COMMIT_MARKER) found.push(...(open.get(producerId) ?? []))
      open.delete(producerId)
    }
  }
  return found
}

function recordsOf({ firstOffset, records }: Batch): LogRecord[] {
  return records.map(({ key, offsetDelta, value }) => ({ offset: firstOffset + BigInt(offsetDelta), key, value }))
}

function lastOffset({ firstOffset, lastOffsetDelta }: Batch): bigint {
  return firstOffset + BigInt(lastOffsetDelta)
}

function endOf(batches: readonly Batch[]): bigint | undefined {
  const last = batches.at(-1)
  return last === undefined ? undefined : lastOffset(last) + 1n
}

async function fetchFrom(
  cluster: KafkaCluster,
  topic: string,
  fetchOffset: bigint,
  isolation: number,
): Promise<Fetched> {
  const { fetchV13 } = await cluster.library()
  const wanted = {
    partition: 0,
    currentLeaderEpoch: -1,
    fetchOffset,
    lastFetchedEpoch: -1,
    partitionMaxBytes: FETCH_BYTES,
  }
  let known = cluster.topicId(topic) !== ''
  const fetch = async () => {
    if (!known) await cluster.metadata([topic])
    known = false
    const topics = [{ topicId: cluster.topicId(topic), partitions: [wanted] }]
    const leader = await cluster.broker(cluster.leaders(topic)[0] ?? -1)
    return fetchV13.api.async(leader, 0, 0, FETCH_BYTES, isolation, 0, -1, topics, [], '')
  }
  const { responses } = await patiently(fetch, cluster.requestTimeoutMs, MOVED)
  const fetched = responses[0]?.partitions[0]
  if (fetched === undefined) throw new Error('the broker answered without the partition that was asked for')
  return fetched
}
