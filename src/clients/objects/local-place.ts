/** Files of this machine. */
import { readdir } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { discover, fileFacts, naturalOrder, type Selection, type SourceFile } from './discover.ts'
import { LocalFile } from './local-file.ts'
import type { FilePlace, Found, OpenFile } from './place.ts'

const COMPRESSED = /\.(?:gz|zst|bz2|xz)$/

export class LocalPlace implements FilePlace {
  readonly renames = true
  readonly #selection: Selection

  constructor(selection: Selection) {
    this.#selection = selection
  }

  discover(): Promise<Found> {
    return discover(this.#selection)
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
