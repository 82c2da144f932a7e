/** Topics that a user of a cluster sees; Kafka's own and adflow's are left out. */
import type { DiscoverEnv, Offer } from '../../core/discovery.ts'
import { AdflowError } from '../../core/errors.ts'
import { KafkaCluster } from './cluster.ts'
import { boundsOf } from './offsets.ts'
import type { ConnectionOptions } from './options.ts'
import { explainSource } from './source-errors.ts'
import { INTERNAL } from './source-topics.ts'

export async function* discoverTopics(
  options: ConnectionOptions,
  { baseDir, signal }: DiscoverEnv,
): AsyncGenerator<Offer> {
  const cluster = new KafkaCluster(options, baseDir)
  const abort = () => cluster.disconnect()
  signal.addEventListener('abort', abort, { once: true })
  try {
    const names = (await cluster.topicNames()).filter((name) => !INTERNAL.test(name)).sort()
    for (const name of names) {
      const { partitions, records } = await sizeOf(cluster, name)
      yield {
        kind: 'topic',
        name,
        records,
        about: `${partitions === 1 ? '1 partition' : `${partitions} partitions`}`,
        options: { topics: name },
      }
    }
  } catch (error) {
    signal.throwIfAborted()
    throw error instanceof AdflowError ? error : explainSource(error, `list the topics of ${options.brokers}`)
  } finally {
    signal.removeEventListener('abort', abort)
    await cluster.close()
  }
}

/** Offsets from start to end: with compaction and transactions fewer records. */
async function sizeOf(cluster: KafkaCluster, topic: string): Promise<{ partitions: number; records: number }> {
  await cluster.metadata([topic])
  const bounds = [...(await boundsOf(cluster, topic, 'read_committed')).values()]
  return { partitions: bounds.length, records: bounds.reduce((sum, { start, end }) => sum + Number(end - start), 0) }
}
