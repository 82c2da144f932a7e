/** Raw lines of a test, read as the source would read a file of them. */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Logger } from 'pino'
import type { Chunk } from '../core/contracts.ts'
import { AdflowError } from '../core/errors.ts'
import type { Job, JobExtractor, TestInput } from '../core/job/job.ts'
import type { Registry } from '../core/registry.ts'
import { rowChunks } from './row-diff.ts'
import type { StateDir } from './state-dir.ts'

interface LineOptions {
  readonly job: Job
  readonly registry: Registry
  readonly log: Logger
  readonly state: StateDir
}

type Lines = Extract<TestInput, { readonly lines: readonly string[] }>

let files = 0

/** CSV, TSV and JSON go through the source's own extractor, with a file of the lines in the place of its path. Lines of any
 *  other source are taken for NDJSON. */
export async function* linesInFile({ source, lines }: Lines, options: LineOptions): AsyncGenerator<Chunk> {
  const { job, registry, log, state } = options
  const { chunkBytes, maxRecordBytes, parallel } = job.resources
  const config = job.extract.find(({ id }) => id === source)
  const format = config === undefined ? undefined : textFormat(config)
  if (config === undefined || format === undefined) {
    yield* rowChunks(lines, source, state.chunks, maxRecordBytes)
    return
  }
  files += 1
  const folder = join(state.path, 'given')
  await mkdir(folder, { recursive: true })
  const path = join(folder, `lines-${files}.${format}`)
  await writeFile(path, lines.map((line) => `${line}\n`).join(''))
  const definition = await registry.get('extractor', config.type)
  const own = { ...(config.options as object), path, format, compression: 'none', exclude: undefined }
  const folders = { chunkDir: state.chunks, stageDir: state.stagedOf(config.id) }
  const env = { id: config.id, job: job.name, baseDir: job.baseDir, log, ...folders }
  const extractor = definition.create(own, env)
  const signal = new AbortController().signal
  const context = { from: {}, planned: [], until: 'now', chunkBytes, maxRecordBytes, parallel, signal } as const
  try {
    for await (const item of extractor.read(context)) {
      if ('gap' in item) throw new AdflowError('SOURCE_UNREADABLE', `the lines of ${source}: ${item.message}`)
      yield item
    }
  } finally {
    await extractor.close()
  }
}

/** The format that the options name, or that the end of the path tells; undefined: not one with a shape of its own. */
function textFormat({ options }: JobExtractor): 'csv' | 'tsv' | 'json' | undefined {
  const { format, path } = options as { readonly format?: unknown; readonly path?: unknown }
  const paths = (Array.isArray(path) ? path : [path]).map((one) => String(one).replace(/\.(?:gz|zst)$/, ''))
  const named = format === undefined || format === 'auto' ? /\.(csv|tsv|json)$/.exec(paths[0] ?? '')?.[1] : format
  return named === 'csv' || named === 'tsv' || named === 'json' ? named : undefined
}
