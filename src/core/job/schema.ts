/**
 * The keys of a job file, section by section. Options of extractors, steps and loaders are the components' own schemas.
 * Descriptions here are the text that editors and the reference show.
 */
import { z } from 'zod'
import { extractBase } from './extract-keys.ts'
import { identifier } from './identifier.ts'
import { schedule } from './schedule.ts'
import { stream, until } from './stream.ts'
import { byteSize, duration } from './units.ts'

const sql = z.string().trim().min(1, 'must not be empty').describe('SQL expression.')
const columnName = z
  .string()
  .min(1, 'a column needs a name')
  .max(255, 'a column name has at most 255 characters')
  .refine((name) => !name.startsWith('__'), 'column names that start with `__` are reserved; map the field with `from`')
const text = z.string().describe('For people; shown in summaries and the reference.')

const header = {
  version: z.literal(1).describe('Version of the job file format.'),
  name: identifier.describe('Name of the job: its state, ledger and lineage go by it.'),
  description: text.optional(),
}

/** What every entry of `load` may say besides its component's options. */
export const loadBase = {
  input: identifier
    .optional()
    .describe('Id of the step whose output is loaded. Default: `main`, the end of the chain of steps.'),
  optional: z
    .boolean()
    .default(false)
    .describe('true: when the store is down its batches are owed, and the run still ends with 0.'),
}

/** What every entry of `distribute` may say besides its component's options. */
export const distributeBase = {
  input: identifier
    .optional()
    .describe('Id of the step whose output is distributed. Default: `main`, the end of the chain of steps.'),
  optional: z.boolean().default(false).describe('true: what is owed to the consumer does not fail a run.'),
  where: sql.optional().describe('SQL over one row: only rows for which it is true are distributed.'),
  select: z
    .record(columnName, sql)
    .refine((columns) => Object.keys(columns).length > 0, 'needs at least one column')
    .optional()
    .describe('What is distributed of a row: name → SQL expression. Default: all columns.'),
  key: sql
    .optional()
    .describe(
      'SQL over one row: messages with the same key arrive in order. Without it, and where it is NULL, any order.',
    ),
  concurrency: z
    .int()
    .min(1)
    .max(256)
    .default(4)
    .describe('Messages that are under way to the consumer at the same time.'),
  retry: z
    .strictObject({
      initial: duration
        .prefault('1s')
        .describe('Longest pause before the second attempt; it doubles each time. The pause is a random part of it.'),
      max: duration
        .prefault('5m')
        .describe('Longest pause, also where the consumer asks for a longer one (Retry-After).'),
      deadline: duration
        .prefault('1d')
        .describe('From the first attempt: what is not delivered by then is a dead letter.'),
    })
    .prefault({})
    .describe('How a message is tried again.'),
  breaker: z
    .strictObject({
      failures: z
        .int()
        .min(1)
        .max(1000)
        .default(5)
        .describe('Failures in a row after which an endpoint is left alone.'),
      pause: duration.prefault('10s').describe('How long; then one message probes it.'),
    })
    .prefault({})
    .describe('Circuit breaker of each endpoint.'),
  patience: duration
    .prefault('30s')
    .describe('A run that has delivered nothing to the consumer for so long goes on without it; what is left is owed.'),
}

const columnObject = z.strictObject({
  type: z.string().min(1).describe('Type in the engine: `varchar`, `bigint`, `decimal(18,6)`, `struct(os varchar)` …'),
  required: z.boolean().default(false).describe('true: a record without a value is rejected.'),
  from: z
    .string()
    .min(1)
    .optional()
    .describe('Field of the record, where it has another name; `device.os` reaches into maps.'),
  format: z
    .string()
    .min(1)
    .optional()
    .describe(
      'How a timestamp is written: a strptime pattern (`%d.%m.%Y %H:%M`), or `epoch_s`, `epoch_ms`, `epoch_us`.',
    ),
  description: text.optional(),
  personal: z.boolean().default(false).describe('true: personal data; lint wants it masked before a store.'),
})

