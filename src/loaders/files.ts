/** Files in a folder: one per batch, or one per batch and partition, named by the batch's token and published atomically. */
import { hash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, readdir, stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { z } from 'zod'
import { publishedComparison } from '../clients/objects/comparison.ts'
import { forgetIntent, publishBatch } from '../clients/objects/publish.ts'
import { auditPublished, manifestContent } from '../clients/objects/publish-audit.ts'
import { publishedContents } from '../clients/objects/publish-contents.ts'
import {
  type Manifest,
  META_FOLDER,
  manifestFile,
  type PublishPlace,
  readManifest,
  readManifests,
  verifyFiles,
} from '../clients/objects/publish-manifest.ts'
import { discardStaged, type StageOptions, stageBatch } from '../clients/objects/publish-stage.ts'
import { differingRows, filesThere, retract, rowsThere } from '../clients/objects/published-rows.ts'
import type { Comparison } from '../core/comparison.ts'
import type {
  BatchComparison,
  ComponentEnv,
  EncodedFormat,
  Holding,
  LoadBatch,
  Loader,
  LoaderRemark,
  Receipt,
  StoreRecord,
} from '../core/contracts.ts'
import { defineLoader } from '../core/define.ts'
import { sweepTemporaries } from '../core/durable.ts'
import { AdflowError, localIoError } from '../core/errors.ts'
import { realPathOf } from '../core/real-path.ts'
import type { ContentsContext, StoreAudit, StoreContents } from '../core/store-contract.ts'
import { writtenType } from '../engine/exact.ts'
import { emptyRelation } from '../engine/relation.ts'

const COMPRESSIONS: Readonly<Record<EncodedFormat, readonly string[]>> = {
  parquet: ['zstd', 'snappy', 'gzip', 'none'],
  csv: ['none', 'gzip', 'zstd'],
  ndjson: ['none', 'gzip', 'zstd'],
}

const ENDINGS = { zstd: '.zst', gzip: '.gz', snappy: '', none: '' } as const

/** Hex digits of the token in a file name: 96 bits, short enough to read. */
const NAME_DIGITS = 24

/** Another process may be about to rename a manifest that it began this long ago. */
const LONGEST_META_WRITE_MS = 3_600_000

const options = z
  .strictObject({
    path: z.string().min(1).describe('The folder, relative to the job file. Created when it is missing.'),
    format: z.enum(['parquet', 'csv', 'ndjson']).describe('How rows are written.'),
    compression: z
      .enum(['zstd', 'snappy', 'gzip', 'none'])
      .optional()
      .describe('Default: `zstd` for Parquet, `none` for the others. `snappy` is for Parquet only.'),
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
    name: z
      .string()
      .regex(
        /^(?:[A-Za-z0-9][A-Za-z0-9._-]{0,99})?$/,
        'letters, digits, `.`, `_` and `-`, beginning with a letter or digit',
      )
      .default('')
      .describe(
        'Put before the token in file names. Loaders that write the same format into one folder need different ones.',
      ),
  })
  .superRefine(({ compression, format }, context) => {
    if (compression === undefined || COMPRESSIONS[format].includes(compression)) return
    context.addIssue({
      code: 'custom',
      path: ['compression'],
      message: `${format} is written with one of ${COMPRESSIONS[format].join(', ')}`,
    })
  })

type Options = z.infer<typeof options>

/** Of this process: no two attempts share a temporary folder. */
let attempts = 0

class FilesLoader implements Loader {
  readonly replay = 'token'
  readonly order = 'none'
  readonly streams: boolean
  readonly comparison: Comparison
  readonly #options: Options
  readonly #id: string
  readonly #folder: string
  readonly #place: PublishPlace
  /** Of this loader of this job alone, so that nobody else's unfinished files are swept. */
  readonly #temporary: string
  readonly #compression: string | undefined
  readonly #ending: string

  constructor(loaderOptions: Options, env: ComponentEnv) {
    const { format, name } = loaderOptions
    const compression = loaderOptions.compression ?? (format === 'parquet' ? 'zstd' : 'none')
    this.#options = loaderOptions
    this.streams = Object.keys(loaderOptions.partition).length === 0
    this.#id = env.id
    this.#folder = realPathOf(resolve(env.baseDir, loaderOptions.path))
    this.#place = { folder: this.#folder, prefix: name, format }
    const owner = hash('sha256', JSON.stringify([env.job, env.id])).slice(0, 12)
    this.#temporary = join(this.#folder, META_FOLDER, 'tmp', owner)
    this.#compression = compression === 'none' ? (format === 'parquet' ? 'uncompressed' : undefined) : compression
    this.comparison = {
      write: 'append',
      digests: ['engine', 'md5'],
      open: ({ engine, columns }) =>
        publishedComparison(this.#place, ({ job, loader }) => job === env.job && loader === env.id, columns, engine),
    }
    this.#ending = `.${format}${format === 'parquet' ? '' : ENDINGS[compression]}`
  }

  dataset() {
    return { namespace: 'file', name: this.#folder }
  }

  async open({ columns, engine }: Parameters<Loader['open']>[0]): Promise<void> {
    try {
      await mkdir(this.#temporary, { recursive: true })
      await this.#sweep()
    } catch (error) {
      throw localIoError(error, `prepare the folder ${this.#folder}`)
    }
    for (const [name, expression] of Object.entries(this.#options.partition)) {
      const { sql } = emptyRelation(columns)
      await engine.rows(`DESCRIBE SELECT CAST((${expression}) AS VARCHAR) FROM (${sql})`).catch((error) => {
        throw new AdflowError('SQL_INVALID', `the partition ${name} of ${this.#id}: ${error.message}`, {
          cause: error,
          hint: `columns here: ${columns.map((column) => column.name).join(', ')}`,
        })
      })
    }
  }

  async write(batch: LoadBatch): Promise<Receipt> {
    const published = await readManifest(this.#place, batch.token)
    if (published !== undefined) return this.#repeat(batch, published)
    const { clock, job, range, source, token } = batch
    attempts += 1
    const temporary = join(this.#temporary, `${token.slice(0, NAME_DIGITS)}.${process.pid}.${attempts}`)
    try {
      const { files, rows } = await stageBatch(batch, this.#staging(token, temporary))
      const manifest = await publishBatch(
        this.#place,
        { job, source, loader: this.#id, range, token, digest: batch.digest, clock, rows },
        files,
      )
      return this.#receipt(manifest, false)
    } catch (error) {
      throw this.#explained(error, token)
    } finally {
      await discardStaged(temporary)
    }
  }

  async probe(token: string): Promise<Receipt | undefined> {
    const manifest = await readManifest(this.#place, token)
    if (manifest === undefined) return undefined
    await verifyFiles(this.#place, manifest)
    return this.#receipt(manifest, true)
  }

  async history(job: string): Promise<readonly StoreRecord[]> {
    const manifests = await readManifests(this.#place)
    return manifests
      .filter((manifest) => manifest.job === job && manifest.loader === this.#id)
      .map(({ digest, range, rows, source, token, clock }) => ({ token, source, range, digest, rows, clock }))
  }

  async holdings(tokens: readonly string[]): Promise<ReadonlyMap<string, Holding>> {
    const wanted = new Set(tokens)
    const found = new Map<string, Holding>(tokens.map((token) => [token, { remembered: false, rows: 0 }]))
    for (const manifest of await readManifests(this.#place))
      if (wanted.has(manifest.token))
        found.set(manifest.token, { remembered: true, rows: await rowsThere(this.#place, manifest) })
    return found
  }

  async restore(batch: LoadBatch): Promise<Receipt> {
    await retract(this.#place, batch.token)
    return this.write(batch)
  }

  async compare(batch: LoadBatch, { scratch }: { readonly scratch: string }): Promise<BatchComparison> {
    const temporary = join(scratch, `compare.${batch.token.slice(0, NAME_DIGITS)}`)
    const staging = this.#staging(batch.token, temporary)
    const { format } = this.#options
    // Text is compared uncompressed: the engine tells compression by the ending, and these files have none.
    const { files } = await stageBatch(batch, format === 'parquet' ? staging : { ...staging, compression: undefined })
    const manifest = await readManifest(this.#place, batch.token)
    const there = manifest === undefined ? [] : await filesThere(this.#place, manifest)
    return differingRows(
      files.map((file) => file.temporary),
      there.map(({ path }) => join(this.#folder, path)),
      format,
    )
  }

  async contents({ engine, job, columns }: ContentsContext): Promise<StoreContents> {
    const manifests = await readManifests(this.#place)
    const files = manifests
      .filter((manifest) => manifest.job === job && manifest.loader === this.#id)
      .flatMap((manifest) => manifest.files.map(({ path }) => join(this.#folder, path)))
      .filter((path) => existsSync(path))
    if (files.length === 0)
      throw new AdflowError('STORE_UNAVAILABLE', `${this.#folder} holds no file of ${this.#id} of job ${job}`, {
        hint: 'the job has not published anything there yet, or the folder was emptied; nothing was changed',
      })
    const { format, name } = this.#options
    return publishedContents(engine, { files, format, prefix: name, columns })
  }

  audit(): Promise<StoreAudit> {
    return auditPublished(this.#place)
  }

  async close(): Promise<void> {
    // Nothing is held open between batches.
  }

  #staging(token: string, temporary: string): StageOptions {
    return {
      format: this.#options.format,
      compression: this.#compression,
      partition: this.#options.partition,
      maxPartitions: this.#options.max_partitions,
      temporary,
      name: `${this.#options.name}${token.slice(0, NAME_DIGITS)}`,
      ending: this.#ending,
    }
  }

  async #repeat(batch: LoadBatch, manifest: Manifest): Promise<Receipt> {
    if (manifest.digest !== batch.digest)
      throw new AdflowError(
        'STORE_MISMATCH',
        `${manifestFile(this.#place, batch.token)} says that ${batch.source}, ${batch.range.lane} ${batch.range.from}–${batch.range.to} was published with the digest ${manifest.digest}; it now has other bytes`,
        { hint: 'the source has changed under a range that was loaded; load it anew with an audited replay' },
      )
    await verifyFiles(this.#place, manifest)
    await forgetIntent(this.#place, batch.token)
    return this.#receipt(manifest, true)
  }

  #receipt(manifest: Manifest, repeated: boolean): Receipt {
    const { files, rows } = manifest
    const outputs = files.map(({ path }) => join(this.#folder, path))
    return { rows, repeated, outputs, content: manifestContent(manifest) }
  }

  /** What processes that were killed have left: nothing of this process, which may be writing already. */
  async #sweep(): Promise<void> {
    for (const name of await readdir(this.#temporary)) {
      const path = join(this.#temporary, name)
      if ((await stat(path)).mtimeMs < performance.timeOrigin) await discardStaged(path)
    }
    await sweepTemporaries(join(this.#folder, META_FOLDER), LONGEST_META_WRITE_MS)
  }

  #explained(error: unknown, token: string): unknown {
    // ENGINE_FAILED may be a record on which the relation itself fails: the runtime finds it, and must see it as it is.
    if (!(error instanceof AdflowError) || ['STORE_MISMATCH', 'SQL_INVALID', 'ENGINE_FAILED'].includes(error.code))
      return error
    return new AdflowError(
      error.code,
      `cannot write batch ${token.slice(0, 12)} to ${this.#folder}: ${error.message}`,
      { cause: error, hint: error.hint ?? 'nothing of the batch was published' },
    )
  }
}

export default defineLoader({
  summary: 'Writes Parquet, CSV or NDJSON files into a folder, partitioned if wanted.',
  description: `A file is named by the token of its batch, \`<name><24 digits>.<format>\`, and appears complete or not at all. The batch is
in the folder when its manifest \`_adflow/<name><token>.<format>.json\` is: source, positions, digest, and each file with rows, bytes
and SHA-256. A batch that is written again is refused by its manifest; an attempt that was killed before it leaves an intent
(\`….pending.json\`), by which the next attempt clears up. A reader that must not see a part of a partitioned batch reads the
manifests; one that lists \`*.parquet\` sees whole files at all times, and nothing under \`_adflow\` ends so.

Batches are appended. There is no replace: files cannot be exchanged in one step that every reader honours; put a new folder
beside the old one instead, or load into \`duckdb\`. A batch without rows gets a manifest and no file.

**Partitions**: NULL is \`__HIVE_DEFAULT_PARTITION__\`; control characters, \`/\`, \`=\`, \`%\` and the like are percent-encoded. All
columns stay in the files too.

**Exact values.** Parquet has no 128-bit integers: HUGEINT is written as DECIMAL(38,0); INTERVAL and TIME WITH TIME ZONE as text.
NDJSON writes decimals of more than 15 digits as strings, since most readers would round the number; integers are numbers of
any size; NaN and infinity are strings (inside structs and lists they are bare \`NaN\`). CSV (RFC 4180, header, UTF-8): NULL is an empty
field, the empty string is \`""\`; with DuckDB read it with \`allow_quoted_nulls = false\`, with PostgreSQL as it is. Structs and lists are
text in the engine's notation.`,
  options,
  example: { path: 'out/events', format: 'parquet', partition: { dt: "strftime(event_time, '%Y-%m-%d')" } },
  access({ path }, { baseDir }) {
    return { folders: [realPathOf(resolve(baseDir, path))] }
  },
  async check({ format, partition }, { path, columns, analysis }) {
    const input = emptyRelation(columns)
    for (const [name, sql] of Object.entries(partition))
      await analysis.row({ sql, path: [...path, 'partition', name] }, input)
    return columns.flatMap(({ name, type }): LoaderRemark[] => {
      const written = format === 'csv' && /^(STRUCT|MAP|UNION)|\]$/.test(type) ? 'text' : writtenType(type, format)
      if (written === type) return []
      const message = `${format} cannot hold column ${name} (${type}): it is written as ${written}`
      return [
        {
          kind: 'warning',
          message,
          hint: 'cast it in a step if readers should see another type',
          path: [...path, 'format'],
        },
      ]
    })
  },
  create: (loaderOptions, env) => new FilesLoader(loaderOptions, env),
})
