/** Local files: globs, formats, compression; lanes are files, positions are byte offsets (Parquet: rows). */
import { resolve } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { z } from 'zod'
import { diagnoseSources } from '../clients/objects/diagnose.ts'
import { baseFolders, discover, type Selection } from '../clients/objects/discover.ts'
import { interleave } from '../clients/objects/interleave.ts'
import { type FileLane, resolveLanes } from '../clients/objects/lanes.ts'
import { gapOf, readLane } from '../clients/objects/read-file.ts'
import type { ReadingOptions } from '../clients/objects/reading.ts'
import { surveyed } from '../clients/objects/survey.ts'
import { knownLanes, lossOf, taskOf, taskUntil } from '../clients/objects/tasks.ts'
import type {
  Chunk,
  Dataset,
  Extractor,
  ExtractorEnv,
  Gap,
  LanePosition,
  LaneSurvey,
  PlannedRange,
  Positions,
  ReadContext,
} from '../core/contracts.ts'
import { defineExtractor } from '../core/define.ts'
import { duration } from '../core/job/units.ts'
import { ParquetFooters } from '../records/parquet.ts'

const texts = z.union([z.string().min(1), z.array(z.string().min(1)).min(1)])
const oneByte = z.string().refine(isOneByte, 'expected one ASCII character, no line end')

const csv = z
  .strictObject({
    delimiter: oneByte.default(',').describe('Character between fields. TSV files always use the tab.'),
    quote: z
      .union([oneByte, z.literal('')])
      .default('"')
      .describe('Character around fields that hold delimiters or line ends; doubled inside. Empty: no quoting.'),
    header: z
      .union([z.boolean(), z.array(z.string().min(1)).min(1)])
      .default(true)
      .describe(
        'true: the first record names the columns. false: they are `column0`, `column1` … A list: these names.',
      ),
  })
  .describe('How CSV and TSV files are written.')

const options = z.strictObject({
  path: texts.describe(
    'File or glob pattern, or a list of them; relative to the folder of the job file. Read in natural order.',
  ),
  exclude: texts.optional().describe('Glob pattern, or a list of them, of files to leave out.'),
  format: z
    .enum(['auto', 'ndjson', 'json', 'csv', 'tsv', 'parquet'])
    .default('auto')
    .describe('Format of the files. `auto`: by the extension, before `.gz` or `.zst`.'),
  compression: z
    .enum(['auto', 'none', 'gzip', 'zstd'])
    .default('auto')
    .describe('Compression of the files. `auto`: by their first bytes and the extension.'),
  csv: csv.prefault({}),
  encoding: z.literal('utf-8').default('utf-8').describe('Only UTF-8, with or without byte order mark.'),
  max_ratio: z
    .number()
    .min(1)
    .default(200)
    .describe(
      'Largest decompressed size over compressed size, from 64 MiB decompressed on; beyond it the file is a gap.',
    ),
  settle: duration
    .prefault('5s')
    .describe(
      'A file that was not modified for so long is taken to be finished: its last line counts without a line end.',
    ),
  unterminated: z
    .enum(['settle', 'read', 'wait'])
    .default('settle')
    .describe(
      'A last line without line end. `settle`: read when it is a whole JSON object or the file has settled. `read`: always. `wait`: never before its line end comes.',
    ),
  ignore_older_than: duration
    .optional()
    .describe('Files that were last modified longer ago are not begun. Those that were begun are read on.'),
  allow_empty: z.boolean().default(false).describe('true: a pattern that matches no file is no gap.'),
  poll: duration.prefault('1s').describe('How often a job that runs for ever looks for new files and new bytes.'),
})

type Options = z.infer<typeof options>

