/** What loaders into remote places share: a batch is staged on this machine, published there, and found there by its manifest. */
import { join } from 'node:path'
import pLimit from 'p-limit'
import type { Dataset, LoadBatch, Loader, LoaderEnv, Receipt, StoreRecord } from '../../core/contracts.ts'
import { AdflowError } from '../../core/errors.ts'
import type { Holding, StoreAudit } from '../../core/store-contract.ts'
import { encodingOf, NAME_DIGITS, type PublishedOptions, stagingOf, tryPartitions } from './encoding.ts'
import { auditManifests, manifestContent } from './publish-audit.ts'
import { type Manifest, META_FOLDER, type PublishedFile } from './publish-manifest.ts'
import { discardStaged, stageBatch } from './publish-stage.ts'
import type { RemotePlace } from './remote-place.ts'
import {
  digestOf,
  isUnderWay,
  listPublished,
  manifestKey,
  publishedIn,
  publishRemotely,
  type RemoteOutput,
  readPublished,
  readState,
  retractRemotely,
} from './remote-publish.ts'
import { allSettled } from './staged-file.ts'

const LOOKS_AT_ONCE = 16

/** Bytes of each file of a manifest; undefined: it is gone. */
type Sizes = readonly (number | undefined)[]

/** Of this process: no two attempts share a temporary folder. */
let attempts = 0

export class RemoteLoader implements Loader {
  readonly replay = 'token'
  readonly order = 'none'
  readonly streams: Loader['streams']
  readonly #options: PublishedOptions
  readonly #env: LoaderEnv
  readonly #place: RemotePlace
  readonly #output: RemoteOutput
  readonly #dataset: Dataset

  constructor(options: PublishedOptions, env: LoaderEnv, place: RemotePlace, dataset: Dataset) {
    this.#options = options
    this.#env = env
    this.#place = place
    this.#output = { place, prefix: options.name, format: options.format }
    this.#dataset = dataset
    this.streams = Object.keys(options.partition).length === 0 ? 'chunks' : undefined
  }

  dataset(): Dataset {
    return this.#dataset
  }

