/** What sources offer, as tables for people. */
import type { DiscoveredSource, Offer } from '../core/discovery.ts'
import { sizeText } from '../core/job/units.ts'
import { table } from './table.ts'

/** What a system says of itself may be long. */
const MOST_ABOUT = 60

export function discoverText(sources: readonly DiscoveredSource[]): string {
  return sources.map(sourceText).join('\n\n')
}

function sourceText({ source, type, offers, more, error }: DiscoveredSource): string {
  const title = source === null ? '' : `${source} (${type})\n`
  if (error !== null) {
    const hint = error.hint === null ? '' : `\n  → ${error.hint}`
    return `${title}✖ ${error.code}: ${error.message}${hint}`
  }
  if (offers.length === 0) return `${title}nothing is there, or nothing that the user may see`
  const columns = [
    { name: 'kind' },
    { name: 'name' },
    { name: 'records', align: 'right' },
    { name: 'size', align: 'right' },
    { name: 'about' },
  ] as const
  const rest = more ? `\nonly the first ${offers.length} are shown; --match and --limit choose others` : ''
  return `${title}${table(columns, offers.map(offerRow))}${rest}`
}

function offerRow({ kind, name, records, bytes, about = '' }: Offer): (string | number)[] {
  const line = about.replaceAll(/\s+/g, ' ')
  return [
    kind,
    name,
    records ?? '',
    bytes === undefined ? '' : sizeText(bytes),
    line.length > MOST_ABOUT ? `${line.slice(0, MOST_ABOUT)}…` : line,
  ]
}
