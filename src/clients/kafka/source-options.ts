/** What a job says of topics that are read. */
import { z } from 'zod'
import { columnNames, csvShape } from '../../core/csv-options.ts'
import { byteSize, duration } from '../../core/job/units.ts'
import { avroOptions } from '../avro/options.ts'
import { connectionShape } from './options.ts'
import { fieldsOption } from './record-fields.ts'
import type { Edge, TopicChoice } from './source-topics.ts'

const topic = z.string().regex(/^(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}$/, 'letters, digits, `.`, `_` and `-`')
const time = z
  .string()
  .regex(
    /^\d{4}-\d\d-\d\d(?:T\d\d:\d\d(?::\d\d(?:\.\d{1,3})?)?(?:Z|[+-]\d\d:\d\d))?$/,
    'expected `2026-03-01T00:00:00Z`',
  )
  .refine((text) => !Number.isNaN(Date.parse(text)), 'expected a time')
const offsets = z.record(
  z.string().regex(/^[A-Za-z0-9._-]+\/\d+$/, 'expected `topic/partition`'),
  z.union([z.int().nonnegative(), z.string().regex(/^(?:0|[1-9]\d*)$/, 'expected an offset')]),
)

const csv = z
  .strictObject({
    ...csvShape,
    header: columnNames.default(['column0']).describe('Names of the columns: no record is a header.'),
  })
  .describe('How CSV is written.')

export const sourceOptions = z
  .strictObject({
    ...connectionShape,
    topics: z
      .union([topic, z.array(topic).min(1)])
      .optional()
      .describe('Topic, or a list of them.'),
    pattern: z
      .string()
      .min(1)
      .refine(isPattern, 'expected a regular expression')
      .optional()
      .describe(
        'Regular expression that the whole name of a topic must match, in the place of `topics`. Topics that come later are read from their start.',
      ),
    start: z
      .union([z.enum(['earliest', 'latest']), time, offsets])
      .default('earliest')
      .describe(
        'Where a partition begins that was never read: `earliest`, `latest` (of an empty partition a run that ends keeps nothing: it still counts as never read), a time (the first record at that time or later), or offsets by lane: `{ events/0: 1500 }`; lanes that are not named begin at their earliest record.',
      ),
    end: z
      .union([z.literal('latest'), time, offsets])
      .default('latest')
      .describe(
        'Where a run stops: `latest` is the end of what is committed when it begins. Or a time (the first record at that time or later is not read any more), or offsets by lane.',
      ),
    isolation: z
      .enum(['read_committed', 'read_uncommitted'])
      .default('read_committed')
      .describe('`read_committed`: nothing of a transaction that was aborted, nor of one that is still open.'),
    format: z
      .enum(['json', 'csv', 'avro'])
      .default('json')
      .describe(
        'Format of the values: one JSON object each, on one line or several, one line of CSV each, or Avro in its binary encoding.',
      ),
    csv: csv.prefault({}),
    avro: avroOptions.optional(),
    fields: fieldsOption.default({}),
    tombstones: z
      .enum(['record', 'skip'])
      .default('record')
      .describe(
        'What a record without value is. `record`: one whose columns are all NULL, but for what `fields` says of it. `skip`: nothing; it is not counted.',
      ),
    on_lost: z
      .enum(['fail', 'continue'])
      .default('fail')
      .describe(
        'When records are gone before they were read. `fail`: the lane stands until its position is set by hand. `continue`: the lost range is booked as a gap, the run ends with 65, and the lane goes on behind it.',
      ),
    fetch_bytes: byteSize
      .prefault('1MiB')
      .describe(
        'Bytes that are asked for at once, of one partition; two such parts are in memory for each lane that is read.',
      ),
    max_batch: byteSize
      .prefault('128MiB')
      .describe('Most decompressed bytes of one record batch; beyond it there is a gap.'),
    patience: duration
      .prefault('30s')
      .describe('How long a broker that is down, or a partition without leader, is waited for; then there is a gap.'),
    group: z
      .string()
      .min(1)
      .optional()
      .describe(
        'Consumer group whose offsets follow the checkpoint, about once a second, for tools that watch lags. It has no members: let no consumer use it. The user needs READ on it.',
      ),
    poll: duration
      .optional()
      .describe('How often a job that runs for ever looks for new records. Default: `stream.flush` of the job.'),
  })
  .superRefine(({ topics, pattern, format, csv: { quote }, fields, avro }, context) => {
    const refuse = (path: string[], message: string) => context.addIssue({ code: 'custom', path, message })
    if ((topics === undefined) === (pattern === undefined)) refuse(['topics'], 'say either `topics` or `pattern`')
    if (format === 'avro' && avro === undefined)
      refuse(['avro'], 'say where the schema comes from: `schema`, `schema_file` or `registry`')
    if (format !== 'avro' && avro !== undefined) refuse(['format'], '`avro` goes with `format: avro`')
    if (format === 'csv' && quote === '' && Object.keys(fields).length > 0)
      refuse(['csv', 'quote'], '`fields` need quotes: keys and headers may hold anything')
  })

export type SourceOptions = z.infer<typeof sourceOptions>

export function choiceOf({ topics, pattern, isolation, start, end }: SourceOptions): TopicChoice {
  return {
    topics: topics === undefined ? [] : [...new Set([topics].flat())],
    pattern: pattern === undefined ? undefined : new RegExp(`^(?:${pattern})$`),
    isolation,
    start: start === 'earliest' || start === 'latest' ? start : edgeOf(start),
    end: end === 'latest' ? end : edgeOf(end),
    owns: () => true,
    begun: new Map(),
  }
}

function edgeOf(stated: string | z.infer<typeof offsets>): Exclude<Edge<never>, string> {
  if (typeof stated === 'string') return { timeMs: Date.parse(stated) }
  return { offsets: new Map(Object.entries(stated).map(([lane, offset]) => [lane, BigInt(offset)])) }
}

function isPattern(text: string): boolean {
  try {
    return new RegExp(text) instanceof RegExp
  } catch {
    return false
  }
}