export default defineExtractor({
  summary: 'Local files: NDJSON, JSON, CSV, TSV, Parquet; plain, gzip or zstd; whole, growing or rotated.',
  description: `Each file is a lane. A run goes on where the last one stopped, inside the file too: appended bytes are read from
their offset, a renamed file is followed (same inode and birth, or the copy \`name.1\` that a rotation left), and a file that
was truncated or replaced is read from its start as a lane of its own, \`name#2\`. What is compared is kept in the checkpoint:
inode, birth, size, and digests of the first 4096 and the last 256 bytes that were read.

A last line without a line end may be half written, so it waits: until it is a whole JSON object, or until the file was not
modified for \`settle\`.

A compressed file cannot be entered in the middle: going on inside it decompresses everything before the position once
more. A file that was read to its end and did not change is not opened.

A whole NDJSON file of up to one and a half chunks, once it has settled, and every Parquet file are read where they are; where all
records are streamed into one store, NDJSON files of up to \`resources.whole_file\` are too. They are read by a
second name (hard link) in the chunk folder, or, where that is on another file system, by their own. They are copied only where
neither can be: a link that leads out of the folders of \`path\`, or a name with pattern characters.

One file's failure is a gap and costs no other file: unreadable, truncated gzip, a zip bomb, a broken Parquet footer. The
position stays before the damage, so that a repaired file is read on. A record beyond \`max_record_bytes\`, a quote that is
never closed, a JSON value that is cut off are quarantined with their bytes and place, and reading goes on after them.`,
  options,
  example: { path: 'events/*.ndjson' },
  access: (chosen, env) => ({ folders: baseFolders(list(chosen.path), env.baseDir) }),
  diagnose(chosen, env) {
    const patterns = list(chosen.path).map((path) => resolve(env.baseDir, path))
    return diagnoseSources(patterns.join(', '), selectionOf(chosen, env.baseDir), env)
  },
  create: (chosen, env) => new FilesExtractor(chosen, env),
})

class FilesExtractor implements Extractor {
  readonly replayable = true
  readonly #options: Options
  readonly #env: ExtractorEnv
  readonly #footers = new ParquetFooters()
  readonly #toldGaps = new Set<string>()
  /** As access() names them: what appears later is out of the engine's reach. */
  readonly #folders: readonly string[]

  constructor(chosen: Options, env: ExtractorEnv) {
    this.#options = chosen
    this.#env = env
    this.#folders = baseFolders(list(chosen.path), env.baseDir)
  }

