/** Real paths: the engine resolves symbolic links before it checks a path against the folders it may use. */
import { realpathSync } from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'
import { localIoError } from './errors.ts'

/** The real path of what may not exist yet: `plan` and `lint` look at a store without leaving a trace. */
export function realPathOf(path: string): string {
  const missing: string[] = []
  for (let at = resolve(path); ; at = dirname(at)) {
    try {
      return join(realpathSync(at), ...missing)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw localIoError(error, `find ${resolve(path)}`)
      missing.unshift(basename(at))
    }
  }
}
