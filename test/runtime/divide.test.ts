import { randomInt } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import pino from 'pino'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Job } from '../../src/core/job/job.ts'
import { ownsLane } from '../../src/core/shard.ts'
import type { PlannedBatch } from '../../src/runtime/checkpoint-slot.ts'
import { openCheckpoints } from '../../src/runtime/checkpoints.ts'
import { type DivideOptions, divide } from '../../src/runtime/divide.ts'
import { holdJob } from '../../src/runtime/hold.ts'
import { lockJob } from '../../src/runtime/lock.ts'
import { openStateDir, partStateOf, shardDirectory, shardsOf } from '../../src/runtime/state-dir.ts'
import { emptySummary } from '../../src/runtime/summary.ts'
import { temporaryFolder } from '../harness/cli.ts'

const LANES = Array.from({ length: 12 }, (_, index) => `clicks/${index}`)
const NAME = 'flow'

let folder: ReturnType<typeof temporaryFolder>
beforeEach(() => {
  folder = temporaryFolder('divide')
})
afterEach(() => folder.remove())

function jobOf(shards: number): Job {
  const about = { name: NAME, file: 'flow.yaml', baseDir: folder.path, state: undefined, extract: [], load: [] }
  return { ...about, stream: { shards, forever: true } } as unknown as Job
}

/** The runs that paid what parts owed. */
let settled: string[] = []

function optionsOf(shards: number, stores: Record<string, { reason?: string }> = {}): DivideOptions {
  const run: DivideOptions['run'] = async ({ stateDir, only }) => {
    expect(only).toEqual([])
    settled.push(stateDir.slice(folder.path.length))
    const summary = emptySummary('r', NAME, [], new Date())
    return { ...summary, stores: stores as typeof summary.stores }
  }
  const about = {
    registry: {} as DivideOptions['registry'],
    log: pino({ level: 'silent' }),
    version: '0',
    command: 'test',
  }
  return { ...about, job: jobOf(shards), stateDir: folder.path, run }
}

const partsOf = (shards: number) => shardsOf(shards).map((shard) => partStateOf(folder.path, NAME, shard))

/** Lanes of the parts that the job has now, each where its part has it. */
async function lanesIn(shards: number): Promise<Record<string, string>> {
  const found: Record<string, string> = {}
  for (const state of partsOf(shards))
    for (const [lane, { at }] of Object.entries(
      (await openCheckpoints(state.path, NAME)).current.sources['in'] ?? {},
    )) {
      expect([ownsLane(state.shard, lane), lane in found]).toEqual([true, false])
      found[lane] = at
    }
  return found
}

async function plannedIn(shards: number): Promise<string[]> {
  const found: string[] = []
  for (const state of partsOf(shards)) {
    const { planned, sequence } = (await openCheckpoints(state.path, NAME)).current
    expect(new Set(planned.map((plan) => plan.sequence)).size).toBe(planned.length)
    for (const plan of planned) {
      expect([ownsLane(state.shard, plan.lane), BigInt(plan.sequence) < BigInt(sequence)]).toEqual([true, true])
      found.push(`${plan.lane} ${plan.from} ${plan.to} ${plan.clock}`)
    }
  }
  return found.sort()
}

/** What runs of all parts have done: positions move, one lane is in the middle of a batch. */
async function work(shards: number): Promise<void> {
  for (const shard of shardsOf(shards)) {
    const state = partStateOf(folder.path, NAME, shard)
    await openStateDir(shard === undefined ? folder.path : shardDirectory(folder.path, NAME, shard), NAME)
    const checkpoints = await openCheckpoints(state.path, NAME)
    const { current } = checkpoints
    const lanes = LANES.filter((lane) => ownsLane(state.shard, lane))
    const at = (lane: string) => Number(current.sources['in']?.[lane]?.at ?? 0) + 10
    const plans = lanes.slice(0, 1).map((lane, index): PlannedBatch => {
      const [from, to] = [String(at(lane)), String(at(lane) + 5)]
      return {
        source: 'in',
        lane,
        from,
        to,
        clock: `at ${from}`,
        sequence: String(BigInt(current.sequence) + BigInt(index)),
      }
    })
    await checkpoints.save({
      epoch: '0',
      sequence: String(BigInt(current.sequence) + BigInt(plans.length)),
      sources: { in: Object.fromEntries(lanes.map((lane) => [lane, { at: String(at(lane)) }])) },
      planned: plans,
    })
  }
}

describe('a job whose number of shards has changed', () => {
  test('keeps the position of each lane, and each plan, through changes that are cut off at any part', async () => {
    let shards = 1
    await work(shards)
    for (const next of [3, 4, 1, 3, 2]) {
      await work(shards)
      const [lanes, planned] = [await lanesIn(shards), await plannedIn(shards)]
      expect(Object.keys(lanes)).toHaveLength(LANES.length)
      const all = [...partsOf(shards), ...partsOf(next)]
      const cut = all[randomInt(all.length)]?.path ?? ''
      await mkdir(cut, { recursive: true })
      const busy = await lockJob(cut, { command: 'other', run: 'other' })
      await expect(divide(optionsOf(next)), cut).rejects.toMatchObject({ code: 'JOB_LOCKED' })
      await busy.close()
      if (randomInt(2) === 0) {
        await divide(optionsOf(shards))
        expect([await lanesIn(shards), await plannedIn(shards)]).toEqual([lanes, planned])
      }
      await divide(optionsOf(next))
      expect([await lanesIn(next), await plannedIn(next)]).toEqual([lanes, planned])
      shards = next
    }
  })

  test('has no other parts any more: whoever wants to run one is refused, and nothing is divided without need', async () => {
    await work(2)
    await divide(optionsOf(3))
    const stateDir = shardDirectory(folder.path, NAME, { index: 0, of: 2 })
    await expect(holdJob({ job: jobOf(2), stateDir, command: 'old' })).rejects.toMatchObject({ code: 'STATE_SHARDS' })
    const { generation } = (await openCheckpoints(partsOf(3)[0]?.path ?? '', NAME)).current
    await divide(optionsOf(3))
    expect((await openCheckpoints(partsOf(3)[0]?.path ?? '', NAME)).current.generation).toBe(generation)
  })

  test('pays first what its parts owe; where a store is away nothing is moved', async () => {
    await work(2)
    settled = []
    const away = divide(optionsOf(3, { warehouse: { reason: 'connection refused' } }))
    await expect(away).rejects.toMatchObject({ code: 'STORE_OWED', message: expect.stringContaining('warehouse') })
    expect(settled).toEqual([join('/', NAME, 'shards', '0-of-2')])
    const before = await lanesIn(2)
    await divide(optionsOf(2, { warehouse: { reason: 'connection refused' } }))
    expect([settled.length, await lanesIn(2)]).toEqual([1, before])
    await divide(optionsOf(3))
    expect(await lanesIn(3)).toEqual(before)
  })
})
