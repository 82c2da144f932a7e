/** Files in a folder: one per batch, or one per batch and partition, named by the batch's token and published atomically. */
import { hash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, readdir, stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { z } from 'zod'
import { publishedComparison } from '../clients/objects/comparison.ts'
import { diagnoseFolder } from '../clients/objects/diagnose.ts'
import {
  compressionFitsFormat,
  encodingRemarks,
  NAME_DIGITS,
  publishedShape,
  stagingOf,
  tryPartitions,
  WRITTEN_VALUES,
} from '../clients/objects/encoding.ts'
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
import { discardStaged, stageBatch } from '../clients/objects/publish-stage.ts'
import { differingRows, filesThere, retract, rowsThere } from '../clients/objects/published-rows.ts'
import type { Comparison } from '../core/comparison.ts'
import type { ComponentEnv, LoadBatch, Loader, Receipt, StoreRecord } from '../core/contracts.ts'
import { defineLoader } from '../core/define.ts'
import { sweepTemporaries, unlessGone } from '../core/durable.ts'
import { AdflowError, localIoError } from '../core/errors.ts'
import { realPathOf } from '../core/real-path.ts'
import type { BatchComparison, ContentsContext, Holding, StoreAudit, StoreContents } from '../core/store-contract.ts'

/** Another process may be about to rename a manifest that it began this long ago. */
const LONGEST_META_WRITE_MS = 3_600_000

const options = z
  .strictObject({
    path: z.string().min(1).describe('The folder, relative to the job file. Created when it is missing.'),
    ...publishedShape,
  })
  .superRefine(compressionFitsFormat)

type Options = z.infer<typeof options>

/** Of this process: no two attempts share a temporary folder. */
let attempts = 0

class FilesLoader implements Loader {
  readonly replay = 'token'
  readonly order = 'none'
  readonly streams: Loader['streams']
  readonly comparison: Comparison
  readonly #options: Options
  readonly #id: string
  readonly #folder: string
  readonly #place: PublishPlace
  /** Of this loader of this job alone, so that nobody else's unfinished files are swept. */
  readonly #temporary: string

  constructor(loaderOptions: Options, env: ComponentEnv) {
    const { format, name } = loaderOptions
    this.#options = loaderOptions
    this.streams = Object.keys(loaderOptions.partition).length === 0 ? 'sources' : undefined
    this.#id = env.id
    this.#folder = realPathOf(resolve(env.baseDir, loaderOptions.path))
    this.#place = { folder: this.#folder, prefix: name, format }
    const owner = hash(
      'sha256',
      JSON.stringify([env.job, env.id, ...(env.shard === undefined ? [] : [env.shard])]),
    ).slice(0, 12)
    this.#temporary = join(this.#folder, META_FOLDER, 'tmp', owner)
    this.comparison = {
      write: 'append',
      digests: ['engine', 'md5'],
      open: ({ engine, columns }) =>
        publishedComparison(this.#place, ({ job, loader }) => job === env.job && loader === env.id, columns, engine),
    }
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
    await tryPartitions(this.#options, { columns, engine, id: this.#id })
  }

  async write(batch: LoadBatch): Promise<Receipt> {
    const published = await readManifest(this.#place, batch.token)
    if (published !== undefined) return this.#repeat(batch, published)
    const { clock, job, range, source, token } = batch
    attempts += 1
    const temporary = join(this.#temporary, `${token.slice(0, NAME_DIGITS)}.${process.pid}.${attempts}`)
    try {
      const { files, rows } = await stageBatch(batch, stagingOf(this.#options, token, temporary))
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
    const staging = stagingOf(this.#options, batch.token, temporary)
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
      const found = await unlessGone(stat(path))
      if (found !== undefined && found.mtimeMs < performance.timeOrigin) await discardStaged(path)
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

${WRITTEN_VALUES}`,
  options,
  example: { path: 'out/events', format: 'parquet', partition: { dt: "strftime(event_time, '%Y-%m-%d')" } },
  access({ path }, { baseDir }) {
    return { folders: [realPathOf(resolve(baseDir, path))] }
  },
  check: encodingRemarks,
  diagnose: ({ path }, { baseDir }) => diagnoseFolder(realPathOf(resolve(baseDir, path))),
  create: (loaderOptions, env) => new FilesLoader(loaderOptions, env),
})
