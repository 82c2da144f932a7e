/** Reference data of a job: where a step takes them from, their columns, and the SQL that reads a copy of them. */
import { basename, extname, resolve } from 'node:path'
import { AdflowError } from '../core/errors.ts'
import type { Job, JobStep } from '../core/job/job.ts'
import type { ReferenceFormat, ReferenceRefresh, ReferenceSource } from '../core/step-contract.ts'
import type { Session } from '../engine/session.ts'
import { ident, literal } from '../engine/sql-text.ts'
import { resolveType } from '../engine/types.ts'

export interface Reference {
  /** SQL name. */
  readonly table: string
  /** Unique in the job, and the same in each run: plans and ledger name versions by it. */
  readonly key: string
  readonly name: string
  readonly step: Pick<JobStep, 'id' | 'verb'>
  /** Of a file its absolute path; else a name that is unique in the job. */
  readonly place: string
  /** A copy of the file as it is to be loaded; undefined: it has to be fetched. */
  readonly copy: string | undefined
  readonly source: ReferenceSource
  readonly path: readonly (string | number)[]
  readonly keys: readonly (readonly string[])[]
  readonly columns: readonly { readonly name: string; readonly type: string }[]
  readonly refresh: ReferenceRefresh | undefined
}

/** Absolute path of a file, or the name of what `fetch` writes to one → where to read it. */
export type Locate = (place: string, fetch?: (to: string) => Promise<void>) => Promise<string>

export interface DescribeOptions {
  readonly job: Job
  readonly step: JobStep
  readonly session: Session
  readonly locate: Locate
  readonly refresh: ReferenceRefresh | undefined
}

/** @throws AdflowError SQL_INVALID where the file cannot be read, or a type is none */
export async function describeReference(
  name: string,
  source: ReferenceSource,
  { job, step, session, locate, refresh }: DescribeOptions,
): Promise<Reference> {
  const table = ident(`reference_${step.id}_${name}`)
  const common = { table, key: `${step.id}.${name}`, name, step, source, path: pathOf(step), keys: [], refresh }
  if (source.kind === 'query') {
    const { namespace, name: dataset } = source.dataset
    const columns = await typed(source.columns, step, session)
    return { ...common, place: `${namespace}/${dataset}#${step.id}.${name}.ndjson`, copy: undefined, columns }
  }
  const place = resolve(job.baseDir, source.file)
  const copy = await locate(place)
  const declared = source.columns === undefined ? undefined : await typed(source.columns, step, session)
  try {
    const columns = await session.describe(selectOf(copy, formatOf(source, place), declared))
    return { ...common, place, copy, columns }
  } catch (error) {
    const missing = /No files found that match/.test((error as Error).message)
    const found = (error as Error).message.split('\n', 1)[0]?.replaceAll(copy, place)
    const hint = missing
      ? 'its columns are needed before anything runs, for lint too: make the file first, or mend the path, which is relative to the job file'
      : 'give a CSV, NDJSON or Parquet file; the path is relative to the job file'
    throw new AdflowError(
      'SQL_INVALID',
      `cannot read the reference data ${basename(place)}: ${missing ? `there is no file ${place}` : found}`,
      { cause: error, hint, details: { path: common.path } },
    )
  }
}

async function typed(
  columns: Readonly<Record<string, string>>,
  step: JobStep,
  session: Session,
): Promise<Reference['columns']> {
  const found: { name: string; type: string }[] = []
  for (const [name, type] of Object.entries(columns))
    try {
      found.push({ name, type: (await resolveType(session, type)).sql })
    } catch (error) {
      throw new AdflowError('SQL_INVALID', `\`${type}\` is not a type of column ${name}`, {
        cause: error,
        hint: 'types are those of DuckDB: bigint, varchar, double, decimal(18,6), timestamp, date, boolean …',
        details: { path: [...step.path, 'from', 'columns', name] },
      })
    }
  return found
}

/** Reads a file that holds the reference data, always with the same columns and types. */
export function referenceSelect({ source, place, columns }: Reference, file: string): string {
  const items = columns.map(({ name, type }) => `${ident(name)}::${type} AS ${ident(name)}`).join(', ')
  if (source.kind === 'query') return `SELECT ${items} FROM (${selectOf(file, 'ndjson', columns)})`
  const format = formatOf(source, place)
  // Of CSV a later version must not get other types because of what happens to stand in it; JSON has types of its own.
  const known = source.columns !== undefined || format === 'csv' ? columns : undefined
  return `SELECT ${items} FROM (${selectOf(file, format, known)})`
}

/** Where the step names its data; the nearest place that is there, where it does so otherwise. */
function pathOf(step: JobStep): (string | number)[] {
  return [...step.path, 'from', 'path']
}

const FORMATS: Readonly<Record<string, ReferenceFormat>> = { '.csv': 'csv', '.tsv': 'csv', '.parquet': 'parquet' }

function formatOf({ format }: { readonly format?: ReferenceFormat | undefined }, file: string): ReferenceFormat {
  return format ?? FORMATS[extname(file.replace(/\.(gz|zst)$/, ''))] ?? 'ndjson'
}

/** Without columns the engine finds them: reference data are small, and the step names what it needs. */
function selectOf(file: string, format: ReferenceFormat, columns: Reference['columns'] | undefined): string {
  if (format === 'parquet') return `SELECT * FROM read_parquet(${literal(file)})`
  const types = columns?.map(({ name, type }) => `${literal(name)}: ${literal(type)}`).join(', ')
  const named = (option: string) => (types === undefined ? '' : `, ${option} = {${types}}`)
  if (format === 'csv')
    return `SELECT * FROM read_csv(${literal(file)}, header = true, sample_size = -1${named('types')})`
  return `SELECT * FROM read_json(${literal(file)}, format = 'newline_delimited', sample_size = -1${named('columns')})`
}
