/** Which brokers are new enough: they do not tell their version, but what they understand. */
import { AdflowError } from '../../core/errors.ts'
import type { KafkaCluster } from './cluster.ts'

const CLIENT = ['adflow', '1'] as const
const ADD_PARTITIONS = 24
/** With this version of AddPartitionsToTxn brokers ask each other whether a transaction is open before they take its records. */
const ASKED_SINCE = 4

export async function asksForTransactions(cluster: KafkaCluster): Promise<boolean> {
  const { apiVersionsV3 } = await cluster.library()
  const { apiKeys } = await apiVersionsV3.api.async(await cluster.anyBroker(), ...CLIENT)
  return (apiKeys.find(({ apiKey }) => apiKey === ADD_PARTITIONS)?.maxVersion ?? 0) >= ASKED_SINCE
}

/** @throws AdflowError STORE_MISMATCH */
export async function requireTransactions(cluster: KafkaCluster): Promise<void> {
  if (await asksForTransactions(cluster)) return
  throw new AdflowError('STORE_MISMATCH', 'these brokers may let a late record into the wrong transaction', {
    hint: 'adflow needs Apache Kafka 3.6 or newer',
  })
}
