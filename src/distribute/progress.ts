/**
 * How far a consumer is with one file of messages: an append-only log beside it, a line for each message that is through and
 * for each attempt that failed. A line that a kill has torn does not count: the message goes out again, under the same id.
 */
import { type FileHandle, open } from 'node:fs/promises'
import { appendDurably, truncateDurably } from '../core/durable.ts'
import { localIoError } from '../core/errors.ts'
import { GroupCommit } from '../core/group-commit.ts'

/** Attempts at a message before this process. */
export interface Tries {
  readonly attempts: number
  /** Milliseconds since the epoch: the deadline counts from it. */
  readonly firstMs: number
}

/** `d <index> <rows>`: delivered. `x <index> <rows>`: a dead letter. `t <index> <attempts> <first>`: tried in vain. */
const LINE = /^(?:[dx] \d+ \d+|t \d+ \d+ \d+)$/

export class Progress {
  deliveredRows = 0
  deadRows = 0
  readonly #handle: FileHandle
  readonly #settled = new Set<number>()
  readonly #tries = new Map<number, Tries>()
  readonly #commits: GroupCommit<string>
  /** Nothing was written before. */
  readonly fresh: boolean

  private constructor(handle: FileHandle, path: string, lines: readonly string[]) {
    this.#handle = handle
    this.fresh = lines.length === 0
    for (const line of lines) this.#take(line)
    this.#commits = new GroupCommit((added) => appendDurably(handle, added.join(''), path))
  }

  static async open(path: string): Promise<Progress> {
    try {
      const handle = await open(path, 'a+')
      const lines = (await handle.readFile('latin1')).split('\n').slice(0, -1)
      const end = lines.findIndex((line) => !LINE.test(line))
      const whole = end === -1 ? lines : lines.slice(0, end)
      const bytes = whole.reduce((total, line) => total + line.length + 1, 0)
      await truncateDurably(handle, bytes, path)
      return new Progress(handle, path, whole)
    } catch (error) {
      throw localIoError(error, `open ${path}`)
    }
  }

  isSettled(index: number): boolean {
    return this.#settled.has(index)
  }

  triesOf(index: number): Tries | undefined {
    return this.#tries.get(index)
  }

  /** Resolved: on disk. */
  settle(index: number, outcome: 'delivered' | 'dead', rows: number): Promise<void> {
    return this.#add(`${outcome === 'delivered' ? 'd' : 'x'} ${index} ${rows}`)
  }

  tried(index: number, { attempts, firstMs }: Tries): Promise<void> {
    return this.#add(`t ${index} ${attempts} ${firstMs}`)
  }

  async close(): Promise<void> {
    await this.#commits.idle()
    await this.#handle.close()
  }

  async #add(line: string): Promise<void> {
    await this.#commits.add(`${line}\n`)
    this.#take(line)
  }

  #take(line: string): void {
    const [kind, index, second, third] = line.split(' ')
    const number = Number(index)
    if (kind === 't') {
      this.#tries.set(number, { attempts: Number(second), firstMs: Number(third) })
      return
    }
    this.#tries.delete(number)
    if (this.#settled.has(number)) return
    this.#settled.add(number)
    if (kind === 'd') this.deliveredRows += Number(second)
    else this.deadRows += Number(second)
  }
}