  async open({ columns, engine }: Parameters<Loader['open']>[0]): Promise<void> {
    await tryPartitions(this.#options, { columns, engine, id: this.#env.id })
    const { id: loader, job, log, shard } = this.#env
    const { name } = this.#options
    const { ending } = encodingOf(this.#options)
    const pattern = new RegExp(`(?:^|/)${name}([0-9a-f]{${NAME_DIGITS}})(?:-[0-9]+)?${ending}$`.replaceAll('.', '[.]'))
    const digitsOf = (key: string) => pattern.exec(key)?.[1]
    await this.#place.open({
      log,
      owns: (key) => digitsOf(key) !== undefined,
      underWay: (key) => isUnderWay(this.#output, digitsOf(key) ?? '', { job, loader, shard }),
    })
  }

  async write(batch: LoadBatch, { signal }: { readonly signal: AbortSignal }): Promise<Receipt> {
    signal.throwIfAborted()
    // Of a batch without rows the manifest is all there is: where there is one already, it is not written.
    const seen = batch.empty === true ? undefined : await readState(this.#output, batch.token)
    const published = publishedIn(seen)
    if (published !== undefined) {
      const sizes = await this.#sizesOf(published)
      // They may be the bytes of an attempt of ours that was late, and ended before it could publish the batch anew.
      const overwritten = published.digest === batch.digest && isOverwritten(published, sizes)
      if (!overwritten) return this.#repeated(batch, published, sizes)
    }
    const { clock, job, range, source, token } = batch
    attempts += 1
    const temporary = join(
      this.#env.workDir,
      `${this.#env.id}.${token.slice(0, NAME_DIGITS)}.${process.pid}.${attempts}`,
    )
    try {
      const { files: staged, rows } =
        batch.empty === true
          ? { files: [], rows: 0 }
          : await stageBatch(batch, stagingOf(this.#options, token, temporary))
      const about = { job, source, loader: this.#env.id, range, token, digest: batch.digest, clock, rows }
      const { manifest, repeated } = await publishRemotely(this.#output, about, { staged, seen }, signal)
      if (!repeated) return this.#receipt(manifest, false)
      return await this.#repeated(batch, manifest, await this.#sizesOf(manifest))
    } finally {
      await discardStaged(temporary)
    }
  }

  async probe(token: string): Promise<Receipt | undefined> {
    const manifest = await readPublished(this.#output, token)
    if (manifest === undefined) return undefined
    this.#verify(manifest, await this.#sizesOf(manifest))
    return this.#receipt(manifest, true)
  }

  async history(job: string): Promise<readonly StoreRecord[]> {
    const manifests = await listPublished(this.#output)
    return manifests
      .filter((manifest) => manifest.job === job && manifest.loader === this.#env.id)
      .map(({ digest, range, rows, source, token, clock }) => ({ token, source, range, digest, rows, clock }))
  }

  async holdings(tokens: readonly string[]): Promise<ReadonlyMap<string, Holding>> {
    const limit = pLimit(LOOKS_AT_ONCE)
    const look = async (token: string): Promise<readonly [string, Holding]> => {
      const manifest = await readPublished(this.#output, token)
      if (manifest === undefined) return [token, { remembered: false, rows: 0 }]
      return [token, { remembered: true, rows: await this.#rowsThere(manifest) }]
    }
    return new Map(await allSettled(tokens.map((token) => limit(() => look(token)))))
  }

  async restore(batch: LoadBatch, context: { readonly signal: AbortSignal }): Promise<Receipt> {
    await retractRemotely(this.#output, batch.token)
    return this.write(batch, context)
  }

  async audit(): Promise<StoreAudit> {
    return auditManifests(
      await listPublished(this.#output),
      async ({ path }) => (await digestOf(this.#place, path))?.sha256,
    )
  }

  close(): Promise<void> {
    return this.#place.close()
  }

  #repeated(batch: LoadBatch, manifest: Manifest, sizes: Sizes): Receipt {
    const { source, range, token } = batch
    if (manifest.digest !== batch.digest)
      throw new AdflowError(
        'STORE_MISMATCH',
        `${this.#place.nameOf(manifestKey(this.#output, token))} says that ${source}, ${range.lane} ${range.from}–${range.to} was published with the digest ${manifest.digest}; it now has other bytes`,
        { hint: 'the source has changed under a range that was loaded; load it anew with an audited replay' },
      )
    this.#verify(manifest, sizes)
    return this.#receipt(manifest, true)
  }

  /** @throws AdflowError STORE_MISMATCH where an object of the batch is gone or has another size */
  #verify(manifest: Manifest, sizes: Sizes): void {
    manifest.files.forEach(({ path, bytes }, index) => {
      const found = sizes[index]
      if (found === bytes) return
      throw new AdflowError(
        'STORE_MISMATCH',
        `${this.#place.nameOf(path)} of batch ${manifest.token.slice(0, 12)} ${found === undefined ? 'is gone' : `has ${found} bytes, not ${bytes}`}, though its manifest says that it was published`,
        { hint: `restore it, or remove ${META_FOLDER}/*${manifest.token}* to have the batch written again` },
      )
    })
  }

  /** Of a batch of which an object is gone only the rows of the others count, as far as they are known. */
  async #rowsThere(manifest: Manifest): Promise<number> {
    const sizes = await this.#sizesOf(manifest)
    const there = manifest.files.filter(({ bytes }, index) => sizes[index] === bytes)
    if (there.length === manifest.files.length) return manifest.rows
    return there.reduce((total, { rows = 0 }) => total + rows, 0)
  }

  #sizesOf({ files }: Manifest): Promise<Sizes> {
    const limit = pLimit(LOOKS_AT_ONCE)
    return allSettled(files.map(({ path }: PublishedFile) => limit(() => this.#place.bytesOf(path))))
  }

  #receipt(manifest: Manifest, repeated: boolean): Receipt {
    const outputs = manifest.files.map(({ path }) => this.#place.nameOf(path))
    return { rows: manifest.rows, repeated, outputs, content: manifestContent(manifest) }
  }
}

function isOverwritten({ files }: Manifest, sizes: Sizes): boolean {
  return files.some(({ bytes }, index) => sizes[index] !== undefined && sizes[index] !== bytes)
}