export const contract = z.strictObject({
  columns: z
    .record(
      columnName,
      z.union([
        z
          .string()
          .min(1)
          .transform((type) => ({ type, required: false, personal: false })),
        columnObject,
      ]),
    )
    .refine((columns) => Object.keys(columns).length > 0, 'a contract needs at least one column')
    .describe('Columns of a record: name → type, or a map with more.'),
  unknown: z
    .enum(['evolve', 'discard_value', 'discard_row', 'freeze'])
    .default('discard_value')
    .describe(
      'What becomes of fields that no column names: take them up, drop them, reject the record, or stop the run.',
    ),
})

export const STAGES = ['format', 'completeness', 'consistency', 'business'] as const

const ruleId = identifier.describe('Name of the rule: quarantine and summaries go by it.')
const batchOnFail = z.enum(['fail', 'warn']).default('fail').describe('What happens when a batch breaks the rule.')
const batchBase = { id: ruleId, on_fail: batchOnFail, description: text.optional() }
const ratio = z.number().min(0).max(1)

/** Kinds of rules, by the key that tells them apart. */
export const ruleKinds = {
  check: z.strictObject({
    id: ruleId,
    check: sql.describe('SQL over one row that must hold; as in an SQL CHECK, NULL passes.'),
    on_fail: z
      .enum(['quarantine', 'drop', 'warn', 'fail'])
      .default('quarantine')
      .describe('What becomes of a row that breaks the rule.'),
    stage: z.enum(STAGES).default('business').describe('Rules run in the order of their stages.'),
    description: text.optional(),
  }),
  batch: z.strictObject({
    ...batchBase,
    batch: sql.describe('SQL with aggregates over the rows of a batch that must be true.'),
  }),
  rows: z.strictObject({
    ...batchBase,
    rows: z
      .strictObject({
        min: z.int().min(0).optional().describe('At least so many rows.'),
        max: z.int().min(0).optional().describe('At most so many rows.'),
      })
      .refine(({ min, max }) => min !== undefined || max !== undefined, 'needs `min`, `max` or both')
      .refine(({ min = 0, max = Infinity }) => min <= max, '`min` is above `max`')
      .describe('Bounds of the number of rows that pass in a run. A run that found nothing new is not asked.'),
  }),
  null_ratio: z.strictObject({
    ...batchBase,
    null_ratio: z
      .strictObject({
        column: columnName.describe('Column that is counted.'),
        max: ratio.describe('Largest part of the rows, 0 to 1, that may have no value.'),
      })
      .describe('How many values of a column may be missing.'),
  }),
  unique: z.strictObject({
    ...batchBase,
    unique: z.array(columnName).min(1).describe('Columns whose values together must not repeat.'),
  }),
  freshness: z.strictObject({
    ...batchBase,
    freshness: z
      .strictObject({
        column: columnName.describe('Timestamp column.'),
        within: duration.describe('Greatest age of the newest value, such as `6h`.'),
      })
      .describe('How old the newest row may be.'),
  }),
  budget: z.strictObject({
    budget: z
      .strictObject({
        ratio: ratio.describe('Largest part of the records, 0 to 1, that may be rejected.'),
        per: z
          .union([z.literal('run'), duration], { error: 'expected `run` or a duration with its unit, such as `1h`' })
          .default('run')
          .describe('Over what it is counted: `run`, or a duration such as `1h`.'),
        // biome-ignore lint/suspicious/noThenProperty: the word of the job file; a parsed budget is never awaited.
        then: z.enum(['fail', 'warn']).default('fail').describe('What happens when it is used up.'),
        min_rows: z.int().min(0).default(0).describe('Does not apply before so many records were read.'),
      })
      .describe('Error budget of the job.'),
  }),
} as const

export type RuleKind = keyof typeof ruleKinds

