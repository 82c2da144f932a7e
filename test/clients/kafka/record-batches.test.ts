import { readFileSync } from 'node:fs'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import * as library from '@platformatic/kafka'
import { describe, expect, it } from 'vitest'
import { ChunkLines } from '../../../src/clients/kafka/chunk-lines.ts'
import { type LogBatch, logPart } from '../../../src/clients/kafka/log-batches.ts'
import { RecordBatch } from '../../../src/clients/kafka/record-batch.ts'
import { unpacked } from '../../../src/clients/kafka/unpack.ts'
import { PieceBuffers } from '../../../src/records/piece-buffers.ts'
import { temporaryFolder } from '../../harness/cli.ts'

const FAR = 9_223_372_036_854_700_000n
const ORIGIN = 'kafka://here:9092/events/0'
const PRODUCER = { producerId: 7n, producerEpoch: 0 }

async function batchOf(values: readonly string[], base: bigint): Promise<Buffer> {
  const batch = new RecordBatch()
  for (const value of values)
    batch.add({ key: undefined, value: Buffer.from(value), headers: [], timestampMs: 1_774_864_800_123 })
  const bytes = await batch.finish(library, PRODUCER, 0, 'none')
  bytes.writeBigInt64BE(base, 0)
  return bytes
}

const part = (bytes: Buffer, more: Partial<Parameters<typeof logPart>[0]> = {}, from = FAR) =>
  logPart({ aborted: [], bytes, ...more }, { from, committed: true, origin: ORIGIN }, library)

describe('record batches', () => {
  it('at the far end of 64 bits keep their offsets to the last digit', async () => {
    const { batches, next } = part(await batchOf(['{"id":1}', '{"id":2}', '{"id":3}'], FAR))
    expect(next).toBe(FAR + 3n)
    const [batch] = batches as [LogBatch]
    const folder = temporaryFolder('kafka-lines')
    const lines = new ChunkLines({
      ...{ topic: 'events', partition: 0, type: 'json', tombstones: 'record', maxRecordBytes: 1000 },
      csv: { delimiter: ',', quote: '"', header: ['column0'] },
      fields: { o: 'offset' },
      chunkDir: folder.path,
      buffers: new PieceBuffers(),
    })
    const range = { from: FAR + 1n, to: FAR + 3n, targetBytes: 1 }
    expect(await lines.take(batch, batch.records, range)).toBe(FAR + 2n)
    expect(readFileSync((await lines.finish()).file, 'utf8')).toBe(`{"o":${FAR + 1n},"id":2}\n`)
    folder.remove()
  })

  it('that are cut off wait for the next fetch, and those before the offset are passed over', async () => {
    const both = Buffer.concat([await batchOf(['{}', '{}'], FAR), await batchOf(['{}'], FAR + 2n)])
    expect(part(both.subarray(0, both.length - 1))).toMatchObject({ batches: [{ base: FAR }], next: FAR + 2n })
    expect(part(both, {}, FAR + 2n)).toMatchObject({ batches: [{ base: FAR + 2n }], next: FAR + 3n })
    expect(part(Buffer.alloc(0))).toEqual({ batches: [], next: undefined })
  })

  it('of a transaction that was aborted do not count', async () => {
    const aborted = [{ producerId: PRODUCER.producerId, firstOffset: FAR - 10n }]
    expect(part(await batchOf(['{}'], FAR), { aborted })).toEqual({ batches: [], next: FAR + 1n })
  })

  it('with other bytes than were written, or of an old format, are faults of the source', async () => {
    const bytes = await batchOf(['{"id":1}'], FAR)
    bytes[bytes.length - 2] = (bytes[bytes.length - 2] ?? 0) ^ 1
    expect(() => part(bytes)).toThrow(/record batch at offset 9223372036854700000 .* does not agree with its checksum/)
    bytes[16] = 1
    expect(() => part(bytes)).toThrow(/format before Kafka 0.11/)
  })

  const codecs = {
    1: gzipSync,
    2: library.compressionsAlgorithms.snappy.compressSync,
    3: library.compressionsAlgorithms.lz4.compressSync,
    4: zstdCompressSync,
  }
  it.each(Object.entries(codecs))('by codec %s expand up to their limit and no further', (codec, compress) => {
    const plain = Buffer.alloc(4_000_000, 'a')
    const records = Buffer.from(compress(plain))
    const batch = { base: FAR, last: FAR, count: 1, firstMs: 0, appendedMs: undefined, codec: Number(codec), records }
    const limited = (maxBytes: number) => unpacked(batch, { maxBytes, origin: ORIGIN }, library)
    expect(limited(4_000_000).equals(plain)).toBe(true)
    expect(() => limited(3_000_000)).toThrow(expect.objectContaining({ code: 'SOURCE_BOMB' }))
    const broken = { ...batch, records: records.subarray(0, records.length >> 1) }
    expect(() => unpacked(broken, { maxBytes: 5_000_000, origin: ORIGIN }, library)).toThrow(
      expect.objectContaining({ code: 'SOURCE_DAMAGED' }),
    )
  })
})
