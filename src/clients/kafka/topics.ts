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
/** Of a topic of batches that is made. What is folded goes with small segments, for the newest is never compacted; and a start that reads an
 *  entry whose tombstone is gone already only knows a batch that it need not know. */
const LEDGER_SETTINGS = { [POLICY]: 'compact', 'segment.bytes': '8388608', 'delete.retention.ms': '60000' }
const LARGE_SEGMENT_BYTES = 1 << 26
const LONG_RETENTION_MS = 3_600_000
const MISSING = 'UNKNOWN_TOPIC_OR_PARTITION'
const TOPIC_RESOURCE = 2 as const

export interface TopicFound {
  /** Copies of each partition. */
  readonly replicas: number
  /** Whether the user may do this to it; the number of an operation of Kafka's access rules. */
  may(operation: number): boolean
}

/** undefined: there is no such topic, or the user may not see it. Changes nothing. */
export async function findTopic(cluster: KafkaCluster, name: string): Promise<TopicFound | undefined> {
  const { metadataV12 } = await cluster.library()
  try {
    const { topics } = await metadataV12.api.async(await cluster.anyBroker(), [name], false, true)
    const allowed = topics[0]?.topicAuthorizedOperations ?? 0
    return {
      replicas: topics[0]?.partitions[0]?.replicaNodes.length ?? 0,
      may: (operation) => ((allowed >> operation) & 1) === 1,
    }
  } catch (error) {
    if (kafkaErrorName(error) === MISSING) return undefined
    throw error
  }
}

/** Makes the topic where it is missing and may be made. Repeats harmlessly. */
export async function requireTopic(cluster: KafkaCluster, plan: TopicPlan, create: boolean): Promise<void> {
  if ((await findTopic(cluster, plan.name)) === undefined) {
    if (!create) throw topicMissing(plan.name, false)
    await createTopic(cluster, plan)
  }
  // The brokers hear of it one after the other.
  await patiently(() => cluster.metadata([plan.name]), cluster.requestTimeoutMs, [MISSING])
}

/** The topic of batches must keep the last word about every one of them. */
export async function requireLedgerTopic(
  cluster: KafkaCluster,
  name: string,
  replicationFactor: number,
  create: boolean,
): Promise<void> {
  if (!create && (await findTopic(cluster, name)) === undefined) throw topicMissing(name, true)
  await requireTopic(cluster, { name, partitions: 1, replicationFactor, config: LEDGER_SETTINGS }, create)
  const fault = await ledgerPolicyFault(cluster, name)
  if (fault !== undefined) throw fault
}

export async function ledgerPolicyFault(cluster: KafkaCluster, name: string): Promise<AdflowError | undefined> {
  const policy = await topicSetting(cluster, name, POLICY)
  if (policy === 'compact') return undefined
  return new AdflowError('STORE_MISMATCH', `the topic ${name} has ${POLICY}=${policy}: it forgets batches`, {
    hint: `kafka-configs.sh --alter --entity-type topics --entity-name ${name} --add-config ${POLICY}=compact`,
  })
}

/** What a start reads beside what it needs: entries stay until the brokers compact them. undefined: little. */
export async function ledgerRemark(cluster: KafkaCluster, name: string): Promise<LedgerRemark | undefined> {
  const { 'segment.bytes': segment, 'delete.retention.ms': retention } = LEDGER_SETTINGS
  const bytes = await topicSetting(cluster, name, 'segment.bytes')
  const keptMs = await topicSetting(cluster, name, 'delete.retention.ms')
  if (!(Number(bytes) > LARGE_SEGMENT_BYTES || Number(keptMs) > LONG_RETENTION_MS)) return undefined
  return {
    found: `the topic ${name} has segment.bytes=${bytes} and delete.retention.ms=${keptMs}: entries of old batches stay so long, and each start reads them`,
    mend: `kafka-configs.sh --alter --entity-type topics --entity-name ${name} --add-config segment.bytes=${segment},delete.retention.ms=${retention}`,
  }
}

export interface LedgerRemark {
  readonly found: string
  readonly mend: string
}

export function topicMissing(name: string, ledger: boolean): AdflowError {
  const configs = Object.entries(LEDGER_SETTINGS).map(([key, value]) => ` --config ${key}=${value}`)
  const settings = ledger ? ` --partitions 1${configs.join('')}` : ''
  return new AdflowError('STORE_MISMATCH', `the topic ${name} does not exist`, {
    hint: `set \`create: missing\`, or create it: kafka-topics.sh --create --topic ${name}${settings}`,
  })
}

/** One setting of a topic. */
export async function topicSetting(cluster: KafkaCluster, topic: string, name: string): Promise<string | undefined> {
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
