/** Reads the end of a ledger segment that nobody writes to any more. */
import { type FileHandle, open } from 'node:fs/promises'
import { type LedgerHead, readLine } from './ledger-line.ts'

/** First bite of the tail; doubled until it holds a whole line. */
const TAIL_BYTES = 64 * 1024
const LINE_FEED = 10

/** The last event of a full segment; undefined where its end is not sound. */
export async function headOf(path: string): Promise<LedgerHead | undefined> {
  const handle = await open(path, 'r')
  try {
    const { size } = await handle.stat()
    for (let length = TAIL_BYTES; ; length *= 2) {
      const from = Math.max(0, size - length)
      const bytes = await readBytes(handle, from, size)
      if (bytes.at(-1) !== LINE_FEED) return undefined
      const before = bytes.lastIndexOf(LINE_FEED, -2)
      if (before < 0 && from > 0) continue
      const reading = readLine(bytes.subarray(before + 1, -1))
      return reading.ok ? reading.head : undefined
    }
  } finally {
    await handle.close()
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
