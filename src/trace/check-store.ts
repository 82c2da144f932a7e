/** A store looked at itself, against what the ledger says that it was given. */
import type { StoreAudit } from '../core/store-contract.ts'
import { tokenNumber } from '../core/token.ts'
import type { PastBatch } from '../runtime/past-batches.ts'
import type { CheckedStore, Finding } from './certificate.ts'
import type { ExpectedContent } from './expected.ts'

export interface StoreCheck {
  readonly id: string
  readonly job: string
  /** undefined: its rows do not know their batches. */
  readonly audit: StoreAudit | undefined
  readonly expected: ReadonlyMap<string, ExpectedContent>
  /** Of the window, and of the whole ledger. */
  readonly batches: readonly PastBatch[]
  readonly all: readonly PastBatch[]
}

export interface StoreVerdict {
  readonly checked: CheckedStore
  readonly findings: readonly Finding[]
  /** Token of a batch → rows of it that later ones have replaced. */
  readonly replaced: ReadonlyMap<string, number>
}

export function checkStore(check: StoreCheck): StoreVerdict {
  const { id, audit, expected, all } = check
  const given = check.batches.filter((batch) => holds(batch, id))
  const rows = given.reduce((total, batch) => total + (batch.stores[id]?.rows ?? 0), 0)
  const told = { store: id, batches: given.length, rows }
  const replaced = new Map(given.map((batch) => [batch.token, expected.get(numberOf(batch, id))?.replaced ?? 0]))
  if (audit === undefined) {
    const checked =
      given.length === 0 ? 'nothing was loaded into it' : 'by the ledger alone: its rows do not know their batches'
    return { checked: { ...told, checked, digests: 0, unverified: given.length }, findings: [], replaced }
  }
  const findings: Finding[] = []
  let digests = 0
  for (const batch of given) {
    if (isReplacedWhole(batch, check, audit)) {
      replaced.set(batch.token, batch.stores[id]?.rows ?? 0)
      continue
    }
    const verdict = checkBatch(batch, check, audit)
    findings.push(...verdict.findings)
    digests += verdict.digest ? 1 : 0
  }
  findings.push(...strangers(check, audit, new Set(all.map((batch) => numberOf(batch, id)))))
  const checked = { ...told, checked: 'rows and digests', digests, unverified: given.length - digests }
  return { checked, findings, replaced }
}

/** It was loaded, not only owed. */
export function holds({ stores, paidAt }: PastBatch, id: string): boolean {
  const outcome = stores[id]
  return outcome !== undefined && (outcome.status !== 'owed' || paidAt[id] !== undefined)
}

function numberOf({ stores, token }: PastBatch, id: string): string {
  return String(tokenNumber(stores[id]?.token ?? token))
}

/** Nothing is there of a batch whose range was loaded anew under a later epoch, into a store that was emptied for it. Under `write:
 *  replace` a complete run has put its rows in the place of all earlier ones. */
function isReplacedWhole(batch: PastBatch, { id, all }: StoreCheck, { found, replaces }: StoreAudit): boolean {
  if (found.has(numberOf(batch, id))) return false
  if (all.some((other) => isAnew(other, batch) && holds(other, id))) return true
  if (!replaces) return false
  return all.some(
    (other) =>
      other.run !== batch.run && BigInt(other.sequence) > BigInt(batch.sequence) && found.has(numberOf(other, id)),
  )
}

function isAnew(other: PastBatch, { source, lane, from, to, epoch }: PastBatch): boolean {
  const sameLane = other.source === source && other.lane === lane && BigInt(other.epoch) > BigInt(epoch)
  return sameLane && BigInt(other.from) < BigInt(to) && BigInt(other.to) > BigInt(from)
}

