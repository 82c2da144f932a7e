/**
 * The journal of a lane, for the gateway that holds its lock: what was accepted is appended and synced before it is answered for.
 * Killed while it writes, what is whole counts and the rest was answered for by nobody; a start makes of the last file exactly
 * its whole frames, and begins the next.
 */
import { randomUUID } from 'node:crypto'
import { copyFile, type FileHandle, mkdir, open, readFile, stat, truncate } from 'node:fs/promises'
import {
  appendDurably,
  publish,
  removeDurably,
  sweepTemporaries,
  syncDirectory,
  temporaryPath,
  writeDurably,
} from '../../core/durable.ts'
import { AdflowError, localIoError } from '../../core/errors.ts'
import { GroupCommit } from '../../core/group-commit.ts'
import { type FrameHead, FrameReader, frameOf, HEAD_BYTES, parseHead } from './frame.ts'
import {
  FIRST_AT,
  firstBytes,
  journalPath,
  keysPath,
  listJournal,
  type Place,
  placeBefore,
  readLoaded,
} from './journal-folder.ts'
import { KeyIndex, type KnownRequest } from './key-index.ts'

export interface JournalOptions {
  /** A file that has reached this size is followed by another. */
  readonly fileBytes: number
  /** How long keys are known. */
  readonly windowMs: number
  readonly now?: () => number
}

export interface PushedRequest {
  /** NDJSON, with its last line end. */
  readonly payload: Buffer
  readonly records: number
  readonly key: Buffer | undefined
  readonly digest: Buffer
}

interface Item {
  readonly head: FrameHead
  readonly frame: Buffer
}

/** The job writes in the folder too: what it is at is not swept away under it. */
const LONGEST_WRITE_MS = 600_000

export class Journal {
  readonly keys: KeyIndex
  readonly #folder: string
  readonly #options: JournalOptions
  readonly #now: () => number
  readonly #commits = new GroupCommit<Item>((items) => this.#commit(items))
  /** File → bytes, of those that are whole and not removed yet. */
  readonly #sealed = new Map<number, number>()
  /** File → when its last key was accepted. */
  readonly #keyFiles = new Map<number, number>()
  #file = 0
  #bytes = 0
  /** Of the requests in the present file that have a key. */
  #heads: Buffer[] = []
  #lastKeyMs = 0
  #handle: FileHandle | undefined

  private constructor(folder: string, options: JournalOptions) {
    this.#folder = folder
    this.#options = options
    this.#now = options.now ?? Date.now
    this.keys = new KeyIndex(options.windowMs)
  }

  /** Only for the holder of the lock. @throws AdflowError STATE_DAMAGED, LOCAL_IO, DISK_FULL */
  static async open(folder: string, options: JournalOptions): Promise<Journal> {
    try {
      await mkdir(folder, { recursive: true, mode: 0o700 })
    } catch (error) {
      throw localIoError(error, `make ${folder}`)
    }
    await sweepTemporaries(folder, LONGEST_WRITE_MS)
    const journal = new Journal(folder, options)
    try {
      await journal.#recover()
      return journal
    } catch (error) {
      await journal.close()
      throw error
    }
  }

  /** The first error, after which nothing is taken any more: open it anew. */
  get failure(): unknown {
    return this.#commits.failure
  }

  /** On the disk, loaded or not. */
  get bytes(): number {
    return this.#bytes + [...this.#sealed.values()].reduce((sum, bytes) => sum + bytes, 0)
  }

