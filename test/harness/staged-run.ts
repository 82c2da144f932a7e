/** One run of a staged source without the runtime: what it gives, and where it stands afterwards. */
import { readFile } from 'node:fs/promises'
import pino from 'pino'
import type { ExtractorDefinition, Gap, LanePosition, Positions } from '../../src/core/contracts.ts'

export interface StagedRun {
  readonly records: string[]
  readonly gaps: Gap[]
  readonly positions: Positions
  readonly format: unknown
}

/** `stage`: a folder of the test. `from`: where the run before ended. */
export async function stagedRun<Options>(
  definition: ExtractorDefinition<Options>,
  options: object,
  { root, stage, from = {} }: { readonly root: string; readonly stage: string; readonly from?: Positions },
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
  const limits = { chunkBytes: 1 << 20, maxRecordBytes: 1 << 16, parallel: 1 }
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
  }
  await source.close()
  return { records, gaps, positions, format }
}
