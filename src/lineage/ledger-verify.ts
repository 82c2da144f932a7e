/** Walks the whole hash chain of a ledger and names the first place where it does not hold. */
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { AdflowError, localIoError } from '../core/errors.ts'
import { GENESIS, type LedgerHead } from './ledger-line.ts'
import { type LedgerAnchor, walkSegment } from './ledger-walk.ts'

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
  /** Torn last line of the last segment: a write that is going on, or that a crash cut off. No damage. */
  readonly torn?: { readonly segment: string; readonly byte: number; readonly bytes: number }
}

const SEGMENT = /^\d{6}\.ndjson$/

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

/** `anchor`: a head noted elsewhere (in an audit report, in another system). The chain alone cannot show that its newest
 *  events were cut off, nor that all of it was written anew; an anchor can. `signal` is looked at before each segment. */
export async function verifyLedger(
  directory: string,
  anchor?: LedgerAnchor,
  signal?: AbortSignal,
): Promise<LedgerReport> {
  const names = await ledgerSegments(directory)
  let head: LedgerHead = GENESIS
  let anchored = anchor === undefined
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
    signal?.throwIfAborted()
    place = { segment: segmentName(index + 1), line: 1, byte: 0 }
    if (segment !== place.segment) return damage('the segment is missing')
    const walk = await walkSegment(join(directory, segment), head, {
      open: index === names.length - 1,
      ...(anchor === undefined ? {} : { anchor }),
    })
    head = walk.head
    place = { segment, line: walk.line, byte: walk.end }
    anchored ||= walk.anchored
    if (walk.damage !== undefined) return damage(walk.damage)
    if (walk.end < walk.size) torn = { segment, byte: walk.end, bytes: walk.size - walk.end }
  }
  if (!anchored) return damage(notThere(head, anchor))
  return report(torn === undefined ? {} : { torn })
}

/** For whoever reads the ledger: figures of a chain that does not hold are worth nothing.
 *  @throws AdflowError LEDGER_DAMAGED with the place. */
export async function requireSoundLedger(directory: string): Promise<void> {
  const { damage } = await verifyLedger(directory)
  if (damage !== undefined) throw ledgerDamaged(directory, damage)
}

export function ledgerDamaged(directory: string, damage: LedgerDamage): AdflowError {
  const place = `${join(directory, damage.segment)}, line ${damage.line}, byte ${damage.byte}`
  return new AdflowError('LEDGER_DAMAGED', `the hash chain of the ledger does not hold at ${place}: ${damage.reason}`, {
    hint: 'nothing was touched: keep the folder as evidence and restore it from a backup; without one, move it away, and the next run begins a new ledger',
    details: { ...damage },
  })
}

function notThere(head: LedgerHead, anchor: LedgerAnchor | undefined): string {
  if (anchor?.seq !== undefined && anchor.seq > head.seq)
    return `the ledger ends at event ${head.seq}, but event ${anchor.seq} was noted elsewhere`
  return `the ledger ends at event ${head.seq}, and no event of it has the hash that was noted elsewhere: its end was cut off, or it was written anew`
}
