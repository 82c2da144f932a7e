import { Partitioners } from 'kafkajs'
import { describe, expect, it } from 'vitest'
import { murmur2, partitionOf } from '../../../src/clients/kafka/murmur.ts'

describe('the partition of a key', () => {
  // From the tests of Apache Kafka (UtilsTest).
  it.each([
    ['21', -973932308],
    ['foobar', -790332482],
    ['a-little-bit-long-string', -985981536],
    ['a-little-bit-longer-string', -1486304829],
    ['lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8', -58897971],
    ['abc', 479470107],
  ])('hashes %s as Kafka does', (text, hash) => {
    expect(murmur2(Buffer.from(text))).toBe(hash)
  })

  it('is that of another client of Node.js, for keys of every length', () => {
    const other = Partitioners.DefaultPartitioner()
    for (let length = 0; length < 70; length += 1)
      for (const partitions of [1, 7, 12]) {
        const key = Buffer.from(Array.from({ length }, (_, index) => (index * 151 + length * 89) % 256))
        const partitionMetadata = Array.from({ length: partitions }, (_, partitionId) => ({
          ...{ partitionId, leader: 1, partitionErrorCode: 0, replicas: [1], isr: [1] },
        }))
        expect(partitionOf(key, partitions)).toBe(
          other({ topic: 't', partitionMetadata, message: { key, value: null } }),
        )
      }
  })
})
