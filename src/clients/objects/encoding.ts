/** How batches become files, wherever these are put: the options for it, the names, and what a format cannot hold. */
import { z } from 'zod'
import type { Column, EncodedFormat, EngineConnection } from '../../core/contracts.ts'
import { AdflowError } from '../../core/errors.ts'
import type { LoaderCheckEnv, LoaderRemark } from '../../core/loader-check.ts'
import { writtenType } from '../../engine/exact.ts'
import { emptyRelation } from '../../engine/relation.ts'
import type { StageOptions } from './publish-stage.ts'

const COMPRESSIONS: Readonly<Record<EncodedFormat, readonly string[]>> = {
  parquet: ['zstd', 'snappy', 'gzip', 'none'],
  csv: ['none', 'gzip', 'zstd'],
  ndjson: ['none', 'gzip', 'zstd'],
}

const ENDINGS = { zstd: '.zst', gzip: '.gz', snappy: '', none: '' } as const

/** Hex digits of the token in a file name: 96 bits, short enough to read. */
export const NAME_DIGITS = 24

export const namePrefix = z
  .string()
  .regex(
    /^(?:[A-Za-z0-9][A-Za-z0-9._-]{0,99})?$/,
    'letters, digits, `.`, `_` and `-`, beginning with a letter or digit',
  )

export const encodingShape = {
  format: z.enum(['parquet', 'csv', 'ndjson']).describe('How rows are written.'),
  compression: z
    .enum(['zstd', 'snappy', 'gzip', 'none'])
    .optional()
    .describe('Default: `zstd` for Parquet, `none` for the others. `snappy` is for Parquet only.'),
} as const

/** What loaders have beside: where files of a batch go, and how they are called. */
export const publishedShape = {
  ...encodingShape,
  partition: z
    .record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/, 'a partition has the name of a column'), z.string().min(1))
    .default({})
    .describe(
      'Hive-style folders: name → SQL expression over the columns. `dt: "strftime(event_time, \'%Y-%m-%d\')"` writes to `dt=2026-01-01/`.',
    ),
  max_partitions: z
    .int()
    .positive()
    .default(1000)
    .describe('More partitions than this in one batch are an error: most likely the expression is too fine.'),
  name: namePrefix
    .default('')
    .describe(
      'Put before the token in file names. Loaders that write the same format into one folder need different ones.',
    ),
} as const

export type EncodingOptions = z.infer<z.ZodObject<typeof encodingShape>>
export type PublishedOptions = z.infer<z.ZodObject<typeof publishedShape>>

/** For superRefine(): not every format is written with every compression. */
export function compressionFitsFormat({ compression, format }: EncodingOptions, context: z.RefinementCtx): void {
  if (compression === undefined || COMPRESSIONS[format].includes(compression)) return
  context.addIssue({
    code: 'custom',
    path: ['compression'],
    message: `${format} is written with one of ${COMPRESSIONS[format].join(', ')}`,
  })
}

/** As the engine names the compression, and as file names end. */
export function encodingOf({
  compression,
  format,
}: EncodingOptions): Pick<StageOptions, 'compression' | 'ending' | 'format'> {
  const chosen = compression ?? (format === 'parquet' ? 'zstd' : 'none')
  const plain = format === 'parquet' ? 'uncompressed' : undefined
  return {
    format,
    compression: chosen === 'none' ? plain : chosen,
    ending: `.${format}${format === 'parquet' ? '' : ENDINGS[chosen]}`,
  }
}

/** How a batch of this token is staged in the folder `temporary`. */
export function stagingOf(options: PublishedOptions, token: string, temporary: string): StageOptions {
  return {
    ...encodingOf(options),
    partition: options.partition,
    maxPartitions: options.max_partitions,
    temporary,
    name: `${options.name}${token.slice(0, NAME_DIGITS)}`,
  }
}

/** @throws AdflowError SQL_INVALID where an expression of `partition` does not fit the columns */
export async function tryPartitions(
  { partition }: PublishedOptions,
  {
    columns,
    engine,
    id,
  }: { readonly columns: readonly Column[]; readonly engine: EngineConnection; readonly id: string },
): Promise<void> {
  for (const [name, expression] of Object.entries(partition)) {
    const { sql } = emptyRelation(columns)
    await engine.rows(`DESCRIBE SELECT CAST((${expression}) AS VARCHAR) FROM (${sql})`).catch((error) => {
      throw new AdflowError('SQL_INVALID', `the partition ${name} of ${id}: ${error.message}`, {
        cause: error,
        hint: `columns here: ${columns.map((column) => column.name).join(', ')}`,
      })
    })
  }
}

/** For lint: expressions that do not fit, and columns that are written as another type. */
export async function encodingRemarks(
  { format, partition }: PublishedOptions,
  { path, columns, analysis }: LoaderCheckEnv,
): Promise<LoaderRemark[]> {
  const input = emptyRelation(columns)
  for (const [name, sql] of Object.entries(partition))
    await analysis.row({ sql, path: [...path, 'partition', name] }, input)
  return columns.flatMap(({ name, type }): LoaderRemark[] => {
    const written = format === 'csv' && /^(STRUCT|MAP|UNION)|\]$/.test(type) ? 'text' : writtenType(type, format)
    if (written === type) return []
    return [
      {
        kind: 'warning',
        message: `${format} cannot hold column ${name} (${type}): it is written as ${written}`,
        hint: 'cast it in a step if readers should see another type',
        path: [...path, 'format'],
      },
    ]
  })
}

/** For descriptions: what lies where, and how values are written. */
export const WRITTEN_VALUES = `**Partitions**: NULL is \`__HIVE_DEFAULT_PARTITION__\`; control characters, \`/\`, \`=\`, \`%\` and the like are percent-encoded. All
columns stay in the files too.

**Exact values.** Parquet has no 128-bit integers: HUGEINT is written as DECIMAL(38,0); INTERVAL and TIME WITH TIME ZONE as text.
NDJSON writes decimals of more than 15 digits as strings, since most readers would round the number; integers are numbers of
any size; NaN and infinity are strings (inside structs and lists they are bare \`NaN\`). CSV (RFC 4180, header, UTF-8): NULL is an empty
field, the empty string is \`""\`; with DuckDB read it with \`allow_quoted_nulls = false\`, with PostgreSQL as it is. Structs and lists are
text in the engine's notation.`