  /** Resolved: it is durable. Rejected: nobody knows; whoever sends it again with its key gets the answer. */
  async append({ payload, records, key, digest }: PushedRequest): Promise<KnownRequest> {
    const receipt = Buffer.from(randomUUID().replaceAll('-', ''), 'hex')
    const head = { payloadBytes: payload.length, records, atMs: this.#now(), receipt, key, digest }
    await this.#commits.add({ head, frame: frameOf(head, payload) })
    return head
  }

  /** Removes what has been loaded, and keys that are too old. */
  async tidy(): Promise<void> {
    const now = this.#now()
    this.keys.sweep(now)
    for (const [file, lastMs] of this.#keyFiles) {
      if (this.#sealed.has(file) || lastMs + this.#options.windowMs > now) continue
      await removeDurably(keysPath(this.#folder, file))
      this.#keyFiles.delete(file)
    }
    const loaded = await readLoaded(this.#folder)
    if (loaded === undefined) return
    for (const [file, bytes] of this.#sealed) {
      if (loaded.file < file || (loaded.file === file && loaded.at < bytes)) continue
      await removeDurably(journalPath(this.#folder, file))
      this.#sealed.delete(file)
    }
  }

  async close(): Promise<void> {
    await this.#commits.idle()
    this.#commits.poison(new AdflowError('UNEXPECTED', 'the journal is closed'))
    const handle = this.#handle
    this.#handle = undefined
    await handle?.close()
  }

  async #commit(items: readonly Item[]): Promise<void> {
    if (this.#bytes >= this.#options.fileBytes) {
      await this.#seal(this.#file, this.#bytes, this.#heads, this.#lastKeyMs)
      await this.#begin({ file: this.#file, at: this.#bytes })
    }
    if (this.#handle === undefined) throw new AdflowError('UNEXPECTED', 'the journal is closed')
    const frames = items.map(({ frame }) => frame)
    const bytes = frames.reduce((sum, frame) => sum + frame.length, 0)
    await appendDurably(this.#handle, frames, journalPath(this.#folder, this.#file))
    this.#bytes += bytes
    for (const { head, frame } of items) this.#know(head, frame)
  }

  #know(head: FrameHead, frame: Buffer): void {
    if (head.key === undefined) return
    this.keys.add(head)
    this.#heads.push(Buffer.from(frame.subarray(0, HEAD_BYTES)))
    this.#lastKeyMs = Math.max(this.#lastKeyMs, head.atMs)
  }

  /** Nothing more comes into the file. Killed before: the next start does it. */
  async #seal(file: number, bytes: number, heads: readonly Buffer[], lastKeyMs: number): Promise<void> {
    await writeDurably(keysPath(this.#folder, file), Buffer.concat(heads))
    this.#sealed.set(file, bytes)
    this.#keyFiles.set(file, lastKeyMs)
  }

  async #begin(before: Place): Promise<void> {
    const file = before.file + 1
    const path = journalPath(this.#folder, file)
    await writeDurably(path, firstBytes(before))
    await this.#handle?.close()
    try {
      this.#handle = await open(path, 'a')
    } catch (error) {
      throw localIoError(error, `open ${path}`)
    }
    this.#file = file
    this.#bytes = FIRST_AT
    this.#heads = []
    this.#lastKeyMs = 0
  }

  async #recover(): Promise<void> {
    const { journals, keys } = await listJournal(this.#folder)
    for (const file of keys) await this.#readKeys(file)
    let last: Place = { file: Math.max(0, ...keys), at: 0 }
    for (const file of journals) {
      if (this.#keyFiles.has(file)) this.#sealed.set(file, await sizeOf(journalPath(this.#folder, file)))
      else await this.#settle(file)
      last = { file, at: this.#sealed.get(file) ?? FIRST_AT }
    }
    this.keys.sweep(this.#now())
    await this.#begin(last)
    await syncDirectory(this.#folder)
  }

  async #readKeys(file: number): Promise<void> {
    const path = keysPath(this.#folder, file)
    let bytes: Buffer
    try {
      bytes = await readFile(path)
    } catch (error) {
      throw localIoError(error, `read ${path}`)
    }
    let lastMs = 0
    for (let at = 0; at < bytes.length; at += HEAD_BYTES) {
      const head = parseHead(bytes, at)
      if (head === undefined) throw damaged(path)
      this.keys.add(head)
      lastMs = Math.max(lastMs, head.atMs)
    }
    this.#keyFiles.set(file, lastMs)
  }

  /**
   * Of a file that was being written: its whole frames, written anew under its name. After a sync that failed nobody knows which of
   * the bytes that can be read are on the disk. A job that reads the file meanwhile sees the same bytes at the same places.
   */
  async #settle(file: number): Promise<void> {
    const path = journalPath(this.#folder, file)
    const heads: Buffer[] = []
    let lastMs = 0
    let end = FIRST_AT
    try {
      const handle = await open(path, 'r')
      try {
        if ((await placeBefore(handle)) === undefined) throw damaged(path)
        const reader = new FrameReader(handle, FIRST_AT, (await handle.stat()).size)
        for (let frames = await reader.next(); frames !== undefined; frames = await reader.next())
          for (const frame of frames) {
            if (frame.key === undefined) continue
            this.keys.add(frame)
            heads.push(frameOf(frame, frame.payload).subarray(0, HEAD_BYTES))
            lastMs = Math.max(lastMs, frame.atMs)
          }
        end = reader.end
      } finally {
        await handle.close()
      }
      const temporary = temporaryPath(path)
      await copyFile(path, temporary)
      await truncate(temporary, end)
      await publish(temporary, path)
    } catch (error) {
      throw localIoError(error, `recover ${path}`)
    }
    await this.#seal(file, end, heads, lastMs)
  }
}

async function sizeOf(path: string): Promise<number> {
  try {
    return (await stat(path)).size
  } catch (error) {
    throw localIoError(error, `look at ${path}`)
  }
}

function damaged(path: string): AdflowError {
  return new AdflowError('STATE_DAMAGED', `${path} is not what the gateway writes there`, {
    hint: 'restore it, or move the journal away once the job has loaded what it can; nothing was touched',
  })
}
