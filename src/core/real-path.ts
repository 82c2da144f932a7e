/** Real paths: the engine resolves symbolic links before it checks a path against the folders it may use. */
import { realpathSync } from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'
import { localIoError } from './errors.ts'

const MISSING = new Set<string | undefined>(['ENOENT', 'ENOTDIR'])

/** The real path of what may not exist yet: `plan` and `lint` look at a store without leaving a trace. */
export function realPathOf(path: string): string {
  const missing: string[] = []
  for (let at = resolve(path); ; at = dirname(at)) {
    try {
      return join(realpathSync(at), ...missing)
    } catch (error) {
      // ENOTDIR: a file stands where a folder should be. Whoever makes the folder says so; a loader can be made all the same.
      if (!MISSING.has((error as NodeJS.ErrnoException).code)) throw localIoError(error, `find ${resolve(path)}`)
      missing.unshift(basename(at))
    }
  }
}
