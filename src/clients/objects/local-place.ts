/** Files of this machine. */
import { readdir } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { discover, fileFacts, naturalOrder, type Selection, type SourceFile } from './discover.ts'
import { LocalFile } from './local-file.ts'
import type { FilePlace, Found, OpenFile } from './place.ts'

/** What was found so long ago may be something else by now. */
const AHEAD_MS = 1000

const COMPRESSED = /\.(?:gz|zst|bz2|xz)$/

export class LocalPlace implements FilePlace {
  readonly renames = true
  readonly #selection: Selection
  #ahead: { readonly found: Promise<Found>; readonly atMs: number } | undefined

  constructor(selection: Selection) {
    this.#selection = selection
  }

  discover(): Promise<Found> {
    const ahead = this.#ahead
    this.#ahead = undefined
    if (ahead !== undefined && performance.now() - ahead.atMs < AHEAD_MS) return ahead.found
    return discover(this.#selection)
  }

  /** As discover(), which is asked soon: nobody looks twice. */
  discoverAhead(): Promise<Found> {
    const found = discover(this.#selection)
    this.#ahead = { found, atMs: performance.now() }
    return found
  }

  open(file: SourceFile): Promise<OpenFile> {
    return LocalFile.open(file.absolute)
  }

  nameOf(path: string): string {
    return resolve(this.#selection.baseDir, path)
  }

  /** `app.log.1`, `app.log-20260101` beside `app.log`; not what was compressed, whose bytes are others. */
  async siblings(path: string): Promise<readonly SourceFile[]> {
    const absolute = this.nameOf(path)
    const name = basename(absolute)
    const names = await readdir(dirname(absolute)).catch(() => []) // a folder that is gone has no siblings
    const files: SourceFile[] = []
    for (const other of names) {
      if (!isRotationOf(other, name)) continue
      const facts = await fileFacts(join(dirname(absolute), other)).catch(() => undefined)
      if (facts !== undefined)
        files.push({ path: join(dirname(path), other), absolute: join(dirname(absolute), other), facts })
    }
    return files.sort((a, b) => naturalOrder(a.path, b.path))
  }

  async close(): Promise<void> {}
}

/** What a log rotation may call a file: not compressed, since those bytes are others. */
export function isRotationOf(other: string, name: string): boolean {
  return other.startsWith(name) && /^[._-]/.test(other.slice(name.length)) && !COMPRESSED.test(other)
}
