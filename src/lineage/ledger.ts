/**
 * The append-only event store of one job: NDJSON segments in a hash chain. Many appends share one write and one fsync.
 * Opening walks the segment that it goes on with; `verifyLedger` walks everything.
 */
import { type FileHandle, mkdir, open } from 'node:fs/promises'
import { join } from 'node:path'
import { canonicalJson } from '../core/canonical.ts'
import { appendDurably, syncDirectory, truncateDurably, writeDurably } from '../core/durable.ts'
import { localIoError } from '../core/errors.ts'
import { GroupCommit } from '../core/group-commit.ts'
import type { LedgerEvent } from './events.ts'
import { GENESIS, type LedgerHead, sealLine } from './ledger-line.ts'
import { headOf, readBytes } from './ledger-tail.ts'
import { ledgerDamaged, ledgerSegments, segmentName, verifyLedger } from './ledger-verify.ts'
import { type SegmentWalk, walkSegment } from './ledger-walk.ts'

export interface LedgerOptions {
  /** Stamped on every event. */
  readonly run?: string
  /** A segment that has reached this size gets no further events. */
  readonly segmentBytes?: number
  readonly now?: () => Date
}

/** What stood behind the last sound line: a write that a crash had torn, and that was never acknowledged. */
export interface LedgerCut {
  readonly segment: string
  readonly byte: number
  readonly bytes: number
  /** The file in the folder of the ledger that keeps the bytes. */
  readonly kept: string
}

const SEGMENT_BYTES = 64 * 1024 * 1024

/** Creates the folder where it is missing. One process at a time may hold a ledger open: the lock of the job sees to it. */
export async function openLedger(directory: string, options: LedgerOptions = {}): Promise<Ledger> {
  try {
    await mkdir(directory, { recursive: true })
    const names = await ledgerSegments(directory)
    if (names.some((name, index) => name !== segmentName(index + 1))) throw await damaged(directory)
    const number = Math.max(names.length, 1)
    const before = number === 1 ? GENESIS : await headOf(join(directory, segmentName(number - 1)))
    if (before === undefined) throw await damaged(directory)
    const path = join(directory, segmentName(number))
    if (names.length === 0) await (await open(path, 'a')).close()
    const walk = await walkSegment(path, before, { open: true })
    // Nothing is touched where the chain does not hold: what stands there is evidence.
    if (walk.damage !== undefined) throw await damaged(directory)
    const handle = await open(path, 'a+')
    try {
      await syncDirectory(directory)
      const cut = walk.size === walk.end ? undefined : await cutOff(directory, segmentName(number), handle, walk)
      return new Ledger(directory, options, { handle, number, bytes: walk.end, head: walk.head, cut })
    } catch (error) {
      await handle.close()
      throw error
    }
  } catch (error) {
    throw localIoError(error, `open the ledger in ${directory}`)
  }
}

/** The bytes are kept aside: should they not be a torn write, they are evidence. */
async function cutOff(
  directory: string,
  segment: string,
  handle: FileHandle,
  { end, size }: SegmentWalk,
): Promise<LedgerCut> {
  const kept = `${segment}.${end}.cut`
  await writeDurably(join(directory, kept), await readBytes(handle, end, size))
  await truncateDurably(handle, end, join(directory, segment))
  return { segment, byte: end, bytes: size - end, kept }
}

interface Stamped {
  readonly event: LedgerEvent
  readonly at: string
}

interface Opened {
  readonly handle: FileHandle
  readonly number: number
  readonly bytes: number
  readonly head: LedgerHead
  readonly cut: LedgerCut | undefined
}

export class Ledger {
  /** Set where the last write before a crash was torn; the caller must say so. */
  readonly cut: LedgerCut | undefined
  readonly #directory: string
  readonly #run: string | undefined
  readonly #segmentBytes: number
  readonly #now: () => Date
  readonly #commits: GroupCommit<readonly Stamped[]>
  #handle: FileHandle
  #number: number
  #bytes: number
  #head: LedgerHead
  #closed = false
  #watcher: ((events: readonly LedgerEvent[]) => void) | undefined

  constructor(directory: string, options: LedgerOptions, opened: Opened) {
    this.#directory = directory
    this.#run = options.run
    this.#segmentBytes = options.segmentBytes ?? SEGMENT_BYTES
    this.#now = options.now ?? (() => new Date())
    this.#handle = opened.handle
    this.#number = opened.number
    this.#bytes = opened.bytes
    this.#head = opened.head
    this.cut = opened.cut
    this.#commits = new GroupCommit((groups) => this.#write(groups.flat()))
  }

  /** The last durable event: note it elsewhere as an anchor for verifyLedger. */
  get head(): LedgerHead {
    return this.#head
  }

  /** From now on `watcher` is told of events once they are durable, before their append resolves. It must not throw. */
  watch(watcher: (events: readonly LedgerEvent[]) => void): void {
    this.#watcher = watcher
  }

  /** Resolves when the events are on disk, in this order and with nothing in between. After a failed write everything
   *  pending and everything later is rejected with its error: end the run, the next one cuts off what was torn. */
  append(events: readonly LedgerEvent[]): Promise<void> {
    if (this.#closed) return Promise.reject(new Error('cannot append to the ledger: it is closed'))
    if (events.length === 0) return Promise.resolve()
    try {
      canonicalJson(events) // an event that JSON cannot carry must not fail the group of others
    } catch (error) {
      return Promise.reject(error)
    }
    const at = this.#now().toISOString()
    return this.#commits.add(events.map((event) => ({ event, at })))
  }

  /** Waits for what is on its way, then closes the file. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    await this.#commits.idle()
    await this.#handle.close()
  }

  async #write(events: readonly Stamped[]): Promise<void> {
    if (this.#bytes >= this.#segmentBytes) await this.#rotate()
    let head = this.#head
    const texts: string[] = []
    for (const { event, at } of events) {
      const line = sealLine(event, head, at, this.#run)
      texts.push(line.text)
      head = line.head
    }
    const data = Buffer.from(texts.join(''))
    await appendDurably(this.#handle, data, join(this.#directory, segmentName(this.#number)))
    this.#bytes += data.length
    this.#head = head
    this.#watcher?.(events.map(({ event }) => event))
  }

  async #rotate(): Promise<void> {
    const path = join(this.#directory, segmentName(this.#number + 1))
    try {
      const next = await open(path, 'ax')
      await this.#handle.close()
      this.#handle = next
    } catch (error) {
      throw localIoError(error, `begin the ledger segment ${path}`)
    }
    await syncDirectory(this.#directory)
    this.#number += 1
    this.#bytes = 0
  }
}

async function damaged(directory: string): Promise<Error> {
  const { damage, segments } = await verifyLedger(directory)
  return ledgerDamaged(
    directory,
    damage ?? { segment: segmentName(segments), line: 0, byte: 0, reason: 'the end is unreadable' },
  )
}
