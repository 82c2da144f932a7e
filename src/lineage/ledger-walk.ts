/** Walks the lines of one ledger segment along the hash chain, and names the first place where it does not hold. */
import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { localIoError } from '../core/errors.ts'
import { continues, type LedgerHead, readLine } from './ledger-line.ts'

/** A head noted elsewhere: in an audit report, by a colleague. Without `seq` the event may have any number. */
export interface LedgerAnchor {
  readonly seq?: number
  readonly hash: string
}

/** Reads `<number>:<hash>`, or a hash alone; undefined where it is neither. */
export function anchorOf(text: string): LedgerAnchor | undefined {
  const [, seq, hash] = /^(?:(\d{1,15}):)?([0-9a-f]{64})$/.exec(text) ?? []
  if (hash === undefined) return undefined
  return seq === undefined ? { hash } : { seq: Number(seq), hash }
}

export interface SegmentWalk {
  /** Of the last sound line; what the walk started from where there is none. */
  readonly head: LedgerHead
  /** Where the last sound line ends. */
  readonly end: number
  readonly size: number
  /** Number of the line that follows the last sound one, from 1. */
  readonly line: number
  /** What is wrong with the line at `end`, where something is. */
  readonly damage?: string
  /** The anchor's event was among the lines. */
  readonly anchored: boolean
}

const LINE_FEED = 10
/** One byte alone is no hole: pages arrive, or they do not. */
const HOLE = Buffer.alloc(2)

/** Of the newest segment (`open`) the last line may be torn: a write that is going on, or that a crash cut off. Then `end` lies
 *  before `size` without damage. A torn line lacks its line feed, or has a hole where its bytes never arrived; nothing else that
 *  is wrong with a line comes from a crash. */
export async function walkSegment(
  path: string,
  from: LedgerHead,
  { open, anchor }: { readonly open: boolean; readonly anchor?: LedgerAnchor },
): Promise<SegmentWalk> {
  let head = from
  let end = 0
  let line = 1
  let anchored = false
  try {
    const { size } = await stat(path)
    const stopped = (damage?: string): SegmentWalk => ({
      head,
      end,
      size,
      line,
      anchored,
      ...(damage === undefined ? {} : { damage }),
    })
    for await (const { bytes, ended } of lines(path)) {
      if (!ended) {
        if (!open) return stopped('the last line of a full segment is unfinished')
        if (lineFeedChanged(bytes, head)) return stopped('the line does not end in a line feed')
        return stopped()
      }
      const next = continues(bytes, head)
      if (next === undefined) {
        const last = end + bytes.length + 1 >= size
        return stopped(open && last && bytes.includes(HOLE) ? undefined : whatIsWrong(bytes, head))
      }
      head = next
      end += bytes.length + 1
      line += 1
      if (anchor === undefined) continue
      if (head.hash === anchor.hash) anchored = true
      else if (head.seq === anchor.seq) {
        line -= 1
        end -= bytes.length + 1
        return stopped('the event is not the one that was noted elsewhere under its number')
      }
    }
    return stopped()
  } catch (error) {
    throw localIoError(error, `read the ledger segment ${path}`)
  }
}

/** A write that was cut off never holds a whole line and something else: a byte of the file was changed. */
function lineFeedChanged(bytes: Buffer, head: LedgerHead): boolean {
  return continues(bytes.subarray(0, -1), head) !== undefined
}

function whatIsWrong(bytes: Buffer, head: LedgerHead): string {
  const reading = readLine(bytes)
  if (!reading.ok) return reading.reason
  if (reading.prev !== head.hash) return 'the line is not chained to the one before'
  return `event ${reading.head.seq} follows event ${head.seq}`
}

/** Lines without their line feed; `ended: false` for a last one that has none. */
async function* lines(path: string): AsyncGenerator<{ readonly bytes: Buffer; readonly ended: boolean }> {
  let parts: Buffer[] = []
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 }) as AsyncIterable<Buffer>) {
    let from = 0
    for (let to = chunk.indexOf(LINE_FEED); to >= 0; to = chunk.indexOf(LINE_FEED, from)) {
      parts.push(chunk.subarray(from, to))
      yield { bytes: parts.length === 1 ? chunk.subarray(from, to) : Buffer.concat(parts), ended: true }
      parts = []
      from = to + 1
    }
    if (from < chunk.length) parts.push(chunk.subarray(from))
  }
  if (parts.length > 0) yield { bytes: Buffer.concat(parts), ended: false }
}
