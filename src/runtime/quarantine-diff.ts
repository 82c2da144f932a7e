/** Expected quarantine against the records that were refused: each expected one by the keys that it names. */
import type { TestRow } from '../core/job/job.ts'
import { pair } from './pairing.ts'
import type { QuarantineRecord } from './quarantine.ts'
import { jsonText } from './row-diff.ts'

export interface RefusedRow extends QuarantineRecord {
  readonly source: string
}

/** What differs, in lines for people. `reason` need only be contained; everything else must be equal. */
export function compareQuarantine(expected: readonly TestRow[], refused: readonly RefusedRow[]): string[] {
  const partner = pair(expected, refused, matches)
  const taken = new Set(partner.values())
  const missing = expected.filter((_, index) => !partner.has(index))
  const extra = refused.filter((_, index) => !taken.has(index))
  if (missing.length === 0 && extra.length === 0) return []
  return [
    `expected ${expected.length} refused, got ${refused.length}`,
    ...missing.map((row) => `- missing:      ${jsonText(row)}`),
    ...extra.map(({ source, rule, field, reason, raw }) => {
      const where = field === null ? rule : `${rule} of ${field}`
      return `+ not expected: ${where}: ${reason} — ${source}: ${raw ?? 'bytes that are no text'}`
    }),
  ]
}

function matches(expected: TestRow, record: RefusedRow): boolean {
  return Object.entries(expected).every(([key, value]) => {
    const found = Object.hasOwn(record, key) ? record[key as keyof RefusedRow] : undefined
    if (key === 'reason' && typeof found === 'string') return found.includes(String(value))
    return jsonText(value) === jsonText(found ?? null)
  })
}
