/**
 * Dead letters of one consumer: an append-only log of what happened to each, whole with its payload. Memory holds where a
 * letter stands in the file, not the letter. Reading needs no lock; a line that a kill has torn does not count.
 */
import { createReadStream } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { appendDurably, publish, temporaryPath, truncateDurably } from '../core/durable.ts'
import { localIoError } from '../core/errors.ts'
import { GroupCommit } from '../core/group-commit.ts'
import type { StoredMessage } from './message-file.ts'

export interface LetterHead {
  readonly id: string
  readonly consumer: string
  /** Of the output's batch. */
  readonly token: string
  readonly rows: number
  readonly keys: readonly string[]
  readonly reason: string
  readonly attempts: number
  /** ISO 8601 UTC. */
  readonly first_at: string
  readonly last_at: string
}

export interface DeadLetter extends LetterHead {
  readonly index: number
  readonly body: string
  readonly attributes: Readonly<Record<string, string>>
}

/** `queued`: it was sent back, and waits for its consumer. */
export type Letter = LetterHead & { readonly state: 'dead' | 'queued' }

interface Entry extends Letter {
  readonly at: number
  readonly bytes: number
}

type Line =
  | { readonly op: 'dead'; readonly letter: DeadLetter }
  | { readonly op: 'queued' | 'delivered' | 'discarded'; readonly id: string }

const LINE_FEED = 10
/** Lines of letters that are through may take so many bytes before the log is written anew. */
const WASTE_BYTES = 4_000_000

export class Letters {
  readonly #path: string
  readonly #entries = new Map<string, Entry>()
  #end = 0
  #live = 0
  #handle: FileHandle | undefined
  #commits: GroupCommit<string> | undefined

  private constructor(path: string) {
    this.#path = path
  }

  /** To look at them, also while a run is going on. */
  static async read(path: string): Promise<Letters> {
    const letters = new Letters(path)
    await letters.#scan()
    return letters
  }

  /** To change them. Only for the holder of the job's lock; the folder must be there. */
  static async open(path: string): Promise<Letters> {
    const letters = await Letters.read(path)
    await letters.#compact()
    try {
      const handle = await open(path, 'a')
      await truncateDurably(handle, letters.#end, path)
      letters.#handle = handle
    } catch (error) {
      throw localIoError(error, `open ${path}`)
    }
    return letters
  }

  /** In the order in which they died. */
  get all(): readonly Letter[] {
    return [...this.#entries.values()]
  }

  has(id: string): boolean {
    return this.#entries.has(id)
  }

  /** The whole letter. */
  async letter(id: string): Promise<DeadLetter | undefined> {
    const entry = this.#entries.get(id)
    if (entry === undefined) return undefined
    const handle = await open(this.#path, 'r')
    try {
      const { buffer } = await handle.read(Buffer.alloc(entry.bytes), 0, entry.bytes, entry.at)
      return (JSON.parse(buffer.toString('utf8')) as Extract<Line, { op: 'dead' }>).letter
    } catch (error) {
      throw localIoError(error, `read ${this.#path}`)
    } finally {
      await handle.close()
    }
  }

  /** Resolved: on disk. The same message again replaces what is known of it. */
  bury(letter: DeadLetter): Promise<void> {
    return this.#append({ op: 'dead', letter })
  }

  /** Resolved: on disk. */
  async mark(op: 'queued' | 'delivered' | 'discarded', ids: readonly string[]): Promise<void> {
    await Promise.all(ids.map((id) => this.#append({ op, id })))
  }

  async close(): Promise<void> {
    await this.#commits?.idle()
    await this.#handle?.close()
  }

  #append(line: Line): Promise<void> {
    const handle = this.#handle
    if (handle === undefined) return Promise.reject(new Error(`${this.#path} is open for reading only`))
    this.#commits ??= new GroupCommit(async (texts) => {
      const bytes = Buffer.from(texts.join(''))
      await appendDurably(handle, bytes, this.#path)
      this.#takeAll(bytes)
    })
    return this.#commits.add(`${JSON.stringify(line)}\n`)
  }

  #takeAll(bytes: Buffer): number {
    let from = 0
    for (let to = bytes.indexOf(LINE_FEED); to >= 0; to = bytes.indexOf(LINE_FEED, from)) {
      this.#take(JSON.parse(bytes.toString('utf8', from, to)) as Line, this.#end, to - from)
      this.#end += to - from + 1
      from = to + 1
    }
    return from
  }

  #take(line: Line, at: number, bytes: number): void {
    const id = line.op === 'dead' ? line.letter.id : line.id
    const before = this.#entries.get(id)
    if (line.op === 'queued') {
      if (before !== undefined) this.#entries.set(id, { ...before, state: 'queued' })
      return
    }
    this.#live -= before?.bytes ?? 0
    this.#entries.delete(id)
    if (line.op !== 'dead') return
    const { body: _, attributes: __, index: ___, ...head } = line.letter
    this.#entries.set(id, { ...head, state: 'dead', at, bytes })
    this.#live += bytes
  }

  async #scan(): Promise<void> {
    let rest = Buffer.alloc(0)
    try {
      for await (const part of createReadStream(this.#path)) {
        const bytes = Buffer.concat([rest, part as Buffer])
        rest = bytes.subarray(this.#takeAll(bytes))
      }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw localIoError(error, `read ${this.#path}`)
    }
  }

  /** Writes what is still dead or queued to a new file, which takes the place of the old one whole. */
  async #compact(): Promise<void> {
    if (this.#end - this.#live < WASTE_BYTES) return
    const temporary = temporaryPath(this.#path)
    const entries = this.all
    try {
      const handle = await open(temporary, 'wx')
      for (const { id, state } of entries) {
        await handle.appendFile(`${JSON.stringify({ op: 'dead', letter: await this.letter(id) })}\n`)
        if (state === 'queued') await handle.appendFile(`${JSON.stringify({ op: 'queued', id })}\n`)
      }
      await handle.close()
    } catch (error) {
      throw localIoError(error, `write ${temporary}`)
    }
    await publish(temporary, this.#path)
    this.#entries.clear()
    this.#end = 0
    this.#live = 0
    await this.#scan()
  }
}

/** The message as it was sent: the same id, the same bytes. */
export function messageOf({ id, rows, keys, body, attributes, index }: DeadLetter): StoredMessage {
  return { id, rows, keys, body, attributes, index }
}
