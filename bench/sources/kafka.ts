/** A topic of six partitions; its plain clients count what they get. */
import { createReadStream } from 'node:fs'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { CompressionTypes, KafkaWriter } from '../../test/harness/kafka-writer.ts'
import { startPrivate } from '../../test/harness/servers/private.ts'
import type { BenchSource } from './source.ts'

const READ = join(dirname(dirname(fileURLToPath(import.meta.url))), 'peers', 'read-topic.ts')
const TOPIC = 'events'
const PARTITIONS = 6
/** Records in a request, of one partition. */
const SENT = 2000

export const source: BenchSource = {
  async start({ path, rows }) {
    const server = await startPrivate('kafka')
    const { brokers } = server.endpoint
    const writer = new KafkaWriter(brokers)
    await writer.create(TOPIC, { partitions: PARTITIONS })
    let part: { value: string; partition: number }[] = []
    let sent = 0
    const send = async () => {
      await writer.send(TOPIC, part, { compression: CompressionTypes.ZSTD })
      sent += 1
      part = []
    }
    for await (const value of createInterface({ input: createReadStream(path) })) {
      part.push({ value, partition: sent % PARTITIONS })
      if (part.length === SENT) await send()
    }
    if (part.length > 0) await send()
    const client = (name: string) => ({ name, argv: [process.execPath, READ, name, brokers, TOPIC, String(rows)] })
    return {
      extract: { type: 'kafka', brokers, topics: TOPIC },
      clients: [client('@platformatic/kafka'), client('kafkajs')],
      end: () => server.end(),
    }
  },
}
