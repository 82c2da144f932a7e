/** Findings of a diagnosis, made so that those of all systems read alike. */
import { statfs } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import type { Check, Diagnosis, Finding } from './diagnosis.ts'
import { AdflowError, ERROR_CODES, type ErrorCode } from './errors.ts'
import { sizeText } from './job/units.ts'

/** Clocks further apart than this confuse whoever compares times of adflow with times of the system. */
const APART_MS = 5000

export interface ClockAnswer {
  /** What the clock of the system says, in milliseconds since the epoch. */
  readonly systemMs: number
  /** The clock of this machine before the system was asked, and after it has answered. */
  readonly askedMs: number
  readonly answeredMs: number
  /** 1000 where the system tells whole seconds. */
  readonly resolutionMs?: number
  /** The system refuses requests of a clock that is further away; with what a run would fail then. */
  readonly refused?: { readonly beyondMs: number; readonly code: ErrorCode }
}

export interface Space {
  readonly freeBytes: number
  readonly totalBytes: number
}

/** A certificate that ends this soon is renewed by people, not by a machine that would have done it already. */
const ENDS_SOON_MS = 14 * 86_400_000

/** Below: a run that writes much ends with DISK_FULL before anybody has looked. */
const MIN_FREE_BYTES = 100e6
const LOW_BYTES = 1e9
/** Of a large disk this part, or so many bytes where that is less. */
const LOW_PART = 0.05
const LOW_PART_BYTES = 20e9

export type Findings = ReturnType<typeof findingsAt>

/** A diagnosis of one place (without credentials). */
export function diagnosisAt(place: string, ask: (at: Findings) => AsyncIterable<Finding>): Diagnosis {
  return { place, findings: ask(findingsAt(place)) }
}

/** Makers of findings about one place (without credentials). */
export function findingsAt(place: string) {
  const ok = (check: Check, found: string): Finding => ({ check, place, status: 'ok', found })
  const warning = (check: Check, found: string, mend: string): Finding => ({
    check,
    place,
    status: 'warning',
    found,
    mend,
  })
  const failed = (check: Check, code: ErrorCode, found: string, mend: string): Finding => ({
    check,
    place,
    status: 'failed',
    code,
    found,
    mend,
  })
  return {
    ok,
    warning,
    failed,
    /** It could not be asked; `mend` says how to find out. */
    unknown: (check: Check, found: string, mend: string): Finding => ({ check, place, status: 'unknown', found, mend }),
    /** What was thrown while `check` was asked. `code` is that of errors that are not AdflowErrors. */
    failure(check: Check, error: unknown, code: ErrorCode = 'UNEXPECTED'): Finding {
      if (!(error instanceof AdflowError)) return failed(check, code, textOf(error), ERROR_CODES[code].about)
      return failed(check, error.code, error.message, error.hint ?? ERROR_CODES[error.code].about)
    },
    clock(answer: ClockAnswer): Finding {
      const { apartMs, least } = apart(answer)
      const { refused } = answer
      if (least <= APART_MS) return ok('clock', 'agrees with this machine')
      const found = `${roughly(Math.abs(apartMs))} ${apartMs > 0 ? 'ahead of' : 'behind'} this machine`
      const mend = 'set both clocks by NTP, and see which of the two is wrong'
      if (refused === undefined || least <= refused.beyondMs) return warning('clock', found, mend)
      return failed('clock', refused.code, `${found}: refused beyond ${roughly(refused.beyondMs)}`, mend)
    },
    /** A connection whose certificate was checked. `validToMs`: when that ends; undefined: not known. */
    tls(protocol: string, validToMs: number | undefined, nowMs: number): Finding {
      if (validToMs === undefined) return ok('tls', `${protocol}, and the certificate is checked`)
      const left = validToMs - nowMs
      if (left > ENDS_SOON_MS)
        return ok(
          'tls',
          `${protocol}, and the certificate is good until ${new Date(validToMs).toISOString().slice(0, 10)}`,
        )
      const found = `${protocol}, and the certificate of the server ends in ${roughly(left)}`
      return warning('tls', found, 'renew it there: from then on nothing can be written')
    },
    /** `whose`: of a server's disk, or of this machine's. */
    disk({ freeBytes, totalBytes }: Space, whose: 'server' | 'machine'): Finding {
      const found = `${sizeText(freeBytes)} free of ${sizeText(totalBytes)}`
      const mend = `free space on the disk of ${whose === 'server' ? 'the server' : place}`
      const low = Math.max(LOW_BYTES, Math.min(LOW_PART * totalBytes, LOW_PART_BYTES))
      if (freeBytes < MIN_FREE_BYTES)
        return failed('disk', whose === 'server' ? 'STORE_UNAVAILABLE' : 'DISK_FULL', found, mend)
      return freeBytes < low ? warning('disk', found, mend) : ok('disk', found)
    },
  }
}

/** Of the file system of a folder that may not exist yet. */
export async function localSpace(folder: string): Promise<Space> {
  for (let at = resolve(folder); ; at = dirname(at)) {
    try {
      const { bavail, blocks, bsize } = await statfs(at)
      return { freeBytes: bavail * bsize, totalBytes: blocks * bsize }
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if ((code !== 'ENOENT' && code !== 'ENOTDIR') || at === dirname(at)) throw error
    }
  }
}

/** The clock of the system was read at some moment between question and answer: how far it is ahead, and how far at least. */
function apart({ systemMs, askedMs, answeredMs, resolutionMs = 0 }: ClockAnswer): {
  readonly apartMs: number
  readonly least: number
} {
  const lowest = systemMs - answeredMs
  const highest = systemMs + resolutionMs - askedMs
  const least = lowest <= 0 && highest >= 0 ? 0 : Math.min(Math.abs(lowest), Math.abs(highest))
  return { apartMs: (lowest + highest) / 2, least }
}

/** In one unit, for people. */
export function roughly(milliseconds: number): string {
  const seconds = Math.round(milliseconds / 1000)
  if (seconds < 120) return `${seconds} s`
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`
  return seconds < 172_800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86_400)} days`
}

function textOf(error: unknown): string {
  return error instanceof Error && error.message !== '' ? error.message : String(error)
}
