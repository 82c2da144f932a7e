/** One line of the ledger: canonical JSON whose last member is the hash over the line before and this one. */
import { hash } from 'node:crypto'
import { canonicalJson } from '../core/canonical.ts'
import type { LedgerEvent } from './events.ts'

/** The end of the chain: what the next line is chained to. */
export interface LedgerHead {
  /** Number of the last event; 0 in an empty ledger. */
  readonly seq: number
  readonly hash: string
}

export const GENESIS: LedgerHead = { seq: 0, hash: '0'.repeat(64) }

/** As people note it: `<number>:<hash>`. */
export function headText({ seq, hash }: LedgerHead): string {
  return `${seq}:${hash}`
}

/** `run` is stamped on every line, so that each event can be told to its run. */
export function sealLine(event: LedgerEvent, head: LedgerHead, at: string, run: string | undefined) {
  const seq = head.seq + 1
  const body = canonicalJson({ ...(run === undefined ? {} : { run }), ...event, seq, at, prev: head.hash })
  const seal = hash('sha256', head.hash + body)
  return { text: `${body.slice(0, -1)},"hash":"${seal}"}\n`, head: { seq, hash: seal } }
}

const SEAL = /,"hash":"([0-9a-f]{64})"\}$/
const SEAL_BYTES = ',"hash":"'.length + 64 + '"}'.length
const CLOSE = Buffer.from('}')

export type LineReading =
  | { readonly ok: true; readonly prev: string; readonly head: LedgerHead }
  | { readonly ok: false; readonly reason: string }

/** The head after a line (without its line feed) that goes on from `head`; undefined where it does not, and readLine() says why.
 *  Nothing is parsed: the hash covers every byte, and a whole ledger is walked before it is believed. */
export function continues(line: Buffer, { seq, hash: prev }: LedgerHead): LedgerHead | undefined {
  const split = line.length - SEAL_BYTES
  const seal = split > 0 ? SEAL.exec(line.toString('latin1', split))?.[1] : undefined
  if (seal === undefined) return undefined
  const sealed = hash('sha256', Buffer.concat([Buffer.from(prev), line.subarray(0, split), CLOSE]))
  if (sealed !== seal) return undefined
  if (line.includes(`"seq":${seq + 1},`)) return { seq: seq + 1, hash: seal }
  const reading = readLine(line)
  return reading.ok && reading.prev === prev && reading.head.seq === seq + 1 ? reading.head : undefined
}

/** Checks a line (without its line feed) by itself; that `prev` is the line before is the caller's to see. */
export function readLine(line: Buffer): LineReading {
  const split = line.length - SEAL_BYTES
  const seal = split > 0 ? SEAL.exec(line.toString('latin1', split))?.[1] : undefined
  if (seal === undefined) return { ok: false, reason: 'the line does not end in a hash' }
  const body = Buffer.concat([line.subarray(0, split), CLOSE])
  let fields: { readonly prev?: unknown; readonly seq?: unknown }
  try {
    fields = JSON.parse(body.toString('utf8')) as typeof fields
  } catch {
    return { ok: false, reason: 'the line is not JSON' }
  }
  const { prev, seq } = fields
  if (typeof prev !== 'string' || typeof seq !== 'number')
    return { ok: false, reason: 'the line has no prev or no seq' }
  const sealed = hash('sha256', Buffer.concat([Buffer.from(prev), body]))
  if (sealed !== seal) return { ok: false, reason: 'the hash of the line does not hold' }
  return { ok: true, prev, head: { seq, hash: seal } }
}
