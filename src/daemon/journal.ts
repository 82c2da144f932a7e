/**
 * The slot journal: what was decided about scheduled times, appended and synced before it is acted upon. Each leader writes
 * files of its own, in the folder of its epoch; each file begins with all that was known, so that the newest file is enough.
 * What a former leader writes after another has taken over is read by nobody.
 */
import { type FileHandle, open, readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { appendDurably, writeDurably } from '../core/durable.ts'
import { AdflowError, localIoError } from '../core/errors.ts'
import { newestEpoch } from '../runtime/slot.ts'
import { epochFolder, type Leadership } from './epoch.ts'
import { type JournalRecord, SlotBook } from './slot-book.ts'

const FILE_BYTES = 4_000_000
const FILE = /^journal-\d{6}\.ndjson$/

export interface JournalOptions {
  /** A file that has reached this size gets no further records. */
  readonly fileBytes?: number
}

export class Journal {
  readonly book: SlotBook
  readonly #leader: Leadership
  readonly #fileBytes: number
  #number = 0
  #bytes = 0
  #handle: FileHandle | undefined

  private constructor(leader: Leadership, book: SlotBook, { fileBytes = FILE_BYTES }: JournalOptions) {
    this.#leader = leader
    this.book = book
    this.#fileBytes = fileBytes
  }

  /** Reads what former leaders have decided and begins a file of this one. @throws AdflowError STATE_DAMAGED */
  static async open(epochs: string, leader: Leadership, options: JournalOptions = {}): Promise<Journal> {
    const journal = new Journal(leader, await readBook(epochs), options)
    await journal.#rotate()
    return journal
  }

  /** Resolved: on disk, and in the book. Rejected: end the daemon; the next one reads what is on disk. One call at a time.
   *  @throws AdflowError FENCED where another daemon leads, and then nothing was written */
  async append(records: readonly JournalRecord[]): Promise<void> {
    if (records.length === 0) return
    await this.#leader.check()
    if (this.#bytes >= this.#fileBytes) await this.#rotate()
    const data = Buffer.from(records.map((record) => `${JSON.stringify(record)}\n`).join(''))
    if (this.#handle === undefined) throw new AdflowError('UNEXPECTED', 'the slot journal is closed')
    await appendDurably(this.#handle, data, this.#path(this.#number))
    this.#bytes += data.length
    for (const record of records) this.book.apply(record)
  }

  async close(): Promise<void> {
    await this.#handle?.close()
    this.#handle = undefined
  }

  async #rotate(): Promise<void> {
    const before = this.#number
    this.#number += 1
    const path = this.#path(this.#number)
    await writeDurably(path, `${JSON.stringify(this.book.snapshot())}\n`)
    await this.#handle?.close()
    this.#handle = await open(path, 'a')
    this.#bytes = 0
    if (before > 0) await rm(this.#path(before), { force: true })
  }

  #path(number: number): string {
    return join(this.#leader.folder, `journal-${String(number).padStart(6, '0')}.ndjson`)
  }
}

/** What the journal says now; to look at it, also while a leader writes. */
export async function readBook(epochs: string): Promise<SlotBook> {
  const book = new SlotBook()
  const path = await newestFile(epochs)
  if (path === undefined) return book
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return readBook(epochs) // a newer one has taken its place
    throw localIoError(error, `read ${path}`)
  }
  // What stands behind the last line feed was not synced, and nobody has acted upon it.
  for (const [index, line] of text.split('\n').slice(0, -1).entries()) {
    try {
      book.apply(JSON.parse(line) as JournalRecord)
    } catch (error) {
      throw new AdflowError('STATE_DAMAGED', `line ${index + 1} of ${path} is no record of the slot journal`, {
        cause: error,
        hint: 'restore the file; without it nobody knows which scheduled times have had their run; nothing was touched',
      })
    }
  }
  return book
}

/** A leader that was killed before its first file is durable has decided nothing. */
async function newestFile(epochs: string): Promise<string | undefined> {
  for (let epoch = await newestEpoch(epochs); epoch > 0; epoch -= 1) {
    const folder = epochFolder(epochs, epoch)
    const names = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return []
      throw localIoError(error, `list ${folder}`)
    })
    const newest = names
      .filter((name) => FILE.test(name))
      .sort()
      .at(-1)
    if (newest !== undefined) return join(folder, newest)
  }
  return undefined
}
