/** Encodes a batch into unfinished files: one, or one per partition, each by a COPY on the engine's threads. */
import { mkdir, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { EncodedFormat, EngineConnection, LoadBatch } from '../../core/contracts.ts'
import { AdflowError, localIoError } from '../../core/errors.ts'
import { exactItems, looksAtRows, type TypedColumn } from '../../engine/exact.ts'
import { readSeveralTimes } from '../../engine/materialise.ts'
import { ident, literal } from '../../engine/sql-text.ts'
import { following } from './follow-file.ts'
import { partitionFolder } from './publish-partition.ts'
import type { StagedFile } from './staged-file.ts'

/** Ending of unfinished files: no reader's glob may match them. */
const UNFINISHED = 'part'
const PART = '__adflow_part'
const VALUES = '__adflow_values'

export interface StageOptions {
  readonly format: EncodedFormat
  /** As the engine names it; undefined: as the format has it without compression. */
  readonly compression: string | undefined
  /** Partition name → SQL expression over the columns of the batch. */
  readonly partition: Readonly<Record<string, string>>
  readonly maxPartitions: number
  /** Where unfinished files go: unique, made here, and removed by the caller. */
  readonly temporary: string
  /** Name of the final file, without folder and ending. */
  readonly name: string
  /** `.parquet`, `.csv.gz` … */
  readonly ending: string
}

interface Partition {
  /** Of the values, so that none of them has to survive the engine's own spelling of folder names. */
  readonly hash: string
  readonly folder: string
  readonly rows: number
}

export interface Staged {
  readonly rows: number
  /** None where the batch has no rows. */
  readonly files: readonly StagedFile[]
}

export async function stageBatch(batch: LoadBatch, options: StageOptions): Promise<Staged> {
  const { format, partition, temporary } = options
  await mkdir(temporary, { recursive: true }).catch((error) => {
    throw localIoError(error, `make the folder ${temporary}`)
  })
  const columns = await describeBatch(batch)
  if (Object.keys(partition).length > 0)
    return readSeveralTimes(batch.engine, batch.relation, (relation) =>
      stagePartitions({ ...batch, relation }, columns, options),
    )
  if (!looksAtRows(columns, format))
    return stageOne(batch, '', await exactItems(batch.engine, batch.relation, columns, format), options)
  const { encode } = batch
  return readSeveralTimes(batch.engine, batch.relation, async (relation) =>
    stageOne({ encode, relation }, '', await exactItems(batch.engine, relation, columns, format), options),
  )
}

async function stagePartitions(
  batch: LoadBatch,
  columns: readonly TypedColumn[],
  options: StageOptions,
): Promise<Staged> {
  const items = await exactItems(batch.engine, batch.relation, columns, options.format)
  const partitions = await partitionsOf(batch, options)
  const [only] = partitions
  if (only === undefined) return { rows: 0, files: [] }
  if (partitions.length === 1) return stageOne(batch, `${only.folder}/`, items, options)
  const names = columns.map(({ name }) => ident(name))
  return stageMany(batch, partitions, { names, items: items ?? names }, options)
}

async function describeBatch({ engine, relation }: LoadBatch): Promise<readonly TypedColumn[]> {
  const rows = await engine.rows(`DESCRIBE SELECT * FROM ${relation} AS batch`)
  return rows.map((row) => ({ name: String(row['column_name']), type: String(row['column_type']) }))
}

async function stageOne(
  batch: Pick<LoadBatch, 'encode' | 'relation'>,
  folder: string,
  items: readonly string[] | undefined,
  { compression, ending, format, name, temporary }: StageOptions,
): Promise<Staged> {
  const file = join(temporary, `0.${UNFINISHED}`)
  const { result: rows, digest } = await following(file, () =>
    batch.encode(format, {
      file,
      ...(compression === undefined ? {} : { compression }),
      // Not `{batch}`, which is the relation as it came: it may stand in a table by now.
      select: `SELECT ${items?.join(', ') ?? '*'} FROM ${batch.relation} AS batch`,
    }),
  )
  return { rows, files: rows === 0 ? [] : [{ temporary: file, path: `${folder}${name}${ending}`, rows, digest }] }
}

/** The batch with the values of each row as text, NULL included, and their hash, by which COPY takes the rows apart. */
function partedSql(relation: string, partition: StageOptions['partition']): string {
  const values = Object.values(partition).map((expression) => `CAST((${expression}) AS VARCHAR)`)
  const valued = `SELECT *, [${values.join(', ')}] AS ${VALUES} FROM ${relation} AS batch`
  return `(SELECT *, md5(CAST(to_json(${VALUES}) AS VARCHAR)) AS ${PART} FROM (${valued}))`
}

async function partitionsOf(
  { engine, relation, token }: LoadBatch,
  { maxPartitions, partition }: StageOptions,
): Promise<readonly Partition[]> {
  const rows = await partitionRows(
    engine,
    `SELECT ${PART} AS hash, any_value(${VALUES}) AS "values", count(*)::BIGINT AS "rows" FROM ${partedSql(relation, partition)} GROUP BY 1 ORDER BY 1 LIMIT ${maxPartitions + 1}`,
  )
  if (rows.length > maxPartitions)
    throw new AdflowError(
      'STORE_MISMATCH',
      `batch ${token.slice(0, 12)} falls into more than ${maxPartitions} partitions by ${Object.keys(partition).join(', ')}: that many small files help nobody`,
      { hint: 'partition by something coarser (a day, a country), or raise `max_partitions`' },
    )
  const keys = Object.keys(partition)
  return rows.map((row) => ({
    hash: String(row['hash']),
    folder: partitionFolder(keys, row['values'] as (string | null)[]),
    rows: Number(row['rows']),
  }))
}

/** The rows stand in a table by now, so what fails is an expression of the job, on some row. */
async function partitionRows(engine: EngineConnection, sql: string): Promise<Record<string, unknown>[]> {
  try {
    return await engine.rows(sql)
  } catch (error) {
    if (!(error instanceof AdflowError) || error.code !== 'ENGINE_FAILED') throw error
    throw new AdflowError('SQL_INVALID', `an expression of \`partition\` fails on a row: ${error.message}`, {
      cause: error,
      hint: 'use an expression that takes every value, for example try_cast or try(…)',
    })
  }
}

async function stageMany(
  { engine, relation }: LoadBatch,
  partitions: readonly Partition[],
  columns: { readonly names: readonly string[]; readonly items: readonly string[] },
  options: StageOptions,
): Promise<Staged> {
  const { compression, format, partition, temporary } = options
  const compressed = compression === undefined ? '' : `, COMPRESSION ${literal(compression)}`
  const [written] = await engine.rows(
    `COPY (${rowsSql(format, columns, partedSql(relation, partition))}) TO ${literal(temporary)} (${PARTITIONED[format]}${compressed}, PARTITION_BY (${PART}), FILE_EXTENSION ${literal(UNFINISHED)}, OVERWRITE_OR_IGNORE)`,
  )
  const byHash = new Map(partitions.map((part) => [part.hash, part]))
  const staged: StagedFile[] = []
  const taken = new Set<string>()
  for (const folder of (await list(temporary)).sort()) {
    const part = byHash.get(folder.slice(PART.length + 1))
    if (part === undefined)
      throw new AdflowError('SQL_INVALID', 'an expression of `partition` does not give the same value twice', {
        hint: 'use expressions over the columns only, without random() or the current time',
      })
    const files = (await list(join(temporary, folder))).sort()
    for (const file of files)
      staged.push({
        temporary: join(temporary, folder, file),
        path: freeName(part.folder, options, taken),
        ...(files.length === 1 ? { rows: part.rows } : {}),
      })
  }
  return { rows: Number(written?.['Count'] ?? 0), files: staged }
}

/** COPY … (FORMAT json) cannot partition: it is this, with lines of JSON as the only column. */
const PARTITIONED: Readonly<Record<EncodedFormat, string>> = {
  parquet: 'FORMAT parquet',
  csv: 'FORMAT csv, HEADER true',
  ndjson: `FORMAT csv, HEADER false, QUOTE '', ESCAPE '', DELIMITER e'\\n'`,
}

function rowsSql(
  format: EncodedFormat,
  { items, names }: { readonly names: readonly string[]; readonly items: readonly string[] },
  from: string,
): string {
  const rows = `SELECT ${items.join(', ')}, ${PART} FROM ${from}`
  if (format !== 'ndjson') return rows
  const fields = names.map((name) => `${name} := ${name}`).join(', ')
  return `SELECT to_json(struct_pack(${fields})) AS line, ${PART} FROM (${rows})`
}

/** The engine may write several files per partition; and on some file systems `country=CN` and `country=cn` are one folder. */
function freeName(folder: string, { ending, name }: StageOptions, taken: Set<string>): string {
  for (let number = 0; ; number += 1) {
    const path = `${folder}/${name}${number === 0 ? '' : `-${number}`}${ending}`
    const known = path.normalize('NFC').toLowerCase()
    if (taken.has(known)) continue
    taken.add(known)
    return path
  }
}

async function list(folder: string): Promise<string[]> {
  try {
    return await readdir(folder)
  } catch (error) {
    throw localIoError(error, `list ${folder}`)
  }
}

/** Frees the space of what was not published. */
export async function discardStaged(temporary: string): Promise<void> {
  await rm(temporary, { recursive: true, force: true }).catch((error) => {
    throw localIoError(error, `remove ${temporary}`)
  })
}