function checkBatch(
  batch: PastBatch,
  { id, expected }: StoreCheck,
  { entries, found, algorithm }: StoreAudit,
): { readonly findings: readonly Finding[]; readonly digest: boolean } {
  const number = numberOf(batch, id)
  const there = found.get(number) ?? { rows: 0, value: '0', faults: [] }
  const should = expected.get(number)
  const rows = should?.rows ?? batch.stores[id]?.rows ?? 0
  const about = (finding: Pick<Finding, 'what' | 'rows' | 'message'>): Finding => ({
    stage: 'store',
    ...placeOf(batch),
    store: id,
    expected: rows,
    found: there.rows,
    ...finding,
  })
  const findings: Finding[] = []
  if (!entries.has(batch.stores[id]?.token ?? batch.token))
    findings.push(
      about({ what: 'entry', rows: 0, message: `${id} has lost its own record of the batch: it would load it again` }),
    )
  const off = Math.abs(rows - there.rows)
  for (const [index, fault] of there.faults.entries())
    findings.push(about({ what: 'file', rows: index === 0 ? Math.max(off, 1) : 0, message: `${id}: ${fault}` }))
  if (there.faults.length > 0) return { findings, digest: false }
  if (there.rows !== rows) {
    const what = there.rows < rows ? 'missing' : 'extra'
    const message = `${id} has ${there.rows} rows of the batch, and should have ${rows}: ${off} ${what === 'missing' ? 'lost' : 'too many'}`
    return { findings: [...findings, about({ what, rows: off, message })], digest: false }
  }
  const comparable = should?.value !== undefined && should.algorithm === algorithm
  // Of a batch without rows a store may have nothing to digest.
  if (!comparable || rows === 0 || should.value === there.value) return { findings, digest: comparable }
  const message = `${id} has ${rows} rows of the batch, but not those that were written: values were changed, or as many rows lost as doubled`
  return { findings: [...findings, about({ what: 'changed', rows: 1, message })], digest: true }
}

/** Rows and batches that the ledger does not know, and no other job has put there. */
function strangers(
  { id, job, expected, all }: StoreCheck,
  { entries, found }: StoreAudit,
  known: ReadonlySet<string>,
): Finding[] {
  const others = new Map([...entries].map(([token, entry]) => [String(tokenNumber(token)), { token, ...entry }]))
  const told = (finding: Pick<Finding, 'batch' | 'rows' | 'found' | 'message'>): Finding => ({
    stage: 'store',
    what: 'unknown',
    source: null,
    lane: null,
    from: null,
    to: null,
    store: id,
    expected: 0,
    ...finding,
  })
  const findings: Finding[] = []
  for (const [number, { rows }] of found) {
    const entry = others.get(number)
    if (number === '' || known.has(number) || (entry !== undefined && entry.job !== job)) continue
    const message = `${id} has ${rows} rows of batch ${entry?.token.slice(0, 12) ?? number}, which the ledger does not know`
    findings.push(told({ batch: entry?.token ?? number, rows, found: rows, message }))
  }
  for (const [number, { token, job: owner, rows }] of others)
    if (owner === job && !known.has(number) && !found.has(number))
      findings.push(
        told({
          batch: token,
          rows,
          found: 0,
          message: `${id} remembers batch ${token.slice(0, 12)}, which the ledger does not know`,
        }),
      )
  // Rows from before there was a number: those of batches that told no content.
  const before = all.reduce((total, batch) => {
    const number = numberOf(batch, id)
    return total + (holds(batch, id) && !expected.has(number) && !found.has(number) ? (batch.stores[id]?.rows ?? 0) : 0)
  }, 0)
  const without = found.get('')?.rows ?? 0
  const should = before + (expected.get('')?.rows ?? 0)
  if (without > Math.max(should, 0) && should >= 0) {
    const message = `${id} has ${without} rows without a batch, and should have ${should}: somebody else has put them there`
    findings.push({ ...told({ batch: null, rows: without - should, found: without, message }), expected: should })
  }
  return findings
}

export function placeOf({ source, lane, from, to, token }: PastBatch) {
  return { source, lane, from, to, batch: token }
}
