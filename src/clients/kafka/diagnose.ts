/** What a cluster says of itself before a run. Nothing is made, no transaction is begun. */
import { TLSSocket } from 'node:tls'
import type { DiagnoseEnv, Diagnosis, Finding } from '../../core/diagnosis.ts'
import { diagnosisAt, type Findings } from '../../core/findings.ts'
import { KafkaCluster } from './cluster.ts'
import { explainKafka, kafkaErrorName } from './errors.ts'
import type { ConnectionOptions } from './options.ts'
import { findTopic, ledgerPolicyFault, ledgerRemark, type TopicFound, topicMissing, topicSetting } from './topics.ts'
import { asksForTransactions } from './version.ts'

export interface TopicQuestion {
  readonly topic: string
  readonly ledgerTopic: string
  readonly create: boolean
}

type Asked = readonly [name: string, found: TopicFound | undefined]

/** Numbers of the operations in Kafka's access rules. */
export const OPERATIONS = { READ: 3, WRITE: 4, DESCRIBE: 8, DESCRIBE_CONFIGS: 10 } as const

export function diagnoseKafka(options: ConnectionOptions, question: TopicQuestion, env: DiagnoseEnv): Diagnosis {
  const place = `${options.brokers}/${question.topic}`
  const limits = {
    connect_timeout: Math.min(options.connect_timeout, env.answerMs),
    request_timeout: Math.min(options.request_timeout, env.answerMs),
  }
  return diagnosisAt(place, async function* (at) {
    const cluster = new KafkaCluster({ ...options, ...limits }, env.baseDir)
    const abort = () => cluster.disconnect()
    env.signal.addEventListener('abort', abort, { once: true })
    try {
      const { brokers } = await cluster.metadata([])
      const user = options.sasl === undefined ? '' : ` to the user ${options.sasl.username}`
      yield at.ok('reachable', `answers${user}; ${brokers.length === 1 ? '1 broker' : `${brokers.length} brokers`}`)
      yield (await asksForTransactions(cluster))
        ? at.ok('version', 'Apache Kafka 3.6 or newer')
        : at.failed('version', 'STORE_MISMATCH', 'Apache Kafka before 3.6', 'upgrade the brokers')
      yield await encryption(cluster, at, env)
      yield* await topicFindings(cluster, question, at)
      yield await disk(cluster, at)
    } catch (error) {
      throw explainKafka(error, `reach ${place}`)
    } finally {
      env.signal.removeEventListener('abort', abort)
      await cluster.close()
    }
  })
}

export async function encryption(cluster: KafkaCluster, at: Findings, env: DiagnoseEnv): Promise<Finding> {
  const { socket } = await cluster.anyBroker()
  if (socket instanceof TLSSocket)
    return at.tls(socket.getProtocol() ?? 'TLS', Date.parse(socket.getPeerCertificate().valid_to), env.now())
  if (/^(?:127\.|::1$|::ffff:127\.)/.test(socket.remoteAddress ?? ''))
    return at.ok('tls', 'not encrypted, on this machine')
  return at.warning(
    'tls',
    'not encrypted: data and password can be read on the way',
    'set `tls: { mode: verify }`, and `ca` where the authority is your own',
  )
}

async function topicFindings(
  cluster: KafkaCluster,
  { topic, ledgerTopic, create }: TopicQuestion,
  at: Findings,
): Promise<readonly Finding[]> {
  const asked: Asked[] = []
  for (const name of [topic, ledgerTopic])
    try {
      asked.push([name, await findTopic(cluster, name)])
    } catch (error) {
      const check = kafkaErrorName(error) === 'TOPIC_AUTHORIZATION_FAILED' ? 'permission' : 'target'
      return [at.failure(check, explainKafka(error, `look at the topic ${name}`))]
    }
  const missing = asked.flatMap(([name, found]) => (found === undefined ? [name] : []))
  const [first] = missing
  if (first !== undefined && !create) return [at.failure('target', topicMissing(first, first === ledgerTopic))]
  const forgets = missing.includes(ledgerTopic) ? undefined : await ledgerPolicyFault(cluster, ledgerTopic)
  if (forgets !== undefined) return [at.failure('target', forgets)]
  const remark = missing.includes(ledgerTopic) ? undefined : await ledgerRemark(cluster, ledgerTopic)
  const there = asked.find(([name]) => name === topic)?.[1]
  return [
    at.ok('target', missing.length > 0 ? `would be made: topic ${missing.join(', topic ')}` : 'the topics are there'),
    ...(remark === undefined ? [] : [at.warning('target', remark.found, remark.mend)]),
    permission(asked, ledgerTopic, at),
    ...(there === undefined
      ? []
      : [durability(there.replicas, await topicSetting(cluster, topic, 'min.insync.replicas'), at)]),
  ]
}

/** Of topics that are there; who may make one is not told beforehand. */
function permission(asked: readonly Asked[], ledgerTopic: string, at: Findings): Finding {
  const lacking = asked.flatMap(([name, found]) => {
    const wanted = ['WRITE', 'DESCRIBE', ...(name === ledgerTopic ? ['READ', 'DESCRIBE_CONFIGS'] : [])] as const
    const missing = wanted.filter((own) => found?.may(OPERATIONS[own as keyof typeof OPERATIONS]) === false)
    return missing.length === 0 ? [] : [`${missing.join(', ')} on the topic ${name}`]
  })
  if (lacking.length > 0)
    return at.failed('permission', 'STORE_DENIED', `lacks ${lacking.join(' and ')}`, 'grant it: kafka-acls.sh --add')
  if (asked.some(([, found]) => found === undefined))
    return at.unknown('permission', 'who may make a topic is not told beforehand', 'see kafka-acls.sh --list')
  return at.ok('permission', 'may write to the topics; transactional ids are not asked for')
}

function durability(replicas: number, minInSync: string | undefined, at: Findings): Finding {
  const mend = 'three copies, and min.insync.replicas=2'
  if (replicas < 2)
    return at.warning('durability', 'one copy of each partition: it is gone with the disk of its broker', mend)
  if (Number(minInSync) < 2)
    return at.warning('durability', `${replicas} copies, but one of them alone may confirm a batch`, mend)
  return at.ok('durability', `${replicas} copies, of which ${minInSync} confirm a batch`)
}

async function disk(cluster: KafkaCluster, at: Findings): Promise<Finding> {
  const unknown = at.unknown('disk', 'the brokers do not tell this user', 'watch their disks there')
  try {
    const { describeLogDirsV4 } = await cluster.library()
    const { results } = await describeLogDirsV4.api.async(await cluster.anyBroker(), [])
    const [least] = results
      .map(({ totalBytes, usableBytes }) => ({ freeBytes: Number(usableBytes), totalBytes: Number(totalBytes) }))
      .filter(({ totalBytes }) => totalBytes > 0)
      .sort((a, b) => a.freeBytes - b.freeBytes)
    return least === undefined ? unknown : at.disk(least, 'server')
  } catch {
    return unknown
  }
}