const resources = z.strictObject({
  memory_limit: byteSize.prefault('512MB').describe('Memory of the engine; what does not fit is spilled to disk.'),
  threads: z.int().min(1).max(1024).optional().describe('Threads of the engine. Default: the number of cores.'),
  chunk: byteSize
    .prefault('64MB')
    .refine((bytes) => bytes >= 1000 && bytes <= 2_000_000_000, 'a chunk has 1kB to 2GB')
    .describe('Target size of a chunk, 1kB to 2GB. Of larger ones than 64MB the first of a file are smaller.'),
  whole_file: byteSize
    .prefault('2GB')
    .refine((bytes) => bytes <= 4_000_000_000, 'a whole file has up to 4GB')
    .describe(
      'A settled NDJSON file of up to this size is one batch and is not copied, while all records of the source can be streamed into the one store. Up to 4GB.',
    ),
  sources: z
    .int()
    .min(1)
    .max(256)
    .default(16)
    .describe(
      'Sources that are read at the same time, by priority. One that has given nothing for a second lends its place to the next.',
    ),
  parallel: z.int().min(1).max(256).default(4).describe('Lanes of one source that are read at the same time.'),
  in_flight: z
    .int()
    .min(1)
    .max(64)
    .default(2)
    .describe(
      'Batches that are under way at the same time. With one more than `threads`, each thread encodes a chunk of its own while another is sent.',
    ),
  max_record: byteSize.prefault('16MB').describe('Largest record; larger ones are quarantined by reference.'),
  temp_directory: z
    .string()
    .min(1)
    .optional()
    .describe('Folder for spilled data. Default: inside the state directory.'),
})

const spool = z.strictObject({
  max_bytes: byteSize.prefault('10GB').describe('Largest size of the batches owed to stores.'),
  when_full: z.enum(['block', 'fail']).default('block').describe('Wait until a store has caught up, or end the run.'),
})

const retry = z.strictObject({
  attempts: z.int().min(1).max(100).default(5).describe('Attempts of one write, the first included.'),
  initial: duration.prefault('200ms').describe('Pause before the second attempt; it doubles each time.'),
  max: duration.prefault('30s').describe('Longest pause.'),
})

/** Without `transport` the environment may still name one. */
const lineage = z.strictObject({
  namespace: z
    .string()
    .min(1)
    .default('adflow')
    .describe('Namespace of the job in lineage events. `OPENLINEAGE_NAMESPACE` in the environment wins.'),
  transport: z
    .looseObject({ type: z.string().min(1).describe('Type of the transport: `adflow components` lists them.') })
    .optional()
    .describe('Where events go. `OPENLINEAGE__TRANSPORT__TYPE` and so on in the environment win.'),
  timeout: duration
    .prefault('5s')
    .describe('How long the end of a run waits for events that are on their way. The rest is sent by the next run.'),
})

export const reconcile = z.strictObject({
  every: duration
    .optional()
    .describe('How often the daemon of a later version reconciles; `adflow reconcile` does it once, now.'),
  by: z
    .enum(['time', 'key'])
    .optional()
    .describe('How rows are put into buckets. Default: by time where there is a time column.'),
  column: columnName
    .optional()
    .describe('Time column of the buckets. Default: the first column with a time or a date.'),
  window: duration.prefault('1h').describe('Width of a bucket by time.'),
  settle: duration.prefault('0s').describe('Rows whose time is younger than this are left out.'),
  key: z
    .array(columnName)
    .min(1)
    .optional()
    .describe(
      'Columns by which a row is found again. Default: the key of the store, or of `dedupe`; without one a changed row is one missing and one extra.',
    ),
  compare: z
    .array(z.enum(['count', 'digest']))
    .min(1)
    .default(['count', 'digest'])
    .describe('What is compared per bucket. Counts alone do not see a changed row, nor one lost with one doubled.'),
  sum: z.array(columnName).default([]).describe('Integer or decimal columns that are summed per bucket.'),
  heal: z
    .enum(['none', 'missing', 'all'])
    .default('none')
    .describe('`missing` puts in what the store lacks; `all` also corrects and removes, after asking.'),
})

const row = z.record(z.string(), z.unknown())
const rows = z.array(row).describe('Rows as maps: column → value. Write large decimals and timestamps as text.')

