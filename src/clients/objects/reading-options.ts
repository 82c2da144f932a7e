/** Options of every source that is made of files. */
import { z } from 'zod'
import { csvHeader, csvShape } from '../../core/csv-options.ts'
import { duration } from '../../core/job/units.ts'

export const texts = z.union([z.string().min(1), z.array(z.string().min(1)).min(1)])

const csv = z
  .strictObject({
    ...csvShape,
    delimiter: csvShape.delimiter.describe('Character between fields. TSV files always use the tab.'),
    header: csvHeader('the first record'),
  })
  .describe('How CSV and TSV files are written.')

/** What a file is. */
export const formatShape = {
  exclude: texts.optional().describe('Glob pattern, or a list of them, of files to leave out.'),
  format: z
    .enum(['auto', 'ndjson', 'json', 'csv', 'tsv', 'avro', 'parquet'])
    .default('auto')
    .describe(
      'Format of the files. `auto`: by the extension, before `.gz` or `.zst`. `avro`: container files, which have their schema.',
    ),
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
} as const

/** When a file that may still be written is finished. */
export const settlingShape = {
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
} as const

export const choiceShape = {
  ignore_older_than: duration
    .optional()
    .describe('Files that were last modified longer ago are not begun. Those that were begun are read on.'),
  allow_empty: z.boolean().default(false).describe('true: a pattern that matches no file is no gap.'),
  poll: duration.prefault('1s').describe('How often a job that runs for ever looks for new files and new bytes.'),
} as const

/** Of sources behind a network. */
export const remoteShape = {
  max_files: z
    .int()
    .min(1)
    .default(1_000_000)
    .describe('Most files that a listing may find, with their folders; beyond it nothing is read, and that is a gap.'),
  retry: z
    .strictObject({
      attempts: z.int().min(1).default(5).describe('How often a range of a file is asked for before it is a gap.'),
      initial: duration.prefault('200ms').describe('Pause after the first failure; doubled each time.'),
      max: duration.prefault('10s').describe('Longest pause.'),
    })
    .prefault({})
    .describe('No answer, a broken one and a busy server are tried again, from the offset that was reached.'),
} as const

export type RetryOptions = z.infer<(typeof remoteShape)['retry']>

const fileSetOptions = z.object({ ...formatShape, ...settlingShape, ...choiceShape })
export type FileSetOptions = z.infer<typeof fileSetOptions>

export function list(one: string | readonly string[] | undefined): readonly string[] {
  return one === undefined ? [] : typeof one === 'string' ? [one] : one
}
