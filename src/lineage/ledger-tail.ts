/** Reads the end of a ledger segment: the last sound line, and whether something torn stands behind it. */
import { type FileHandle, open } from 'node:fs/promises'
import { type LedgerHead, readLine } from './ledger-line.ts'

/** First bite of the tail; doubled until it holds two whole lines. */
const TAIL_BYTES = 64 * 1024
const LINE_FEED = 10

/** The last event of a segment that nobody writes to any more; undefined where its end is not sound. */
export async function headOf(path: string): Promise<LedgerHead | undefined> {
  const handle = await open(path, 'r')
  try {
    const { head, end, size } = await readTail(handle)
    return end === size ? head : undefined
  } finally {
    await handle.close()
  }
}

export interface Tail {
  readonly size: number
  /** Where the last sound line ends; behind it may stand one torn line. */
  readonly end: number
  /** Of the line that ends at `end`. Undefined where `end` is 0, or where that line is damaged as well. */
  readonly head: LedgerHead | undefined
}

/** Finds the last sound line. At most one line behind it is passed over: unfinished, or finished but not whole (a file
 *  that grew before its bytes arrived). Damage further up is no torn write, and is not cut off. */
export async function readTail(handle: FileHandle): Promise<Tail> {
  const { size } = await handle.stat()
  for (let length = TAIL_BYTES; ; length *= 2) {
    const from = Math.max(0, size - length)
    const bytes = await readBytes(handle, from, size)
    // Line starts that are certain: the begin of the file, and behind each line feed.
    const starts = from === 0 ? [0] : []
    for (let at = bytes.indexOf(LINE_FEED); at >= 0; at = bytes.indexOf(LINE_FEED, at + 1)) starts.push(at + 1)
    if (starts.length < 3 && from > 0) continue
    const last = starts.at(-1) ?? 0
    const [before, whole] = [starts.at(-3), starts.at(-2)]
    const unfinished = last < bytes.length
    if (whole === undefined) return { size, end: 0, head: undefined }
    const reading = readLine(bytes.subarray(whole, last - 1))
    if (reading.ok) return { size, end: from + last, head: reading.head }
    if (unfinished) return { size, end: from + last, head: undefined }
    if (before === undefined) return { size, end: 0, head: undefined }
    const earlier = readLine(bytes.subarray(before, whole - 1))
    return { size, end: from + whole, head: earlier.ok ? earlier.head : undefined }
  }
}

export async function readBytes(handle: FileHandle, from: number, to: number): Promise<Buffer> {
  const bytes = Buffer.alloc(to - from)
  for (let done = 0; done < bytes.length; ) {
    const { bytesRead } = await handle.read(bytes, done, bytes.length - done, from + done)
    if (bytesRead === 0) throw new Error('the file became shorter while it was read')
    done += bytesRead
  }
  return bytes
}
