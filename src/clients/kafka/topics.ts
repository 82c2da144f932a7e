/** Topics that must be there before the first batch. */
import { AdflowError } from '../../core/errors.ts'
import type { KafkaCluster } from './cluster.ts'
import { kafkaErrorName } from './errors.ts'
import { patiently } from './patience.ts'

export interface TopicPlan {
  readonly name: string
  /** -1: as the cluster has it. */
  readonly partitions: number
  readonly replicationFactor: number
  readonly config: Readonly<Record<string, string>>
}

const POLICY = 'cleanup.policy'
const MISSING = 'UNKNOWN_TOPIC_OR_PARTITION'
const TOPIC_RESOURCE = 2 as const

/** Makes the topic where it is missing and may be made. Repeats harmlessly. */
export async function requireTopic(cluster: KafkaCluster, plan: TopicPlan, create: boolean): Promise<void> {
  try {
    await cluster.metadata([plan.name])
    return
  } catch (error) {
    if (kafkaErrorName(error) !== MISSING) throw error
    if (!create) throw missing(plan, error)
  }
  await createTopic(cluster, plan)
  // The brokers hear of it one after the other.
  await patiently(() => cluster.metadata([plan.name]), cluster.requestTimeoutMs, [MISSING])
}

/** The topic of batches must keep every one of them. */
export async function requireLedgerTopic(
  cluster: KafkaCluster,
  name: string,
  replicationFactor: number,
  create: boolean,
): Promise<void> {
  await requireTopic(cluster, { name, partitions: 1, replicationFactor, config: { [POLICY]: 'compact' } }, create)
  const policy = await topicSetting(cluster, name, POLICY)
  if (policy === 'compact') return
  throw new AdflowError('STORE_MISMATCH', `the topic ${name} has ${POLICY}=${policy}: it forgets batches`, {
    hint: `kafka-configs.sh --alter --entity-type topics --entity-name ${name} --add-config ${POLICY}=compact`,
  })
}

/** One setting of a topic. */
async function topicSetting(cluster: KafkaCluster, topic: string, name: string): Promise<string | undefined> {
  const { describeConfigsV4 } = await cluster.library()
  const resource = { resourceType: TOPIC_RESOURCE, resourceName: topic, configurationKeys: [name] }
  const { results } = await describeConfigsV4.api.async(await cluster.anyBroker(), [resource], false, false)
  return results[0]?.configs.find((config) => config.name === name)?.value ?? undefined
}

async function createTopic(cluster: KafkaCluster, plan: TopicPlan): Promise<void> {
  const { createTopicsV7 } = await cluster.library()
  const { controllerId } = await cluster.metadata([])
  const configs = Object.entries(plan.config).map(([name, value]) => ({ name, value }))
  const wanted = {
    name: plan.name,
    numPartitions: plan.partitions,
    replicationFactor: plan.replicationFactor,
    assignments: [],
    configs,
  }
  try {
    await createTopicsV7.api.async(await cluster.broker(controllerId), [wanted], cluster.requestTimeoutMs, false)
  } catch (error) {
    if (kafkaErrorName(error) !== 'TOPIC_ALREADY_EXISTS') throw error
  }
}

function missing({ name, partitions, config }: TopicPlan, cause: unknown): AdflowError {
  const settings = Object.entries(config).map(([key, value]) => ` --config ${key}=${value}`)
  const count = partitions === -1 ? '' : ` --partitions ${partitions}`
  return new AdflowError('STORE_MISMATCH', `the topic ${name} does not exist`, {
    cause,
    hint: `set \`create: missing\`, or create it: kafka-topics.sh --create --topic ${name}${count}${settings.join('')}`,
  })
}