export const test = z.strictObject({
  name: z.string().min(1).describe('Sentence that says what must hold.'),
  clock: z
    .string()
    .refine((value) => /(?:Z|[+-]\d\d:?\d\d)$/.test(value) && !Number.isNaN(Date.parse(value)), {
      error: 'expected a point in time with its offset, such as `2026-03-01T12:00:00Z`',
    })
    .optional()
    .describe('What the time is during the test.'),
  given: z
    .record(
      identifier,
      z.union([
        rows,
        z
          .strictObject({ lines: z.array(z.string()).describe('Lines exactly as the source would hold them.') })
          .describe('Raw lines of the source.'),
      ]),
    )
    .describe('Id of a source → what it holds.'),
  expect: z
    .looseObject({
      quarantine: z
        .array(z.looseObject({ rule: z.string().describe('Rule or error code that rejected the record.') }))
        .optional()
        .describe('Rejected records: at least the given keys must match.'),
    })
    .describe('Id of a loader, a consumer or a step → the rows that arrive there.'),
})

/** Rows that a test expects at one loader or step. */
export const expectedRows = rows

const options = z.record(z.string(), z.unknown())
const typeName = z.string().min(1).describe('Type of the component: `adflow components` lists them.')
const atLeastOne = (what: string) => (map: object, context: z.RefinementCtx) => {
  if (Object.keys(map).length === 0) context.addIssue({ code: 'custom', message: `needs at least one ${what}` })
}

/** The whole file. Rules, and the options of components, are checked one by one afterwards. */
export const jobDocument = z.strictObject({
  ...header,
  defaults: z
    .strictObject({
      extract: z
        .record(z.string(), options)
        .optional()
        .describe('Type → options that every source of the type starts from.'),
      load: z
        .record(z.string(), options)
        .optional()
        .describe('Type → options that every loader of the type starts from.'),
      distribute: z
        .record(z.string(), options)
        .optional()
        .describe('Type → options that every consumer of the type starts from.'),
    })
    .optional()
    .describe('Options that several components share; what a component says itself wins.'),
  extract: z
    .record(identifier, z.looseObject({ type: typeName, ...extractBase }))
    .superRefine(atLeastOne('source'))
    .describe('Sources: id → type and options.'),
  contract: contract.describe('What a record looks like.'),
  validate: z.array(options).default([]).describe('Rules for rows and batches, and the error budget.'),
  transform: z.array(options).default([]).describe('Steps, in order; each is one verb with its options.'),
  load: z
    .record(identifier, z.looseObject({ type: typeName, ...loadBase }))
    .superRefine(atLeastOne('loader'))
    .describe('Stores: id → type and options.'),
  distribute: z
    .record(identifier, z.looseObject({ type: typeName, ...distributeBase }))
    .superRefine(atLeastOne('consumer'))
    .optional()
    .describe('Consumers: id → type and options.'),
  resources: resources.prefault({}).describe('What the job may use of the machine.'),
  spool: spool.prefault({}).describe('Where batches wait for a store that is down.'),
  reconcile: reconcile.optional().describe('How `adflow reconcile` compares the stores of this job with its sources.'),
  retry: retry.prefault({}).describe('How often a write is tried again before its batch is owed.'),
  lineage: lineage.prefault({}).describe('OpenLineage events of each run.'),
  schedule: schedule.optional().describe('When `adflow daemon` runs the job. Without it: when somebody asks for it.'),
  until,
  stream: stream.prefault({}),
  state: z
    .string()
    .regex(/^postgres(?:ql)?:\/\/./, 'expected `postgres://user@host:5432/database?schema=adflow`')
    .optional()
    .describe(
      'Where checkpoints, ledger and spool are kept so that several machines share them: `postgres://user@host:5432/database`, with `?schema=`, `lease=`, `tls=`, `ca=`, `certificate=`, `key=`. Default: in files, in the state directory.',
    ),
  tests: z.array(test).default([]).describe('Tests of this job: `adflow test` runs them.'),
})
