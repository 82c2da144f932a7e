/** Walks the whole hash chain of a ledger and names the first place where it does not hold. */
import { createReadStream } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { AdflowError, localIoError } from '../core/errors.ts'
import { GENESIS, type LedgerHead, readLine } from './ledger-line.ts'

/** Where the chain breaks. `line` is 1-based, `byte` is where that line begins; both within the segment. */
export interface LedgerDamage {
  readonly segment: string
  readonly line: number
  readonly byte: number
  readonly reason: string
}

export interface LedgerReport {
  readonly segments: number
  readonly events: number
  readonly head: LedgerHead
  readonly damage?: LedgerDamage
  /** Unfinished last line of the last segment: a write that is going on, or that a crash cut off. No damage. */
  readonly torn?: { readonly segment: string; readonly byte: number; readonly bytes: number }
}

const SEGMENT = /^\d{6}\.ndjson$/
const LINE_FEED = 10

/** Segment file names in order: 000001.ndjson … */
export async function ledgerSegments(directory: string): Promise<readonly string[]> {
  try {
    return (await readdir(directory)).filter((name) => SEGMENT.test(name)).sort()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw localIoError(error, `list the ledger in ${directory}`)
  }
}

export function segmentName(number: number): string {
  return `${String(number).padStart(6, '0')}.ndjson`
}

/** `anchor`: a head noted elsewhere (in the checkpoint, in an audit report). The chain alone cannot show that its newest
 *  events were cut off, nor that all of it was written anew; an anchor can. */
export async function verifyLedger(directory: string, anchor?: LedgerHead): Promise<LedgerReport> {
  const names = await ledgerSegments(directory)
  let head: LedgerHead = GENESIS
  let place = { segment: segmentName(1), line: 1, byte: 0 }
  const report = (more: Pick<LedgerReport, 'damage' | 'torn'> = {}): LedgerReport => ({
    segments: names.length,
    events: head.seq,
    head,
    ...more,
  })
  const damage = (reason: string) => report({ damage: { ...place, reason } })
  let torn: LedgerReport['torn']
  for (const [index, segment] of names.entries()) {
    place = { segment: segmentName(index + 1), line: 1, byte: 0 }
    if (segment !== place.segment) return damage('the segment is missing')
    for await (const { bytes, ended } of lines(join(directory, segment))) {
      if (!ended && index < names.length - 1) return damage('the last line of a full segment is unfinished')
      if (!ended) {
        torn = { segment, byte: place.byte, bytes: bytes.length }
        break
      }
      const reading = readLine(bytes)
      if (!reading.ok) return damage(reading.reason)
      if (reading.prev !== head.hash) return damage('the line is not chained to the one before')
      if (reading.head.seq !== head.seq + 1) return damage(`event ${reading.head.seq} follows event ${head.seq}`)
      if (reading.head.seq === anchor?.seq && reading.head.hash !== anchor.hash)
        return damage('the event is not the one that was noted elsewhere under its number')
      head = reading.head
      place = { segment, line: place.line + 1, byte: place.byte + bytes.length + 1 }
    }
  }
  if (anchor !== undefined && anchor.seq > head.seq)
    return damage(`the ledger ends at event ${head.seq}, but event ${anchor.seq} was noted elsewhere`)
  return report(torn === undefined ? {} : { torn })
}

export function ledgerDamaged(directory: string, damage: LedgerDamage): AdflowError {
  const place = `${join(directory, damage.segment)}, line ${damage.line}, byte ${damage.byte}`
  return new AdflowError('LEDGER_DAMAGED', `the hash chain of the ledger does not hold at ${place}: ${damage.reason}`, {
    hint: 'keep the folder as evidence and restore the ledger from a backup; nothing was touched',
    details: { ...damage },
  })
}

/** Lines without their line feed; `ended: false` for a last one that has none. */
async function* lines(path: string): AsyncGenerator<{ readonly bytes: Buffer; readonly ended: boolean }> {
  let parts: Buffer[] = []
  try {
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
  } catch (error) {
    throw localIoError(error, `read the ledger segment ${path}`)
  }
  if (parts.length > 0) yield { bytes: Buffer.concat(parts), ended: false }
}
