/** One run of an extractor whose lanes are files, as the runtime makes it. */
import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import pino from 'pino'
import type { Chunk, Gap, LanePosition, PlannedRange, Positions, ReadContext } from '../../src/core/contracts.ts'
import type { ExtractorDefinition } from '../../src/core/definitions.ts'

export interface FileRun {
  /** lane → what was read of it. */
  readonly lanes: Readonly<Record<string, string>>
  readonly gaps: readonly Gap[]
  readonly positions: Positions
  readonly ranges: readonly PlannedRange[]
  readonly warnings: readonly string[]
}

export interface FileRunOptions extends Partial<ReadContext> {
  /** After each chunk, before the next is asked for. */
  readonly between?: (chunk: Chunk) => Promise<void> | void
}

let runs = 0

/** `options` as in a job file; chunk files go below `folder`. */
export async function readOnce<Options>(
  definition: ExtractorDefinition<Options>,
  options: object,
  folder: string,
  { between, ...read }: FileRunOptions = {},
): Promise<FileRun> {
  runs += 1
  const chunkDir = join(folder, `chunks-${runs}`)
  await mkdir(chunkDir)
  const warnings: string[] = []
  const log = pino({ level: 'warn' }, { write: (line: string) => warnings.push(JSON.parse(line).msg) })
  const env = { id: 'source', job: 'job', baseDir: folder, chunkDir, stageDir: join(folder, 'staged'), log }
  const source = definition.create(definition.options.parse(options), env)
  const lanes: Record<string, string> = {}
  const positions: Record<string, LanePosition> = { ...read.from }
  const gaps: Gap[] = []
  const ranges: PlannedRange[] = []
  const context: ReadContext = {
    from: {},
    planned: [],
    until: 'now',
    chunkBytes: 1 << 20,
    maxRecordBytes: 1 << 20,
    parallel: 4,
    signal: new AbortController().signal,
    ...read,
  }
  try {
    for await (const item of source.read(context)) {
      if ('gap' in item) {
        gaps.push(item)
        continue
      }
      const { range, mark } = item
      lanes[range.lane] = `${lanes[range.lane] ?? ''}${await readFile(item.file, 'utf8')}`
      positions[range.lane] = { at: range.to, ...(mark === undefined ? {} : { mark }) }
      ranges.push({ ...range, ...(mark === undefined ? {} : { mark }) })
      await item.release()
      await between?.(item)
    }
  } finally {
    await source.close()
  }
  return { lanes, gaps, positions, ranges, warnings }
}
