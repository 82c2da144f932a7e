/** The files of a folder on an SFTP server as files of a source: many reads go out side by side on one connection. */
import { posix } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { AdflowError } from '../../core/errors.ts'
import type { SourceWatch } from '../../core/source-watch.ts'
import { type Discovery, type FileFacts, naturalOrder, type SourceFile } from '../objects/discover.ts'
import { isUnchanged } from '../objects/identity.ts'
import type { KnownLane } from '../objects/lanes.ts'
import { isRotationOf } from '../objects/local-place.ts'
import type { FilePlace, Found, OpenFile } from '../objects/place.ts'
import { RangedFile } from '../objects/ranged-file.ts'
import type { RetryOptions } from '../objects/reading-options.ts'
import { patiently } from '../objects/remote-faults.ts'
import { FolderListing, factsOf, type Listing } from './folder-listing.ts'
import { OpenHandle } from './open-handle.ts'
import type { SftpOptions } from './options.ts'
import { type Entry, entriesOf, faultOfName, realPathOf } from './remote-entries.ts'
import { addressOf, SftpSession } from './session.ts'
import { explainSource } from './source-errors.ts'

const PIECE_BYTES = 1 << 20
/** Pieces of one file that are asked for ahead. */
const AHEAD = 3

export interface FolderFilesOptions extends SftpOptions {
  readonly patterns: readonly string[]
  readonly excluded: readonly string[]
  readonly allowEmpty: boolean
  readonly maxFiles: number
  readonly retry: RetryOptions
  /** By what a file is known that somebody still writes. */
  readonly writing: {
    readonly names: readonly string[]
    /** `{name}` stands for the name of the file. */
    readonly marker?: string | undefined
    readonly stable?: number | undefined
  }
}

export class FolderFiles implements FilePlace {
  readonly renames = true
  readonly #options: FolderFilesOptions
  readonly #session: SftpSession
  readonly #name: string
  readonly #closed = new AbortController()
  #root: string | undefined
  #watch: SourceWatch | undefined
  #outage: AdflowError | undefined

  constructor(options: FolderFilesOptions, baseDir: string) {
    const { host, port } = addressOf(options)
    this.#options = options
    this.#session = new SftpSession(options, baseDir)
    this.#name = `sftp://${host}:${port}`
  }

