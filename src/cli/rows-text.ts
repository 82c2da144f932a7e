/** Query results in the formats people and programs ask for. */
import { table } from './table.ts'

export const ROW_FORMATS = ['table', 'csv', 'ndjson', 'markdown'] as const
export type RowFormat = (typeof ROW_FORMATS)[number]

export interface Rows {
  readonly columns: readonly string[]
  readonly types: readonly string[]
  readonly rows: readonly (readonly unknown[])[]
}

const NUMERIC = /^(?:U?(?:TINY|SMALL|BIG|HUGE)?INT(?:EGER)?|DOUBLE|FLOAT|DECIMAL.*)$/

export function rowsText({ columns, types, rows }: Rows, format: RowFormat): string {
  switch (format) {
    case 'ndjson':
      return rows
        .map((row) => JSON.stringify(Object.fromEntries(columns.map((name, index) => [name, row[index] ?? null]))))
        .join('\n')
    case 'csv':
      return [columns.map(csvField), ...rows.map((row) => row.map(csvField))].map((line) => line.join(',')).join('\n')
    case 'markdown': {
      const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`
      const rule = types.map((type) => (NUMERIC.test(type) ? '---:' : '---'))
      return [
        line(columns),
        line(rule),
        ...rows.map((row) => line(row.map((value) => text(value).replaceAll('|', '\\|').replaceAll('\n', ' ')))),
      ].join('\n')
    }
    default: {
      const heads = columns.map((name, index) => ({
        name,
        align: NUMERIC.test(types[index] ?? '') ? ('right' as const) : ('left' as const),
      }))
      return table(
        heads,
        rows.map((row) => row.map((value) => shorten(text(value)))),
      )
    }
  }
}

function text(value: unknown): string {
  if (value === null || value === undefined) return ''
  return typeof value === 'object' ? JSON.stringify(value) : String(value)
}

function shorten(value: string): string {
  const line = value.replaceAll(/\s+/g, ' ')
  return line.length > 120 ? `${line.slice(0, 119)}…` : line
}

/** RFC 4180; NULL is an empty field, an empty text a quoted one. */
function csvField(value: unknown): string {
  if (value === null || value === undefined) return ''
  const field = text(value)
  return field === '' || /[",\r\n]/.test(field) ? `"${field.replaceAll('"', '""')}"` : field
}
