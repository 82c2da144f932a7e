/**
 * A run for a scheduled time. The daemon claims a time and starts `adflow run` for it; here, under the lock of the job, it
 * is decided whether that run may still be: not where a newer daemon leads, and not where the time has had its run.
 */
import { createReadStream } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { z } from 'zod'
import { AdflowError, EXIT, localIoError } from '../core/errors.ts'
import { ledgerSegments } from '../lineage/ledger-verify.ts'

/** Where a ledger ended at some instant: what was written later stands behind it. */
const place = z.strictObject({ segment: z.string(), byte: z.int().min(0) })
export type LedgerPlace = z.output<typeof place>

const ticket = z.strictObject({
  /** `<job>@<scheduled time>`. */
  slot: z.string().min(1),
  /** Of the daemon that leads. */
  epoch: z.int().min(1),
  /** Folder in which each epoch has a folder of its own. */
  epochs: z.string().min(1),
  /** The newest epoch is that of the daemons' lease in the server. */
  inServer: z.boolean().default(false),
  /** End of the job's ledger when the time was claimed. */
  since: place,
})
export type SlotTicket = z.output<typeof ticket>

/** @throws AdflowError USAGE */
export function parseTicket(text: string): SlotTicket {
  try {
    return ticket.parse(JSON.parse(text))
  } catch (error) {
    throw new AdflowError('USAGE', 'what stands behind --slot is not from `adflow daemon`', { cause: error })
  }
}

export interface SlotRun {
  readonly run: string
  readonly status: string
  readonly exit: number
  readonly code?: string
  readonly message?: string
}

/** The run that the time has had and that ended well, if there is one. Call under the lock of the job.
 *  @throws AdflowError FENCED where a newer daemon leads */
export async function admitSlot(
  slot: SlotTicket,
  ledger: string,
  newestOf = () => newestEpoch(slot.epochs),
): Promise<SlotRun | undefined> {
  const newest = await newestOf()
  if (newest > slot.epoch)
    throw new AdflowError(
      'FENCED',
      `the run for ${slot.slot} was started by a daemon that leads no more (epoch ${slot.epoch}; now ${newest})`,
      { hint: 'nothing was done; the daemon that leads now runs it' },
    )
  const last = await lastRunOf(slot.slot, ledger, slot.since)
  return last !== undefined && endedWell(last) ? last : undefined
}

export function endedWell({ status, exit }: Pick<SlotRun, 'status' | 'exit'>): boolean {
  return status !== 'interrupted' && (exit === EXIT.done || exit === EXIT.warnings)
}

/** Number of the newest epoch; 0: there was none. */
export async function newestEpoch(folder: string): Promise<number> {
  try {
    return Math.max(0, ...(await readdir(folder)).filter((name) => /^\d{8}$/.test(name)).map(Number))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return 0
    throw localIoError(error, `list ${folder}`)
  }
}

/** Where the ledger ends now. */
export async function ledgerEnd(ledger: string): Promise<LedgerPlace> {
  const segment = (await ledgerSegments(ledger)).at(-1)
  if (segment === undefined) return { segment: '', byte: 0 }
  return { segment, byte: (await stat(join(ledger, segment))).size }
}

/** The last run for the time that ended, as the ledger tells it. Lines that are no events (a torn end) are passed over: whoever
 *  writes the ledger next looks at its chain. */
export async function lastRunOf(slot: string, ledger: string, since: LedgerPlace): Promise<SlotRun | undefined> {
  const named = JSON.stringify(slot)
  const runs = new Set<string>()
  let last: SlotRun | undefined
  for (const segment of (await ledgerSegments(ledger)).filter((name) => name >= since.segment)) {
    const path = join(ledger, segment)
    // A torn end may have been cut off since then, and the file be shorter or other lines begin there.
    const start = segment === since.segment && since.byte <= (await stat(path)).size ? since.byte : 0
    for await (const line of createInterface({ input: createReadStream(path, { start }), crlfDelay: Infinity })) {
      const starts = line.includes('"type":"run_started"') && line.includes(named)
      if (!starts && !(runs.size > 0 && line.includes('"type":"run_ended"'))) continue
      const event = parse(line)
      if (event?.type === 'run_started' && event.slot === slot) runs.add(event.run)
      else if (event?.type === 'run_ended' && runs.has(event.run)) last = event
    }
  }
  return last
}

function parse(line: string): (SlotRun & { readonly type: string; readonly slot?: string }) | undefined {
  try {
    return JSON.parse(line)
  } catch {
    return undefined
  }
}