  set watch(watch: SourceWatch | undefined) {
    this.#watch = watch
    watch?.givenUp.addEventListener('abort', () => this.#session.abandon(), { once: true })
    this.#session.heard = watch === undefined ? undefined : (bytes) => watch.moved(bytes)
  }

  get outage(): AdflowError | undefined {
    return this.#outage
  }

  nameOf(path: string): string {
    return `${this.#name}/${posix.join(this.#options.path, path).replace(/^\//, '')}`
  }

  async discover(_known?: readonly KnownLane[], signal: AbortSignal = this.#closed.signal): Promise<Found> {
    this.#outage = undefined
    const { stable } = this.#options.writing
    const first = await this.#list(signal)
    const waiting = new Set([...first.files.keys()].filter((path) => this.#isWritten(path, first)))
    if (stable !== undefined && first.files.size > waiting.size) {
      const wait = () => delay(stable, undefined, { signal })
      await (this.#watch === undefined ? wait() : this.#watch.hold(wait))
      const second = await this.#list(signal)
      for (const [path, facts] of first.files) {
        const now = second.files.get(path)
        if (now !== undefined && !isUnchanged(facts, now)) waiting.add(path)
      }
    }
    const files = [...first.files]
      .filter(([path]) => !waiting.has(path))
      .map(([path, facts]) => this.#file(path, facts))
      .sort((a, b) => naturalOrder(a.path, b.path))
    const empty = first.files.size === 0 && first.problems.length === 0 && !this.#options.allowEmpty
    const nothing = empty ? this.#options.patterns.map((pattern) => this.#nothing(pattern)) : []
    return { files, problems: [...first.problems, ...nothing], waiting: [...waiting] }
  }

  async open(file: SourceFile): Promise<OpenFile> {
    const signal = this.#closed.signal
    const handle = new OpenHandle(this.#session, posix.join(await this.#rooted(), file.path))
    const doing = `read ${file.absolute}`
    const found = await this.#asked(doing, signal, () => handle.facts())
    const facts = factsOf(file.path, found)
    return new RangedFile({
      facts,
      origin: file.absolute,
      pieceBytes: PIECE_BYTES,
      ahead: AHEAD,
      signal,
      fetch: (from, length, stop) =>
        this.#asked(doing, stop, async () => {
          // After a broken connection the name may be that of another file.
          const now = factsOf(file.path, await handle.facts())
          if (!isUnchanged(facts, now)) throw changed(file)
          return handle.read(from, length)
        }),
      close: () => handle.close(),
    })
  }

  async siblings(path: string): Promise<readonly SourceFile[]> {
    const folder = posix.dirname(path)
    const name = posix.basename(path)
    const root = await this.#rooted()
    const entries = await this.#asked(`list ${this.nameOf(folder)}`, this.#closed.signal, async () => {
      const found: Entry[] = []
      for await (const entry of entriesOf(this.#session, posix.join(root, folder))) found.push(entry)
      return found
    }).catch((error: unknown) => {
      if (error instanceof AdflowError && error.code === 'SOURCE_MISSING') return [] // a folder that is gone has no siblings
      throw error
    })
    return entries
      .filter(
        ({ name: other, attributes }) =>
          isRotationOf(other, name) && attributes.isFile() && faultOfName(other) === undefined,
      )
      .map(({ name: other, attributes }) => {
        const path = posix.join(folder, other)
        return this.#file(path, factsOf(path, attributes))
      })
      .sort((a, b) => naturalOrder(a.path, b.path))
  }

  async close(): Promise<void> {
    this.#closed.abort()
    await this.#session.close()
  }

  #list(signal: AbortSignal): Promise<Listing> {
    return this.#asked(`list ${this.nameOf('')}`, signal, async () => {
      const { patterns, excluded, maxFiles, writing } = this.#options
      const selection = { patterns, excluded: [...excluded, ...writing.names], maxFiles }
      return new FolderListing(this.#session, await this.#rooted(), selection, (path) => this.nameOf(path)).walk(signal)
    })
  }

  /** Real path of the folder. */
  async #rooted(): Promise<string> {
    this.#root ??= await realPathOf(this.#session, this.#options.path)
    if (this.#root !== undefined) return this.#root
    throw new AdflowError('SOURCE_MISSING', `${this.nameOf('')} is not there`, {
      hint: 'make the folder, or name another in `path`',
    })
  }

  #isWritten(path: string, { names }: Listing): boolean {
    const { marker } = this.#options.writing
    if (marker === undefined) return false
    return !names.has(posix.join(posix.dirname(path), marker.replaceAll('{name}', posix.basename(path))))
  }

  #file(path: string, facts: FileFacts): SourceFile {
    return { path, absolute: this.nameOf(path), facts }
  }

  #nothing(pattern: string): Discovery['problems'][number] {
    const origin = this.nameOf(pattern)
    const message = `no file matches ${origin}; check \`path\` and \`files\`, or set \`allow_empty: true\``
    return { path: pattern, origin, code: 'SOURCE_MISSING', message }
  }

  async #asked<T>(doing: string, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    if (this.#outage !== undefined) throw this.#outage
    if (this.#watch !== undefined) signal = AbortSignal.any([signal, this.#watch.givenUp])
    try {
      return await patiently(
        () =>
          work().catch((error: unknown) => {
            signal.throwIfAborted()
            throw explainSource(error, doing)
          }),
        this.#options.retry,
        signal,
      )
    } catch (error) {
      if (error instanceof AdflowError && error.details?.['outage'] === true) this.#outage = error
      throw error
    }
  }
}

function changed({ absolute }: SourceFile): AdflowError {
  return new AdflowError('SOURCE_CHANGED', `${absolute} was changed while the connection was lost`, {
    hint: 'the next run looks at what stands there then, and goes on where it only grew',
  })
}
