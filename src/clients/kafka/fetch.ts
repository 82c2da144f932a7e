/** One fetch of one partition, its record batches as they came: what is in them is read straight from these bytes. */
import type { KafkaCluster, KafkaLibrary } from './cluster.ts'

export interface FetchOrder {
  readonly topic: string
  readonly partition: number
  readonly offset: bigint
  readonly maxBytes: number
  readonly isolation: Isolation
}

export type Isolation = 'read_committed' | 'read_uncommitted'

export interface FetchAnswer {
  readonly highWatermark: bigint
  readonly lastStableOffset: bigint
  readonly logStart: bigint
  /** By first offset; of transactions that reach into these bytes. */
  readonly aborted: readonly { readonly producerId: bigint; readonly firstOffset: bigint }[]
  /** Whole record batches; the last may be cut off. */
  readonly bytes: Buffer
}

const FETCH = { key: 1, version: 13 } as const
const NOBODY = -1
const NO_EPOCH = -1
const LEVELS = { read_uncommitted: 0, read_committed: 1 } as const

type Reader = InstanceType<KafkaLibrary['Reader']>

export function isolationLevel(isolation: Isolation): number {
  return LEVELS[isolation]
}

/** Asks the leader, as the cluster knows it now. Rejects with what the broker says of the partition. */
export async function fetchPartition(cluster: KafkaCluster, order: FetchOrder): Promise<FetchAnswer> {
  const library = await cluster.library()
  const leader = await cluster.broker(cluster.leaders(order.topic)[order.partition] ?? NOBODY)
  return fetchApi(library).async(leader, order, cluster.topicId(order.topic))
}

function fetchApi(library: KafkaLibrary) {
  const { Writer, createAPI, ResponseError } = library
  const request = ({ partition, offset, maxBytes, isolation }: FetchOrder, topicId: string) =>
    Writer.create()
      .appendInt32(NOBODY)
      // Asked for only where something is there: nobody waits, so that lanes can share the connection.
      .appendInt32(0)
      .appendInt32(0)
      .appendInt32(maxBytes)
      .appendInt8(LEVELS[isolation])
      .appendInt32(0)
      .appendInt32(NO_EPOCH)
      .appendArray([topicId], (topics, id) => {
        topics.appendUUID(id).appendArray([partition], (own, index) => {
          own
            .appendInt32(index)
            .appendInt32(NO_EPOCH)
            .appendInt64(offset)
            .appendInt32(NO_EPOCH)
            .appendInt64(-1n)
            .appendInt32(maxBytes)
        })
      })
      .appendArray([], () => undefined)
      .appendString('')
      .appendTaggedFields()
  const parse = (_id: number, key: number, version: number, reader: Reader): FetchAnswer => {
    reader.readInt32()
    const refused = reader.readInt16()
    reader.readInt32()
    const answers = reader.readArray((topic: Reader) => {
      topic.readUUID()
      return topic.readArray(partitionOf, true, false)
    })
    const found = answers[0]?.[0]
    const code = refused === 0 ? (found?.code ?? 0) : refused
    if (code !== 0) throw new ResponseError(key, version, { '/': [code, null] }, {})
    if (found === undefined) throw new Error('the broker answered without the partition that was asked for')
    return found
  }
  return createAPI<Parameters<typeof request>, FetchAnswer>(FETCH.key, FETCH.version, request, parse)
}

function partitionOf(reader: Reader): FetchAnswer & { readonly code: number } {
  reader.readInt32()
  const code = reader.readInt16()
  const highWatermark = reader.readInt64()
  const lastStableOffset = reader.readInt64()
  const logStart = reader.readInt64()
  const aborted = reader.readNullableArray((own: Reader) => ({
    producerId: own.readInt64(),
    firstOffset: own.readInt64(),
  }))
  reader.readInt32()
  const length = Math.max(0, reader.readUnsignedVarInt() - 1)
  const bytes = reader.buffer.slice(reader.position, reader.position + length)
  reader.skip(length)
  reader.readTaggedFields()
  const inOrder = [...(aborted ?? [])].sort((a, b) => (a.firstOffset < b.firstOffset ? -1 : 1))
  return { code, highWatermark, lastStableOffset, logStart, aborted: inOrder, bytes }
}
