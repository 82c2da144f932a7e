/** The bearer token of the API: from the environment, a file, or made up for this state directory. */
import { randomBytes } from 'node:crypto'
import { link, mkdir, open, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { isLoopback } from '../core/bearer.ts'
import { syncDirectory, temporaryPath } from '../core/durable.ts'
import { AdflowError, localIoError } from '../core/errors.ts'

const SHORTEST = 32

export interface TokenSources {
  readonly env: Readonly<Record<string, string | undefined>>
  /** Of `--token-file`. */
  readonly file?: string
  /** Folder of the daemon; undefined: no token is made up. */
  readonly folder?: string
}

/** ADFLOW_DAEMON_TOKEN > --token-file > `token` in the folder of the daemon. @throws AdflowError TOKEN_UNSAFE, LOCAL_IO */
export async function readToken({ env, file, folder }: TokenSources): Promise<string | undefined> {
  const given = env['ADFLOW_DAEMON_TOKEN']
  if (given !== undefined && given !== '') return long(given, 'ADFLOW_DAEMON_TOKEN')
  if (file !== undefined) return fromFile(file)
  return folder === undefined ? undefined : fromFile(join(folder, 'token'))
}

/** The same, and where there is none yet a random one is made up: then whoever may read the state directory may ask. */
export async function ensureToken(sources: TokenSources & { readonly folder: string }): Promise<string> {
  const found = await readToken(sources).catch((error: unknown) => {
    if (sources.file === undefined && error instanceof AdflowError && error.code === 'LOCAL_IO') return undefined
    throw error
  })
  if (found !== undefined) return found
  const path = join(sources.folder, 'token')
  await mkdir(sources.folder, { recursive: true, mode: 0o700 })
  const temporary = temporaryPath(path)
  try {
    const handle = await open(temporary, 'wx', 0o600)
    await handle.writeFile(`${randomBytes(32).toString('base64url')}\n`)
    await handle.sync()
    await handle.close()
    // Not a rename: of two daemons that start at once the first decides.
    await link(temporary, path).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error
    })
    await rm(temporary)
    await syncDirectory(sources.folder)
  } catch (error) {
    throw localIoError(error, `make a token in ${path}`)
  }
  return fromFile(path)
}

/** Whether a token that everybody of this machine could guess at is needed. @throws AdflowError TOKEN_UNSAFE */
export function requireToken(host: string, { env, file }: TokenSources): void {
  if (isLoopback(host) || file !== undefined || (env['ADFLOW_DAEMON_TOKEN'] ?? '') !== '') return
  throw new AdflowError('TOKEN_UNSAFE', `--listen ${host} can be reached from other machines, and no token was given`, {
    hint: 'set ADFLOW_DAEMON_TOKEN or --token-file, or listen on 127.0.0.1',
  })
}

async function fromFile(path: string): Promise<string> {
  try {
    const handle = await open(path, 'r')
    try {
      const { mode } = await handle.stat()
      if (process.platform !== 'win32' && (mode & 0o077) !== 0)
        throw new AdflowError('TOKEN_UNSAFE', `others can read ${path} (mode ${(mode & 0o777).toString(8)})`, {
          hint: `chmod 600 ${path}, and make a new token: this one may be known`,
        })
      return long((await handle.readFile('utf8')).trim(), path)
    } finally {
      await handle.close()
    }
  } catch (error) {
    throw localIoError(error, `read the token in ${path}`)
  }
}

function long(token: string, from: string): string {
  if (token.length >= SHORTEST) return token
  throw new AdflowError('TOKEN_UNSAFE', `the token of ${from} has ${token.length} characters; it needs ${SHORTEST}`, {
    hint: 'openssl rand -base64 32 makes one',
  })
}
