/**
 * What a run was made of: the text of its job file, the variables behind it, its reference data. Kept by content, so that the
 * run can be repeated as it was, whatever the files hold by now. Secrets are not kept: only a keyed digest tells whether
 * they are still the same.
 */
import { createHash, createHmac, hash, randomBytes } from 'node:crypto'
import { createReadStream, existsSync } from 'node:fs'
import { copyFile, mkdir, open, readFile, rm, stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { canonicalJson } from '../core/canonical.ts'
import { publish, temporaryPath, writeDurably } from '../core/durable.ts'
import { AdflowError, localIoError } from '../core/errors.ts'
import type { Environment } from '../core/job/interpolate.ts'
import type { Job } from '../core/job/job.ts'

export interface Pin {
  readonly version: 1
  /** Version of adflow, and of the engine. */
  readonly adflow: string
  readonly engine: string
  readonly job: { readonly file: string; readonly digest: string; readonly text: string }
  readonly variables: Readonly<Record<string, string | null>>
  /** Keyed digests, hex; null where a default stood in for the secret. */
  readonly secrets: Readonly<Record<string, string | null>>
  /** Absolute path of a reference file → what it held. */
  readonly references: Readonly<Record<string, PinnedFile>>
  /** Columns that `unknown: evolve` had added before the run: name → engine type. */
  readonly evolved: Readonly<Record<string, string>>
}

interface PinnedFile {
  readonly sha256: string
  readonly bytes: number
  /** Name of the copy in the folder of pinned files; absent where the file was too large to keep. */
  readonly copy?: string
}

export interface PinOptions {
  readonly job: Job
  readonly adflow: string
  readonly engine: string
  readonly evolved?: Readonly<Record<string, string>>
}

/** Larger reference files are pinned by digest alone. */
export const LARGEST_COPY_BYTES = 256_000_000
/** Length of a digest in hex. */
const SHA256 = 64

export class Pins {
  readonly #folder: string
  readonly #files: string
  readonly #temporary: string
  readonly #references: Record<string, PinnedFile> = {}
  /** Several steps may read one file. */
  readonly #kept = new Map<string, Promise<string>>()
  /** Name in the folder of pinned files → the copy that waits for save(). */
  readonly #staged = new Map<string, string>()
  #count = 0

  /** `temporary`: on the same file system, emptied between runs. */
  constructor(folder: string, temporary = folder) {
    this.#folder = folder
    this.#files = join(folder, 'files')
    this.#temporary = temporary
  }

  /** Where copies stand under the names that `copyName` gives them. */
  get copies(): string {
    return this.#files
  }

  /** Copies the file, and says where to read it: what is loaded is what is pinned. A file that is not there is left to
   *  whoever reads it. `fetch`: of what is no file, writes it to one. @throws AdflowError LOCAL_IO, and what `fetch` throws */
  keep(file: string, fetch?: (to: string) => Promise<void>): Promise<string> {
    const kept = this.#kept.get(file) ?? this.#keep(file, fetch)
    this.#kept.set(file, kept)
    return kept
  }

  async #keep(file: string, fetch: ((to: string) => Promise<void>) | undefined): Promise<string> {
    if (fetch !== undefined) return this.#stage(file, fetch)
    if (!existsSync(file)) return file
    try {
      const { size } = await stat(file)
      if (size > LARGEST_COPY_BYTES) {
        this.#references[file] = { sha256: await digestOf(file), bytes: size }
        return file
      }
      return await this.#stage(file, (to) => copyFile(file, to))
    } catch (error) {
      throw localIoError(error, `copy the reference data ${file}`)
    }
  }

  async #stage(file: string, write: (to: string) => Promise<void>): Promise<string> {
    const staged = join(this.#temporary, `reference-${process.pid}-${this.#count++}${endingOf(file)}`)
    await mkdir(this.#temporary, { recursive: true, mode: 0o700 })
    await write(staged)
    const copy = await copyName(staged)
    this.#references[file] = { sha256: copy.slice(0, SHA256), bytes: (await stat(staged)).size, copy }
    this.#staged.set(copy, staged)
    return staged
  }

  /** A job that does not compile leaves nothing behind. */
  async discard(): Promise<void> {
    for (const staged of this.#staged.values()) await rm(staged, { force: true })
  }

  /** Writes the pin of a run; returns its id. The same job with the same data has the same pin. */
  async save({ job, adflow, engine, evolved = {} }: PinOptions): Promise<string> {
    await mkdir(this.#files, { recursive: true, mode: 0o700 }).catch((error: unknown) => {
      throw localIoError(error, `make the folder ${this.#files}`)
    })
    for (const [copy, staged] of this.#staged) await publish(staged, join(this.#files, copy))
    const key = await this.#key()
    const pin: Pin = {
      version: 1,
      adflow,
      engine,
      job: { file: job.file, digest: job.digest, text: job.text },
      variables: job.used.variables,
      secrets: Object.fromEntries(
        Object.entries(job.used.secrets).map(([name, value]) => [name, value === null ? null : seal(key, value)]),
      ),
      references: this.#references,
      evolved,
    }
    const text = canonicalJson(pin)
    const id = hash('sha256', text)
    const path = join(this.#folder, `${id}.json`)
    if (!existsSync(path)) await writeDurably(path, text)
    return id
  }

  /** @throws AdflowError STATE_MISSING, STATE_DAMAGED */
  async read(id: string): Promise<Pin> {
    const path = join(this.#folder, `${id}.json`)
    let text: string
    try {
      text = await readFile(path, 'utf8')
    } catch (error) {
      throw new AdflowError('STATE_MISSING', `cannot read ${path}, which says what the run was made of`, {
        cause: error,
        hint: 'restore the folder `pins` of the state directory from a backup',
      })
    }
    if (hash('sha256', text) === id) return JSON.parse(text) as Pin
    throw new AdflowError('STATE_DAMAGED', `${path} is not what was written: its digest is not its name`, {
      hint: 'restore it from a backup; the run cannot be repeated from it',
    })
  }

  /** Where to read the reference data of a pin. @throws AdflowError STATE_MISSING where it is not kept any more. */
  async locate(pin: Pin, file: string): Promise<string> {
    const { copy, sha256 } = pin.references[file] ?? {}
    const kept = copy === undefined ? file : join(this.#files, copy)
    if (sha256 !== undefined && existsSync(kept) && (await digestOf(kept)) === sha256) return kept
    throw new AdflowError('STATE_MISSING', `the reference data ${file} is not there any more as the run read it`, {
      hint: 'restore the folder `pins` of the state directory from a backup',
    })
  }

  /** The environment of the run: its variables, and the secrets of today. `changed`: secrets that are not what they were. */
  async environment(pin: Pin, job: Job, today: Environment): Promise<{ env: Environment; changed: readonly string[] }> {
    const key = await this.#key()
    const changed = Object.entries(pin.secrets).flatMap(([name, sealed]) => {
      const value = name.startsWith('file:') ? job.used.secrets[name] : today[name]
      return (value === undefined || value === null ? null : seal(key, value)) === sealed ? [] : [name]
    })
    const variables = Object.entries(pin.variables).map(([name, value]) => [name, value ?? undefined])
    return { env: { ...today, ...Object.fromEntries(variables) }, changed }
  }

  /** Made once: the digests of short secrets must not be found by trying. */
  async #key(): Promise<Buffer> {
    const path = join(this.#folder, 'key')
    try {
      if (!existsSync(path)) {
        const temporary = temporaryPath(path)
        const handle = await open(temporary, 'wx', 0o600)
        await handle.writeFile(randomBytes(32)).finally(() => handle.close())
        await publish(temporary, path)
      }
      return await readFile(path)
    } catch (error) {
      throw localIoError(error, `read ${path}`)
    }
  }
}

function seal(key: Buffer, value: string): string {
  return createHmac('sha256', key).update(value).digest('hex')
}

/** Name of a copy: by what is in it. */
export async function copyName(file: string): Promise<string> {
  return `${await digestOf(file)}${endingOf(file)}`
}

/** The engine tells formats and compression by it. */
export function endingOf(file: string): string {
  return /(?:\.(?:csv|tsv|json|jsonl|ndjson|parquet))?(?:\.(?:gz|zst))?$/.exec(basename(file))?.[0] ?? ''
}

async function digestOf(file: string): Promise<string> {
  const digest = createHash('sha256')
  for await (const bytes of createReadStream(file)) digest.update(bytes as Buffer)
  return digest.digest('hex')
}
