/** What a job reads of the journal: whole frames that are on the disk, from a place on. The gateway may write meanwhile, or be gone. */
import { type FileHandle, open, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Dataset } from '../../core/contracts.ts'
import { AdflowError } from '../../core/errors.ts'
import type { Fetcher, FetchLane, FetchTask } from '../staging/fetcher.ts'
import { type Frame, FrameReader } from './frame.ts'
import {
  FIRST_AT,
  journalPath,
  listJournal,
  type Place,
  parsePlace,
  placeBefore,
  placeText,
  readLoaded,
  writeLoaded,
} from './journal-folder.ts'

/** A page is no larger, but for a single request that is. */
const PAGE_BYTES = 1 << 20

export interface JournalFetcherOptions {
  readonly job: string
  readonly source: string
  /** Has a folder for each lane. */
  readonly folder: string
  readonly lanes: readonly string[]
}

export class JournalFetcher implements Fetcher {
  readonly #options: JournalFetcherOptions

  constructor(options: JournalFetcherOptions) {
    this.#options = options
  }

  dataset(): Dataset {
    const { job, source } = this.#options
    return { namespace: 'push', name: `${job}/${source}` }
  }

  async lanes(): Promise<readonly FetchLane[]> {
    const { job, source, folder } = this.#options
    const lanes = await unreadable(folder, () => this.#lanesHere())
    for (const lane of lanes) await this.#loadedOf(lane)
    return lanes.map((lane) => ({ lane, origin: `push/${job}/${source}/${lane}` }))
  }

  /** One that is taken out of the job has been pushed to before: what was answered for is loaded. */
  async #lanesHere(): Promise<readonly string[]> {
    const { folder, lanes } = this.#options
    const others: string[] = []
    for (const name of await foldersIn(folder))
      if (!lanes.includes(name) && (await listJournal(join(folder, name))).journals.length > 0) others.push(name)
    return [...lanes, ...others.sort()]
  }

  async fetch(task: FetchTask): Promise<void> {
    const folder = join(this.#options.folder, task.lane)
    await unreadable(folder, () => new Pass(task, folder).run())
  }

  /** The gateway may remove what lies before. */
  async confirm(lane: string, cursor: string): Promise<void> {
    const { job, source, folder } = this.#options
    const place = parsePlace(cursor)
    const loaded = await this.#loadedOf(lane)
    if (place === undefined || (loaded?.file === place.file && loaded.at === place.at)) return
    await writeLoaded(join(folder, lane), { job, source, ...place })
  }

  async #loadedOf(lane: string) {
    const { job, source, folder } = this.#options
    const loaded = await readLoaded(join(folder, lane))
    if (loaded === undefined || (loaded.job === job && loaded.source === source)) return loaded
    throw new AdflowError(
      'SOURCE_UNSUPPORTED',
      `the journal in ${join(folder, lane)} is read by ${loaded.job}/${loaded.source}`,
      {
        hint: 'what one job has loaded is removed for all: give each its own `journal`, or remove `loaded.json` there if that job is no more',
      },
    )
  }
}

class Pass {
  readonly #task: FetchTask
  readonly #folder: string
  #place: Place | undefined

  constructor(task: FetchTask, folder: string) {
    this.#task = task
    this.#folder = folder
    this.#place = task.cursor === undefined ? undefined : parsePlace(task.cursor)
    if (task.cursor !== undefined && this.#place === undefined)
      throw new AdflowError(
        'SOURCE_CHANGED',
        `${task.origin}: the place \`${task.cursor}\` is none in a journal of pushes`,
      )
  }

  async run(): Promise<void> {
    // Files are listed before any is read: one that is followed by another is whole.
    const { journals } = await listJournal(this.#folder)
    const last = journals.at(-1)
    const { file: from = 0 } = this.#place ?? {}
    if (this.#place !== undefined && (last === undefined || last < from))
      throw this.#gone(`file ${from} and all after it`)
    for (const file of journals.filter((each) => each >= from)) {
      const handle = await open(journalPath(this.#folder, file), 'r').catch((error: NodeJS.ErrnoException) => {
        // The gateway removes what the checkpoint has; the next file tells whether that was all of it.
        if (error.code === 'ENOENT') return undefined
        throw error
      })
      if (handle === undefined) continue
      try {
        await this.#read(handle, file, file === last)
      } finally {
        await handle.close()
      }
    }
  }

  async #read(handle: FileHandle, file: number, last: boolean): Promise<void> {
    const before = await placeBefore(handle)
    if (before === undefined) throw this.#damaged(file, 0)
    const place = this.#place
    if (place !== undefined && place.file < file && (place.file !== before.file || place.at !== before.at))
      throw this.#gone(`from ${placeText(place)} to ${placeText(before)}`)
    const at = place?.file === file ? place.at : FIRST_AT
    // What can be read here may not be on the disk yet; nothing is loaded that a power cut could take back.
    const { size } = await handle.stat()
    if (last) await handle.datasync()
    const reader = new FrameReader(handle, at, size)
    this.#place = { file, at }
    for (let frames = await reader.next(); frames !== undefined; frames = await reader.next())
      await this.#pages(file, frames)
    if (!last && reader.end < size) throw this.#damaged(file, reader.end)
  }

  async #pages(file: number, frames: readonly Frame[]): Promise<void> {
    const { segmentBytes, signal } = this.#task
    const most = Math.min(PAGE_BYTES, segmentBytes)
    let page: Buffer[] = []
    let bytes = 0
    for (const { payload, end } of frames) {
      page.push(payload)
      bytes += payload.length
      if (bytes < most && end !== frames.at(-1)?.end) continue
      signal.throwIfAborted()
      await this.#page(file, end, page)
      page = []
      bytes = 0
    }
  }

  async #page(file: number, at: number, payloads: readonly Buffer[]): Promise<void> {
    const { sink } = this.#task
    await sink.write(Buffer.concat(payloads))
    this.#place = { file, at }
    await sink.page(placeText(this.#place))
  }

  #gone(what: string): AdflowError {
    return new AdflowError('SOURCE_CHANGED', `${this.#task.origin}: ${what} of the journal is not there any more`, {
      hint: `restore ${this.#folder}; where that cannot be done, \`adflow state set\` moves the position past it`,
    })
  }

  #damaged(file: number, at: number): AdflowError {
    return new AdflowError(
      'SOURCE_DAMAGED',
      `${this.#task.origin}: ${journalPath(this.#folder, file)} does not hold at byte ${at}`,
      {
        hint: 'restore the file; what comes before it is loaded',
      },
    )
  }
}

/** None where it is not there. */
async function foldersIn(folder: string): Promise<readonly string[]> {
  try {
    const entries = await readdir(folder, { withFileTypes: true })
    return entries.filter((entry) => entry.isDirectory()).map(({ name }) => name)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}

/** What the system refuses is a fault of the source: a gap, and not the end of the run. */
async function unreadable<T>(folder: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    const { code, cause } = error as NodeJS.ErrnoException & { cause?: NodeJS.ErrnoException }
    const failed = code === 'LOCAL_IO' ? cause : (error as NodeJS.ErrnoException)
    if (failed?.syscall === undefined || !['read', 'open', 'scandir', 'fdatasync', 'fstat'].includes(failed.syscall))
      throw error
    throw new AdflowError('SOURCE_UNREADABLE', `cannot read the journal of pushes in ${folder}: ${failed.message}`, {
      cause: error,
      hint: 'give the user of the job the rights of the gateway there, or set `journal`',
    })
  }
}
