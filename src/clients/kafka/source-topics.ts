/** The partitions that a job reads, and from where to where: lanes as the cluster has them now. */
import type { Gap, PlannedRange, Positions } from '../../core/contracts.ts'
import { AdflowError } from '../../core/errors.ts'
import type { KafkaCluster } from './cluster.ts'
import { kafkaErrorName } from './errors.ts'
import type { Isolation } from './fetch.ts'
import { type Bounds, boundsOf, offsetsSince } from './offsets.ts'
import { gapOf, type PartitionTask } from './partition-lane.ts'
import { type Patience, persistent } from './persistent.ts'
import { explainSource } from './source-errors.ts'

/** A time in milliseconds since the epoch, or offsets by lane. */
export type Edge<Word extends string> =
  | Word
  | { readonly timeMs: number }
  | { readonly offsets: ReadonlyMap<string, bigint> }

export interface TopicChoice {
  readonly topics: readonly string[]
  readonly pattern: RegExp | undefined
  readonly isolation: Isolation
  readonly start: Edge<'earliest' | 'latest'>
  readonly end: Edge<'latest'>
  /** The partition is to be read; others are left to others. */
  readonly owns: (lane: string) => boolean
  /** Where partitions without a position began when they were first looked at, by topic id and partition: `latest` is later each time. */
  readonly begun: Map<string, bigint>
}

export interface KnownLanes {
  readonly from: Positions
  readonly planned: readonly PlannedRange[]
}

/** adflow's own, and Kafka's. */
export const INTERNAL = /^(?:__|_adflow_batches\.)/
const MISSING = 'UNKNOWN_TOPIC_OR_PARTITION'

function laneOf(topic: string, partition: number): string {
  return `${topic}/${partition}`
}

function topicOf(lane: string): string {
  return lane.slice(0, lane.lastIndexOf('/'))
}

/** Tasks of all partitions; a gap for each topic that cannot be read. */
export async function findPartitions(
  cluster: KafkaCluster,
  choice: TopicChoice,
  known: KnownLanes,
  place: string,
  patience: Patience,
): Promise<{ readonly tasks: readonly PartitionTask[]; readonly gaps: readonly Gap[] }> {
  const lanes = new Set([...Object.keys(known.from), ...known.planned.map(({ lane }) => lane)])
  const tasks: PartitionTask[] = []
  const gaps: Gap[] = []
  const fail = (error: unknown, topic: string | undefined): void => {
    if (patience.signal.aborted) return
    const fault = explainSource(error, `read ${topic ?? String(choice.pattern)} of ${place}`)
    if (!fault.code.startsWith('SOURCE_')) throw fault
    const own = [...lanes].filter((lane) => topic === undefined || topicOf(lane) === topic)
    // Every topic has a partition 0: once it is read, the gap is filled. Where others read that one, it is once the topic is found.
    const name = topic ?? choice.pattern?.source ?? ''
    const first = choice.owns(laneOf(name, 0)) ? laneOf(name, 0) : name
    for (const lane of own.length > 0 ? own : [first])
      gaps.push(gapOf(lane, `${place}/${lane}`, known.from[lane]?.at ?? '0', fault))
  }
  let topics: readonly string[] = []
  try {
    topics = await persistent(() => topicNames(cluster, choice), patience)
  } catch (error) {
    if (choice.pattern !== undefined) fail(error, undefined)
    else for (const topic of choice.topics) fail(error, topic)
    return { tasks, gaps }
  }
  const deleted = choice.pattern === undefined ? [] : [...lanes].map(topicOf).filter((topic) => !topics.includes(topic))
  for (const topic of new Set([...topics, ...deleted]))
    try {
      tasks.push(...(await persistent(() => topicTasks(cluster, topic, choice, known), patience)))
    } catch (error) {
      fail(error, topic)
    }
  const found = new Set(tasks.map(({ lane }) => lane))
  const told = new Set(gaps.map(({ gap }) => gap.lane))
  for (const lane of lanes) if (!found.has(lane) && !told.has(lane)) fail(noPartition(lane), topicOf(lane))
  if (topics.length === 0 && lanes.size === 0) fail(nothingMatches(choice.pattern, place), undefined)
  return { tasks, gaps }
}

