/** Walks a folder of an SFTP server and finds the files that patterns name, never outside of it. */
import { posix } from 'node:path'
import type { AdflowError } from '../../core/errors.ts'
import type { Discovery, FileFacts } from '../objects/discover.ts'
import { commonFolder, fitsOne } from '../objects/globs.ts'
import { META_FOLDER } from '../objects/publish-manifest.ts'
import { tooMany } from '../objects/remote-faults.ts'
import { type Attributes, attributesOf, type Entry, entriesOf, faultOfName, realPathOf } from './remote-entries.ts'
import type { SftpSession } from './session.ts'
import { explainSource } from './source-errors.ts'

export interface FolderSelection {
  readonly patterns: readonly string[]
  readonly excluded: readonly string[]
  /** Most names, wanted or not. */
  readonly maxFiles: number
}

export interface Listing {
  /** Path below the folder → facts, of the files that are wanted. */
  readonly files: ReadonlyMap<string, FileFacts>
  /** Paths of all that is there. */
  readonly names: ReadonlySet<string>
  readonly problems: Discovery['problems']
}

export class FolderListing implements Listing {
  readonly files = new Map<string, FileFacts>()
  readonly names = new Set<string>()
  readonly problems: Discovery['problems'][number][] = []
  readonly #session: SftpSession
  readonly #root: string
  readonly #selection: FolderSelection
  readonly #nameOf: (path: string) => string
  /** Folders below this many others hold nothing that fits. */
  readonly #depth: number

  /** `root`: real path of the folder. `nameOf`: a path below it as people read it. */
  constructor(session: SftpSession, root: string, selection: FolderSelection, nameOf: (path: string) => string) {
    this.#session = session
    this.#root = root
    this.#selection = selection
    this.#nameOf = nameOf
    const deep = selection.patterns.some((pattern) => pattern.includes('**') || /[({]/.test(pattern))
    this.#depth = deep ? Number.POSITIVE_INFINITY : Math.max(...selection.patterns.map(levels))
  }

  /** @throws AdflowError where the connection is lost, or the folder itself cannot be listed */
  async walk(signal: AbortSignal | undefined): Promise<this> {
    const start = commonFolder(this.#selection.patterns).replace(/\/$/, '')
    const folders = [(await this.#isInside(start)) ? start : '']
    for (let folder = folders.shift(); folder !== undefined; folder = folders.shift()) {
      signal?.throwIfAborted()
      try {
        for await (const entry of entriesOf(this.#session, posix.join(this.#root, folder))) {
          const below = await this.#take(folder, entry)
          if (below !== undefined) folders.push(below)
        }
      } catch (error) {
        this.#problem(folder, explainSource(error, `list ${this.#nameOf(folder)}`))
      }
    }
    return this
  }

  /** A folder that the patterns name may be a link, or not there at all. */
  async #isInside(folder: string): Promise<boolean> {
    if (folder === '') return true
    const path = posix.join(this.#root, folder)
    return (await realPathOf(this.#session, path)) === path && (await attributesOf(this.#session, path)) !== undefined
  }

  /** @returns a folder to be listed too */
  async #take(folder: string, { name, attributes }: Entry): Promise<string | undefined> {
    const fault = faultOfName(name)
    if (fault !== undefined) {
      const path = `${folder}/${JSON.stringify(name)}`.replace(/^\//, '')
      const message = `the server names ${JSON.stringify(name)} in ${this.#nameOf(folder)}, which ${fault}: it is not read`
      this.problems.push({ path, origin: this.#nameOf(path), code: 'SOURCE_UNSUPPORTED', message })
      return undefined
    }
    const path = folder === '' ? name : `${folder}/${name}`
    if (path === META_FOLDER) return undefined
    if (this.names.size === this.#selection.maxFiles) throw tooMany(this.#nameOf(''), this.#selection.maxFiles)
    this.names.add(path)
    if (attributes.isDirectory()) return levels(path) < this.#depth ? path : undefined
    if (!fitsOne(this.#selection.patterns, path) || fitsOne(this.#selection.excluded, path)) return undefined
    const found = attributes.isFile() ? attributes : await this.#behind(path, attributes)
    if (found !== undefined) this.files.set(path, factsOf(path, found))
    return undefined
  }

  /** Links to files within the folder are followed; those to folders are not. */
  async #behind(path: string, attributes: Attributes): Promise<Attributes | undefined> {
    const whole = posix.join(this.#root, path)
    if (attributes.isSymbolicLink()) {
      const real = await realPathOf(this.#session, whole)
      if (real !== undefined && !real.startsWith(this.#root === '/' ? '/' : `${this.#root}/`)) {
        const message = `${this.#nameOf(path)} is a link that leads out of the folder: it is not read; leave it out with \`exclude\``
        this.problems.push({ path, origin: this.#nameOf(path), code: 'SOURCE_UNSUPPORTED', message })
        return undefined
      }
    }
    const found = await attributesOf(this.#session, whole)
    if (found?.isFile() === true) return found
    if (found?.isDirectory() === true) return undefined
    const what = found === undefined ? 'a link that leads nowhere' : 'a pipe or a device'
    const message = `${this.#nameOf(path)} is ${what}: it is not read; leave it out with \`exclude\``
    this.problems.push({ path, origin: this.#nameOf(path), code: 'SOURCE_UNSUPPORTED', message })
    return undefined
  }

  /** A folder below the first may be closed to us, or gone since it was seen; anything else ends the listing. */
  #problem(path: string, error: AdflowError): void {
    const { code, hint, message } = error
    if (path === '' || (code !== 'SOURCE_DENIED' && code !== 'SOURCE_MISSING')) throw error
    const text = hint === undefined ? message : `${message}; ${hint}`
    this.problems.push({ path, origin: this.#nameOf(path), code, message: text })
  }
}

/** The protocol knows no inode: a file is its name, until its bytes say otherwise. */
export function factsOf(path: string, { size, mtime }: Pick<Attributes, 'size' | 'mtime'>): FileFacts {
  return { dev: '', ino: path, born: '', size, modified: `${mtime}000000000`, modifiedMs: mtime * 1000 }
}

function levels(path: string): number {
  return path.split('/').length
}
