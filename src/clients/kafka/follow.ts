/**
 * What comes behind the end. Brokers are asked where the partitions end now; each that has grown is cut when somebody can take it, up to where
 * it ends by then: chunks are small while there is little to do, and grow by themselves when there is more.
 */
import { setTimeout as delay } from 'node:timers/promises'
import type { Chunk, Gap, Positions } from '../../core/contracts.ts'
import type { KafkaCluster } from './cluster.ts'
import { endsOf } from './offsets.ts'
import { type LaneOptions, type PartitionTask, readPartition } from './partition-lane.ts'

export interface FollowOptions {
  /** As they were found just now. */
  readonly tasks: readonly PartitionTask[]
  /** Kept up to date by whoever takes the chunks. */
  readonly positions: Positions
  readonly lane: LaneOptions
  /** How often brokers are asked. */
  readonly everyMs: number
  /** Resolves when a chunk can be taken up at once. */
  readonly room: () => Promise<void>
  /** Told with `stop` as it is now, each time that brokers were asked. */
  readonly seen: (tasks: readonly PartitionTask[]) => void
}

/** So often topics and partitions are looked for that are new, and those that are gone. */
const LOOK_AGAIN_MS = 2_000
/** An end that was asked for so long ago is asked for again before a lane is cut there. */
const STALE_MS = 20
/** With more records than that in all lanes there is a backlog, which is read in lanes side by side. */
const BACKLOG_RECORDS = 100_000n

/** Ends when everything must be looked at anew: after a while, where something is wrong, and where there is a backlog. */
export async function* follow(cluster: KafkaCluster, options: FollowOptions): AsyncGenerator<Chunk | Gap> {
  const { tasks, lane, everyMs, room } = options
  const { signal } = lane
  const until = performance.now() + LOOK_AGAIN_MS
  let turn = 0
  for (let dueMs = performance.now(); dueMs < until && !signal.aborted; dueMs = Math.max(dueMs, performance.now())) {
    dueMs += everyMs
    await delay(dueMs - performance.now(), undefined, { signal }).catch(() => undefined) // aborted: the loop ends
    const ends = new Ends(cluster, options)
    if (!(await ends.ask()) || ends.left() > BACKLOG_RECORDS) return
    turn += 1
    // None is always the last to be asked for.
    for (let index = 0; index < tasks.length && !signal.aborted; index += 1) {
      const task = tasks[(index + turn) % tasks.length] as PartitionTask
      const position = options.positions[task.lane]
      const at = BigInt(position?.at ?? 0)
      if (ends.of(task) <= at) continue
      await room()
      const end = await ends.recent(task)
      if (end === undefined || signal.aborted) return
      const grown = { ...task, position, planned: [], start: task.start < at ? at : task.start, end, stop: end }
      for await (const item of readPartition(cluster, grown, lane)) {
        yield item
        if ('gap' in item) return
      }
    }
  }
}

class Ends {
  readonly #cluster: KafkaCluster
  readonly #topics: readonly string[]
  readonly #options: FollowOptions
  #ends: ReadonlyMap<string, ReadonlyMap<number, bigint>> = new Map()
  #askedMs = Number.NEGATIVE_INFINITY

  constructor(cluster: KafkaCluster, options: FollowOptions) {
    this.#cluster = cluster
    this.#options = options
    this.#topics = [...new Set(options.tasks.map(({ topic }) => topic))]
  }

  /** false: somebody does not answer, which whoever looks at everything anew will tell. */
  async ask(): Promise<boolean> {
    const { lane, seen, tasks } = this.#options
    try {
      const found = this.#topics.map(async (topic) => {
        return [topic, await endsOf(this.#cluster, topic, lane.isolation)] as const
      })
      this.#ends = new Map(await Promise.all(found))
    } catch {
      return false
    }
    this.#askedMs = performance.now()
    seen(tasks.map((task) => ({ ...task, stop: this.of(task) })))
    return true
  }

  /** Records that are not read. */
  left(): bigint {
    const { positions, tasks } = this.#options
    return tasks.reduce((total, task) => {
      const more = this.of(task) - BigInt(positions[task.lane]?.at ?? 0)
      return more > 0n ? total + more : total
    }, 0n)
  }

  of({ topic, partition, begin }: PartitionTask): bigint {
    return this.#ends.get(topic)?.get(partition) ?? begin
  }

  async recent(task: PartitionTask): Promise<bigint | undefined> {
    if (performance.now() - this.#askedMs > STALE_MS && !(await this.ask())) return undefined
    return this.of(task)
  }
}