async function topicNames(cluster: KafkaCluster, { topics, pattern }: TopicChoice): Promise<readonly string[]> {
  if (pattern === undefined) return topics
  const all = await cluster.topicNames()
  return all.filter((name) => pattern.test(name) && !INTERNAL.test(name)).sort()
}

async function topicTasks(
  cluster: KafkaCluster,
  topic: string,
  choice: TopicChoice,
  { from, planned }: KnownLanes,
): Promise<PartitionTask[]> {
  const isKnown = [...Object.keys(from), ...planned.map(({ lane }) => lane)].some((lane) => topicOf(lane) === topic)
  await cluster.metadata([topic]).catch((error: unknown) => {
    // A topic that was there before is waited for: the broker may have just started. One that never was is not.
    if (!isKnown && kafkaErrorName(error) === MISSING) throw explainSource(error, `find the topic ${topic}`)
    throw error
  })
  const bounds = await boundsOf(cluster, topic, choice.isolation)
  const begins = await startsOf(cluster, topic, choice, bounds)
  const ends = await endsOf(cluster, topic, choice, bounds)
  return [...bounds].flatMap(([partition, { start, end }]) => {
    const lane = laneOf(topic, partition)
    if (!choice.owns(lane)) return []
    const topicId = cluster.topicId(topic)
    const key = laneOf(topicId, partition)
    // A partition that was added since is read from its start: nobody has seen what is in it.
    const isNew = isKnown && from[lane] === undefined && choice.start === 'latest'
    const begin = choice.begun.get(key) ?? (isNew ? start : (begins.get(partition) ?? start))
    choice.begun.set(key, begin)
    return [
      {
        ...{ lane, topic, topicId, partition, start, end, begin },
        position: from[lane],
        planned: planned.filter((range) => range.lane === lane),
        stop: ends.get(partition) ?? end,
      },
    ]
  })
}

type Offsets = ReadonlyMap<number, bigint>

async function startsOf(
  cluster: KafkaCluster,
  topic: string,
  { start, isolation }: TopicChoice,
  bounds: ReadonlyMap<number, Bounds>,
): Promise<Offsets> {
  if (start === 'earliest') return new Map()
  const ends = new Map([...bounds].map(([partition, { end }]) => [partition, end]))
  if (start === 'latest') return ends
  if ('offsets' in start) return stated(topic, start.offsets, bounds)
  return new Map([...ends, ...(await offsetsSince(cluster, topic, start.timeMs, isolation))])
}

async function endsOf(
  cluster: KafkaCluster,
  topic: string,
  { end, isolation }: TopicChoice,
  bounds: ReadonlyMap<number, Bounds>,
): Promise<Offsets> {
  if (end === 'latest') return new Map()
  const found =
    'offsets' in end ? stated(topic, end.offsets, bounds) : await offsetsSince(cluster, topic, end.timeMs, isolation)
  // Beyond what is decided nothing is read, whoever asks for it.
  return new Map(
    [...found].map(([partition, offset]) => [partition, least(offset, bounds.get(partition)?.end ?? offset)]),
  )
}

function stated(topic: string, offsets: ReadonlyMap<string, bigint>, bounds: ReadonlyMap<number, Bounds>): Offsets {
  return new Map(
    [...bounds.keys()].flatMap((partition) => {
      const offset = offsets.get(laneOf(topic, partition))
      return offset === undefined ? [] : [[partition, offset] as const]
    }),
  )
}

function least(a: bigint, b: bigint): bigint {
  return a < b ? a : b
}

function noPartition(lane: string): AdflowError {
  return new AdflowError(
    'SOURCE_CHANGED',
    `${lane} is not there any more: its topic was deleted and made anew with fewer partitions`,
    { hint: 'read the new topic from its start: `adflow state rewind` to 0 with `--reload`' },
  )
}

function nothingMatches(pattern: RegExp | undefined, place: string): AdflowError {
  return new AdflowError('SOURCE_MISSING', `no topic of ${place} matches ${pattern}`, {
    hint: 'check `pattern`, and that the user may DESCRIBE the topics: others are not shown',
  })
}
