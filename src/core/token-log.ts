/**
 * An append-only set of tokens on disk, one a line. What a kill leaves of the last line is not a token: it is cut off, and
 * whoever had not been told that the token is there does its work again.
 */
import { type FileHandle, open, readFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { appendDurably, syncDirectory, truncateDurably } from './durable.ts'
import { AdflowError, localIoError } from './errors.ts'
import { GroupCommit } from './group-commit.ts'

const LINE = /^[0-9a-f]{64}$/
const LINE_BYTES = 65

export class TokenLog {
  readonly #tokens: Set<string>
  readonly #handle: FileHandle
  readonly #commits: GroupCommit<string>

  private constructor(path: string, handle: FileHandle, tokens: Set<string>) {
    this.#handle = handle
    this.#tokens = tokens
    this.#commits = new GroupCommit((added) => appendDurably(handle, added.map((token) => `${token}\n`).join(''), path))
  }

  /** Creates the file where it is missing; its folder must be there. One process at a time may hold it open. */
  static async open(path: string): Promise<TokenLog> {
    try {
      const handle = await open(path, 'a+')
      await syncDirectory(dirname(path))
      const text = (await handle.readFile('latin1')).split('\n')
      const tokens = text.slice(0, -1)
      const damaged = tokens.findIndex((line) => !LINE.test(line))
      if (damaged >= 0)
        throw new AdflowError('STATE_DAMAGED', `line ${damaged + 1} of ${path} is no token`, {
          hint: 'restore the file: without it nobody knows what was handed over; nothing was touched',
        })
      await truncateDurably(handle, tokens.length * LINE_BYTES, path)
      return new TokenLog(path, handle, new Set(tokens))
    } catch (error) {
      throw localIoError(error, `open ${path}`)
    }
  }

  has(token: string): boolean {
    return this.#tokens.has(token)
  }

  /** Resolved: on disk. A token that is there already is not written again. */
  async add(token: string): Promise<void> {
    if (this.#tokens.has(token)) return
    await this.#commits.add(token)
    this.#tokens.add(token)
  }

  async close(): Promise<void> {
    await this.#commits.idle()
    await this.#handle.close()
  }
}

/** The tokens without opening the log for writing: to look at them, also while another process adds some. */
export async function readTokens(path: string): Promise<ReadonlySet<string>> {
  try {
    return new Set((await readFile(path, 'latin1')).split('\n').slice(0, -1))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return new Set()
    throw localIoError(error, `read ${path}`)
  }
}
