/**
 * A folder of an SFTP server as a place where objects are published. A file is sent under a name of its own below `_adflow/tmp` and
 * renamed when it is whole, so that nobody sees a part of it. What a killed process has sent is taken over: by a rename that only one
 * can win, and after it was compared.
 */
import { createHash, randomBytes } from 'node:crypto'
import { posix } from 'node:path'
import pLimit, { type LimitFunction } from 'p-limit'
import { AdflowError } from '../../core/errors.ts'
import { META_FOLDER } from '../objects/publish-manifest.ts'
import type { LocalObject, PutContext, RemoteDocument, RemotePlace } from '../objects/remote-place.ts'
import { explainSftp, isFailure, isMissing } from './errors.ts'
import { localDigestOf, SftpFiles } from './files.ts'
import type { SftpOptions } from './options.ts'
import { addressOf, SftpSession } from './session.ts'

const TEMPORARY = `${META_FOLDER}/tmp`
/** Longer than any upload is silent. */
const ABANDONED_MS = 86_400_000
const ROUNDS = 4
/** Below, a failure is for want of space. */
const FULL_BYTES = 1 << 20

export interface FolderOptions extends SftpOptions {
  readonly create: 'missing' | 'never'
  readonly verify: 'size' | 'content'
}

/** Of this process, in temporary names. */
const own = randomBytes(6).toString('hex')
let names = 0

/** Temporary files that this process is sending: these are not taken over. */
const sending = new Set<string>()

/** Documents are compared and replaced one at a time: SFTP cannot do both in one step. */
const turns = new Map<string, LimitFunction>()

export class SftpFolder implements RemotePlace {
  readonly #options: FolderOptions
  readonly #session: SftpSession
  readonly #files: SftpFiles
  readonly #name: string
  /** Folders that are there, and within the place. */
  readonly #made = new Set<string>()
  #root: string | undefined

  constructor(options: FolderOptions, baseDir: string) {
    const { host, port } = addressOf(options)
    this.#options = options
    this.#session = new SftpSession(options, baseDir)
    this.#files = new SftpFiles(this.#session)
    this.#name = `sftp://${host}:${port}`
  }

  nameOf(key: string): string {
    return `${this.#name}/${posix.join(this.#options.path, key).replace(/^\//, '')}`
  }

  open(): Promise<void> {
    return this.#asked(`prepare ${this.nameOf('')}`, async () => {
      this.#made.clear()
      this.#root = undefined
      if (this.#options.create === 'missing') await this.#makeAll(this.#options.path)
      await this.#folder(TEMPORARY)
      const before = (Date.now() - ABANDONED_MS) / 1000
      for (const { name, mtime } of await this.#files.list(this.#path(TEMPORARY)))
        if (mtime < before && !name.startsWith('.')) await this.#files.remove(this.#path(`${TEMPORARY}/${name}`))
    })
  }

