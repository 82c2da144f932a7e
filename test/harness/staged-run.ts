/** One run of a staged source without the runtime: what it gives, and where it stands afterwards. */
import { readFile } from 'node:fs/promises'
import pino from 'pino'
import type { Gap, LanePosition, Positions } from '../../src/core/contracts.ts'
import type { ExtractorDefinition } from '../../src/core/definitions.ts'

export interface StagedRun {
  readonly records: string[]
  readonly gaps: Gap[]
  readonly positions: Positions
  readonly format: unknown
}

export interface StagedRunOptions {
  readonly root: string
  /** A folder of the test. */
  readonly stage: string
  /** Where the run before ended. */
  readonly from?: Positions
  /** After so many it is left, as by a run that is stopped. */
  readonly chunks?: number
  readonly chunkBytes?: number
  readonly parallel?: number
}

export async function stagedRun<Options>(
  definition: ExtractorDefinition<Options>,
  options: object,
  { root, stage, from = {}, chunks, chunkBytes = 1 << 20, parallel = 1 }: StagedRunOptions,
): Promise<StagedRun> {
  const env = {
    ...{ id: 's', job: 'j', baseDir: root, chunkDir: root, log: pino({ level: 'silent' }) },
    stageDir: stage,
  }
  const source = definition.create(definition.options.parse(options), env)
  const records: string[] = []
  const gaps: Gap[] = []
  const positions: Record<string, LanePosition> = { ...from }
  let format: unknown
  const signal = new AbortController().signal
  const limits = { chunkBytes, maxRecordBytes: 1 << 16, parallel }
  let taken = 0
  for await (const item of source.read({ from, planned: [], until: 'now', signal, ...limits })) {
    if ('gap' in item) {
      gaps.push(item)
      continue
    }
    const before = { ...positions }
    records.push(...(await readFile(item.file, 'utf8')).split('\n').filter((line) => line !== ''))
    positions[item.range.lane] = { at: item.range.to, ...(item.mark === undefined ? {} : { mark: item.mark }) }
    format = item.format
    await item.release()
    await source.commit?.(positions, before)
    taken += 1
    if (taken === chunks) break
  }
  await source.close()
  return { records, gaps, positions, format }
}
