/** What a cluster says to one who reads, before a run. No record is fetched. */
import type { DiagnoseEnv, Diagnosis, Finding } from '../../core/diagnosis.ts'
import { diagnosisAt, type Findings } from '../../core/findings.ts'
import { KafkaCluster } from './cluster.ts'
import { encryption, OPERATIONS } from './diagnose.ts'
import type { ConnectionOptions } from './options.ts'
import { explainSource } from './source-errors.ts'
import { findPartitions, type TopicChoice } from './source-topics.ts'
import { findTopic } from './topics.ts'

export function diagnoseKafkaSource(options: ConnectionOptions, choice: TopicChoice, env: DiagnoseEnv): Diagnosis {
  const what = choice.pattern === undefined ? choice.topics.join(',') : choice.pattern.source
  const place = `${options.brokers}/${what}`
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
      yield await encryption(cluster, at, env)
      yield* await topicFindings(cluster, choice, at, env)
    } catch (error) {
      throw explainSource(error, `reach ${place}`)
    } finally {
      env.signal.removeEventListener('abort', abort)
      await cluster.close()
    }
  })
}

async function topicFindings(
  cluster: KafkaCluster,
  choice: TopicChoice,
  at: Findings,
  env: DiagnoseEnv,
): Promise<readonly Finding[]> {
  const patience = { patienceMs: 0, signal: env.signal }
  const known = { from: {}, planned: [] }
  const { tasks, gaps } = await findPartitions(cluster, choice, known, 'the cluster', patience)
  const failed = gaps.map(({ code, message }) => {
    const check = code === 'SOURCE_DENIED' ? 'permission' : 'target'
    return at.failed(check, code as 'SOURCE_DENIED', message, 'mend `topics`, or grant the user READ and DESCRIBE')
  })
  const topics = [...new Set(tasks.map(({ topic }) => topic))]
  if (topics.length === 0) return failed
  const records = tasks.reduce((sum, { begin, stop }) => sum + (stop > begin ? stop - begin : 0n), 0n)
  const counted = `${topics.length === 1 ? '1 topic' : `${topics.length} topics`}, ${tasks.length === 1 ? '1 partition' : `${tasks.length} partitions`}`
  return [
    ...failed,
    at.ok('target', `${counted}, ${records} offsets from start to end`),
    await permission(cluster, topics, at),
  ]
}

async function permission(cluster: KafkaCluster, topics: readonly string[], at: Findings): Promise<Finding> {
  for (const topic of topics) {
    const found = await findTopic(cluster, topic)
    if (found?.may(OPERATIONS.READ) === false)
      return at.failed(
        'permission',
        'SOURCE_DENIED',
        `lacks READ on the topic ${topic}`,
        'grant it: kafka-acls.sh --add',
      )
  }
  return at.ok('permission', 'may read the topics')
}
