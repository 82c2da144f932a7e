/** Open gaps, for people. */
import type { OpenGapStatus } from '../runtime/gaps.ts'
import { table } from './table.ts'

export function gapsText(job: string, gaps: readonly OpenGapStatus[]): string {
  if (gaps.length === 0) return `${job}: no open gaps`
  const rows = gaps.map(({ source, lane, from, since, times, code }) => [source, lane, from, since, times, code])
  const columns = ['source', 'lane', 'from', 'since', 'times', 'code'].map((name) => ({
    name,
    align: name === 'from' || name === 'times' ? ('right' as const) : ('left' as const),
  }))
  const reasons = gaps.map(({ source, lane, message, optional }) => {
    const gone = optional === null ? ' (the job has no such source any more)' : ''
    return `${source} ${lane}: ${message}${gone}`
  })
  return [
    `${job}: ${gaps.length} open ${gaps.length === 1 ? 'gap' : 'gaps'}`,
    '',
    table(columns, rows),
    '',
    ...new Set(reasons),
    '',
    'the next run asks for what is missing; `adflow gaps --collect` does it now, and reads no other source',
  ].join('\n')
}
