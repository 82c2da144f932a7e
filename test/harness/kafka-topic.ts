/** Topics that a test makes. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Admin, ITopicConfig } from 'kafkajs'

/**
 * Made, and led. kafkajs' own wait for leaders fails where the brokers have not yet heard of the topic, which is there a moment
 * later: it bears LEADER_NOT_AVAILABLE, not UNKNOWN_TOPIC_OR_PARTITION.
 */
export async function createTopic(admin: Admin, wanted: ITopicConfig): Promise<void> {
  await admin.createTopics({ topics: [wanted], waitForLeaders: false })
  await ledTopic(admin, wanted.topic)
}

/** Known to the broker that answers, each partition with a leader. */
export async function ledTopic(admin: Admin, topic: string): Promise<void> {
  const known = () =>
    admin.fetchTopicMetadata({ topics: [topic] }).then(({ topics }) => topics[0]?.partitions ?? [], unknown)
  for (;;) {
    const partitions = await known()
    if (partitions.length > 0 && partitions.every(({ leader }) => leader >= 0)) return
    await sleep(20)
  }
}

function unknown(error: unknown): [] {
  if ((error as { type?: string }).type === 'UNKNOWN_TOPIC_OR_PARTITION') return []
  if ((error as { type?: string }).type === 'LEADER_NOT_AVAILABLE') return []
  throw error
}
