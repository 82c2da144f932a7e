/** Compiled code is kept between starts, in a folder of the user alone: a shared one could be filled by somebody else. */
import { enableCompileCache } from 'node:module'
import { homedir } from 'node:os'
import { join } from 'node:path'

/** Without a home that can be written to nothing is kept, and nothing is said. */
export function keepCompiled(env = process.env) {
  if (env['NODE_COMPILE_CACHE'] !== undefined) return
  enableCompileCache(join(env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'adflow'))
}
