/** The audit report, for people: as tables, or as Markdown to be filed. */
import type { AuditReport } from '../runtime/audit-report.ts'
import { rowsText } from './rows-text.ts'
import { integer } from './table.ts'

type Row = Readonly<Record<string, unknown>>

export function auditText(report: AuditReport, format: 'table' | 'markdown'): string {
  const period = `${report.from ?? 'the beginning'} to ${report.to ?? 'now'}`
  const head = `the hash chain holds over ${integer(report.events)} events, head ${report.head}`
  const title = `Audit of ${report.job}, ${period}`
  const parts = [
    format === 'markdown' ? `# ${title}\n\n${head[0]?.toUpperCase()}${head.slice(1)}.` : `${title}\n${head}`,
    section('Books by day', report.days, format),
    section('Stores by day', report.stores, format),
    section('Rules', report.rules, format),
    section('Runs', report.runs, format),
    section(
      'Changes of the job',
      report.changes.map((change) => ({ ...change, changed: change.changed.join(', ') })),
      format,
    ),
    section(
      'What people did, and what went wrong',
      report.actions.map(({ seq, time, type, who, what }) => ({ event: seq, time, type, who, what })),
      format,
    ),
  ]
  return parts.join('\n\n')
}

function section(title: string, rows: readonly Row[], format: 'table' | 'markdown'): string {
  const name = format === 'markdown' ? `## ${title}\n` : title
  const [first] = rows
  if (first === undefined) return `${name}\nnothing`
  const columns = Object.keys(first)
  const types = columns.map((column) =>
    rows.every((row) => row[column] === null || /^-?\d+$/.test(String(row[column]))) ? 'BIGINT' : 'VARCHAR',
  )
  return `${name}\n${rowsText({ columns, types, rows: rows.map((row) => columns.map((column) => row[column])) }, format)}`
}