  read(key: string): Promise<RemoteDocument | undefined> {
    return this.#asked(`read ${this.nameOf(key)}`, async () => {
      const text = await this.#files.readText(this.#path(key))
      return text === undefined ? undefined : { text, version: versionOf(text) }
    })
  }

  write(key: string, text: string, was: string | undefined): Promise<string | undefined> {
    const path = this.#path(key)
    const turn = turns.get(this.nameOf(key)) ?? pLimit(1)
    turns.set(this.nameOf(key), turn)
    const written = turn(() =>
      this.#asked(`write ${this.nameOf(key)}`, async () => {
        await this.#folder(posix.dirname(key))
        const temporary = await this.#temporary('state')
        await this.#files.writeText(temporary, text)
        const placed = await (was === undefined
          ? this.#placeNew(temporary, path)
          : this.#placeOver(temporary, path, was))
        if (placed) return versionOf(text)
        await this.#files.remove(temporary)
        return undefined
      }),
    )
    return written.finally(() => {
      if (turn.activeCount + turn.pendingCount === 0) turns.delete(this.nameOf(key))
    })
  }

  list(folder: string, prefix: string): Promise<readonly string[]> {
    return this.#asked(`list ${this.nameOf(folder)}`, async () => {
      const entries = await this.#files.list(this.#path(folder))
      return entries.map(({ name }) => name).filter((name) => name.startsWith(prefix))
    })
  }

  bytesOf(key: string): Promise<number | undefined> {
    return this.#asked(`look at ${this.nameOf(key)}`, () => this.#files.sizeOf(this.#path(key)))
  }

  bytes(key: string): Promise<AsyncIterable<Uint8Array> | undefined> {
    const doing = `read ${this.nameOf(key)}`
    return this.#asked(doing, async () => {
      const stream = await this.#files.stream(this.#path(key))
      return stream === undefined ? undefined : told(stream, doing)
    })
  }

  put(key: string, object: LocalObject, { fresh, held, signal }: PutContext): Promise<void> {
    return this.#asked(`write ${this.nameOf(key)}`, async () => {
      const path = this.#path(key)
      if (!fresh) {
        const there = await this.#files.sizeOf(path)
        if (there === object.bytes && (await this.#isSame(path, object))) return
        if (there !== undefined) await held()
      }
      await this.#folder(posix.dirname(key))
      for (let round = 0; round < ROUNDS; round += 1) {
        const temporary = await this.#send(object, { fresh: fresh && round === 0, signal })
        if (temporary === undefined) continue
        try {
          await this.#files.replace(path, temporary)
          return
        } catch (error) {
          // Another process has taken over what we were sending.
          if (!isMissing(error)) throw error
        }
      }
      throw new AdflowError('STORE_UNAVAILABLE', `another process is writing ${this.nameOf(key)}`, {
        hint: 'let one process at a time run a job; nothing of the batch was published',
      })
    })
  }

  async remove(key: string): Promise<void> {
    await this.#asked(`remove ${this.nameOf(key)}`, () => this.#files.remove(this.#path(key)))
  }

  close(): Promise<void> {
    return this.#session.close()
  }

  /** Returns the temporary name under which all bytes are; undefined: another attempt has taken them over. */
  async #send(
    object: LocalObject,
    { fresh, signal }: Pick<PutContext, 'fresh' | 'signal'>,
  ): Promise<string | undefined> {
    const { bytes, file, sha256 } = object
    const mark = sha256.slice(0, 32)
    const temporary = await this.#temporary(mark)
    sending.add(posix.basename(temporary))
    try {
      const from = fresh ? undefined : await this.#takeOver(temporary, mark, object)
      await this.#files.upload(file, temporary, from === undefined ? 'wx' : 'r+', { from: from ?? 0, signal })
    } finally {
      sending.delete(posix.basename(temporary))
    }
    const size = await this.#files.sizeOf(temporary)
    if (size === undefined) return undefined
    if (size === bytes && this.#options.verify === 'size') return temporary
    if (size === bytes) {
      const there = await this.#files.digestOf(temporary)
      if (there === undefined) return undefined
      if (there.sha256 === sha256) return temporary
    }
    await this.#files.remove(temporary)
    throw new AdflowError('STORE_UNAVAILABLE', `${size} of ${bytes} bytes have arrived, or others than were sent`, {
      hint: 'nothing of the batch was published',
    })
  }

  /** Bytes from the beginning that an attempt before this one has sent, under the temporary name from here on; undefined: there are none. */
  async #takeOver(temporary: string, mark: string, { bytes, file }: LocalObject): Promise<number | undefined> {
    const sent = (await this.#files.list(this.#path(TEMPORARY))).filter(
      ({ name }) => name.startsWith(`${mark}.`) && !sending.has(name),
    )
    for (const { name } of sent) {
      try {
        await this.#files.rename(this.#path(`${TEMPORARY}/${name}`), temporary)
      } catch (error) {
        if (isMissing(error)) continue
        throw error
      }
      const size = (await this.#files.sizeOf(temporary)) ?? 0
      if (size === 0) return 0
      const there = size > bytes ? undefined : await this.#files.digestOf(temporary, size)
      if (there !== undefined && there.sha256 === (await localDigestOf(file, size)).sha256) return size
      await this.#files.remove(temporary)
    }
    return undefined
  }

  async #isSame(path: string, { sha256 }: LocalObject): Promise<boolean> {
    return (await this.#files.digestOf(path))?.sha256 === sha256
  }

  /** false: something has that name. */
  async #placeNew(temporary: string, path: string): Promise<boolean> {
    try {
      await this.#files.rename(temporary, path)
      return true
    } catch (error) {
      if (isFailure(error) && (await this.#files.sizeOf(path)) !== undefined) return false
      throw error
    }
  }

  async #placeOver(temporary: string, path: string, was: string): Promise<boolean> {
    const text = await this.#files.readText(path)
    if (text === undefined || versionOf(text) !== was) return false
    await this.#files.replace(path, temporary)
    return true
  }

  async #temporary(mark: string): Promise<string> {
    await this.#folder(TEMPORARY)
    names += 1
    return this.#path(`${TEMPORARY}/${mark}.${own}.${names}.part`)
  }

  #path(key: string): string {
    return posix.join(this.#options.path, key)
  }

  /** Makes the folders of a key, and makes sure that no link leads out of the place. */
  async #folder(key: string): Promise<void> {
    if (this.#made.has(key)) return
    this.#root ??= await this.#files.realPathOf(this.#options.path)
    const root = this.#root
    if (root === undefined || (await this.#files.sizeOf(this.#options.path)) === undefined)
      throw new AdflowError('STORE_MISMATCH', `${this.nameOf('')} is not there`, {
        hint: 'make the folder, name another in `path`, or set `create: missing`',
      })
    const parts = key === '.' ? [] : key.split('/')
    for (const [index] of parts.entries()) {
      const level = parts.slice(0, index + 1).join('/')
      const path = this.#path(level)
      await this.#files.makeFolder(path)
      if ((await this.#files.realPathOf(path)) === posix.join(root, level)) continue
      throw new AdflowError('STORE_MISMATCH', `${this.nameOf(level)} is a link that leads elsewhere`, {
        hint: 'put a folder in its place: nothing is written outside of `path`',
      })
    }
    this.#made.add(key)
  }

  async #makeAll(path: string): Promise<void> {
    if ((await this.#files.sizeOf(path)) !== undefined) return
    const parent = posix.dirname(path)
    if (parent !== path && parent !== '.') await this.#makeAll(parent)
    await this.#files.makeFolder(path)
  }

  async #asked<T>(doing: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work()
    } catch (error) {
      if (isFailure(error)) throw (await this.#wantOfSpace(doing)) ?? explainSftp(error, doing)
      throw explainSftp(error, doing)
    }
  }

  /** The protocol has no word for it. */
  async #wantOfSpace(doing: string): Promise<AdflowError | undefined> {
    const space = await this.#files.spaceOf(this.#options.path)
    if (space?.readOnly === true)
      return new AdflowError('STORE_UNAVAILABLE', `cannot ${doing}: the file system of the server is read-only`, {
        hint: 'have it mounted for writing; nothing of the batch was published',
      })
    if (space === undefined || space.freeBytes > FULL_BYTES) return undefined
    return new AdflowError('STORE_UNAVAILABLE', `cannot ${doing}: no space left on the disk of the server`, {
      hint: 'free space there; nothing of the batch was published',
    })
  }
}

function versionOf(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}

async function* told(stream: AsyncIterable<Uint8Array>, doing: string): AsyncIterable<Uint8Array> {
  try {
    yield* stream
  } catch (error) {
    throw explainSftp(error, doing)
  }
}