  dataset(): Dataset {
    const names = list(this.#options.path).map((path) => resolve(this.#env.baseDir, path))
    return { namespace: 'file', name: names.join(',') }
  }

  async *read(context: ReadContext): AsyncGenerator<Chunk | Gap> {
    const positions = new Map(Object.entries(context.from))
    let planned = context.planned
    while (!context.signal.aborted) {
      for await (const item of this.#pass(context, positions, planned)) {
        if ('gap' in item && !this.#isNews(item, context)) continue
        if (!('gap' in item)) positions.set(item.range.lane, positionAfter(item))
        yield item
      }
      if (context.until !== 'forever') return
      planned = []
      await delay(this.#options.poll, undefined, { signal: context.signal }).catch(() => undefined) // aborted: the loop ends
    }
  }

  async survey(from: Positions, modified?: ReadContext['modified']): Promise<readonly LaneSurvey[]> {
    const { files } = await this.#discover()
    const { lanes, missing } = await resolveLanes(this.#env.baseDir, files, knownLanes(from, []))
    const gone = missing.filter((lane) => lane.mark?.ended !== true)
    return [
      ...lanes
        .filter((lane) => (modified === undefined ? this.#isWanted(lane, modified) : wasModified(lane, modified)))
        .map(surveyed),
      ...(modified === undefined ? gone : []).map(({ lane, at, mark }) => {
        const origin = resolve(this.#env.baseDir, mark?.path ?? lane)
        return { lane, origin, at: String(at), bytesLeft: 0, state: 'missing' }
      }),
    ]
  }

  async close(): Promise<void> {
    await this.#footers.close()
  }

  /** Everything that is there now, once. */
  async *#pass(
    context: ReadContext,
    positions: ReadonlyMap<string, LanePosition>,
    planned: readonly PlannedRange[],
  ): AsyncGenerator<Chunk | Gap> {
    const { files, problems } = await this.#discover()
    for (const { path, origin, code, message } of problems)
      yield { gap: { lane: path, from: positions.get(path)?.at ?? '0' }, origin, code, message }
    const known = knownLanes(Object.fromEntries(positions), planned)
    const { lanes, missing } = await resolveLanes(this.#env.baseDir, files, known)
    const told = new Set(problems.map(({ path }) => path))
    for (const lane of missing.filter((lane) => !told.has(lane.mark?.path ?? lane.lane))) {
      const absolute = resolve(this.#env.baseDir, lane.mark?.path ?? lane.lane)
      const task = taskOf({ ...lane, file: { absolute } }, planned)
      const loss = lossOf(lane, absolute, known, task.planned)
      if (loss !== undefined) yield gapOf(task, task.at, loss)
    }
    this.#warnOfNewBytes(lanes)
    const tasks = lanes
      .map((lane) => taskOf(lane, planned))
      .filter((task) => task.planned.length > 0 || this.#isWanted(task, context.modified))
      .flatMap((task) => taskUntil(task, context.until))
    const reading = this.#reading(context)
    const sources = tasks.map((task) => () => readLane(task, reading))
    yield* interleave(sources, context.parallel, context.signal, async (item) => {
      if (!('gap' in item)) await item.release()
    })
  }

  #discover() {
    return discover(selectionOf(this.#options, this.#env.baseDir))
  }

  #isWanted(lane: FileLane, modified: ReadContext['modified']): boolean {
    const { file, at, state } = lane
    if (!wasModified(lane, modified)) return false
    const oldest = this.#options.ignore_older_than
    return oldest === undefined || at > 0 || state === 'continue' || file.facts.modifiedMs >= Date.now() - oldest
  }

  #warnOfNewBytes(lanes: readonly FileLane[]): void {
    for (const { lane, file, state } of lanes)
      if (state === 'rotated' || state === 'truncated' || state === 'replaced')
        this.#env.log.warn(
          { source: this.#env.id, lane, file: file.absolute, state },
          `${file.path} was ${state} since it was last read: what it holds now is read from its start, as lane ${lane}`,
        )
  }

  #reading(context: ReadContext): ReadingOptions {
    const { format, compression, max_ratio, settle, unterminated } = this.#options
    return {
      format: format === 'auto' ? undefined : format,
      compression,
      csv: this.#options.csv,
      maxRatio: max_ratio,
      settleMs: settle,
      unterminated,
      chunkDir: this.#env.chunkDir,
      folders: this.#folders,
      chunkBytes: context.chunkBytes,
      wholeBytes: context.wholeBytes?.bind(context),
      maxRecordBytes: context.maxRecordBytes,
      signal: context.signal,
      footers: this.#footers,
    }
  }

  /** A job that runs for ever looks again and again: each gap is told once, until it changes. */
  #isNews({ gap, code, message }: Gap, context: ReadContext): boolean {
    const key = JSON.stringify([gap.lane, gap.from, code, message])
    if (context.until === 'forever' && this.#toldGaps.has(key)) return false
    this.#toldGaps.add(key)
    return true
  }
}

function selectionOf({ path, exclude, allow_empty }: Options, baseDir: string): Selection {
  return {
    patterns: list(path),
    exclude: exclude === undefined ? [] : list(exclude),
    baseDir,
    allowEmpty: allow_empty,
  }
}

function wasModified({ file: { facts } }: FileLane, { from, to }: NonNullable<ReadContext['modified']> = {}): boolean {
  return (from === undefined || facts.modifiedMs >= from) && (to === undefined || facts.modifiedMs < to)
}

function list(one: string | readonly string[]): readonly string[] {
  return typeof one === 'string' ? [one] : one
}

function positionAfter({ range, mark }: Chunk): LanePosition {
  return { at: range.to, ...(mark === undefined ? {} : { mark }) }
}

/** The scanners look for single bytes. */
function isOneByte(text: string): boolean {
  const code = text.charCodeAt(0)
  return text.length === 1 && code > 0 && code < 128 && text !== '\n' && text !== '\r'
}
