/** Tables for people: right-aligned numbers, no colour unless the terminal has it. */
import { createRequire } from 'node:module'
import type * as CliTable from 'cli-table3'

/** Loaded with the first table: most of what imports this file only writes numbers. */
const require = createRequire(import.meta.url)

export interface TableColumn {
  readonly name: string
  readonly align?: 'left' | 'right'
}

export function table(columns: readonly TableColumn[], rows: readonly (readonly (string | number)[])[]): string {
  const Table = require('cli-table3') as typeof CliTable.default
  const made = new Table({
    head: columns.map(({ name }) => name),
    colAligns: columns.map(({ align }) => align ?? 'left'),
    style: { head: [], border: [], compact: true },
    chars: {
      top: '',
      'top-mid': '',
      'top-left': '',
      'top-right': '',
      bottom: '',
      'bottom-mid': '',
      'bottom-left': '',
      'bottom-right': '',
      left: '',
      'left-mid': '',
      mid: '─',
      'mid-mid': '─',
      right: '',
      'right-mid': '',
      middle: '  ',
    },
  })
  made.push(...rows.map((row) => row.map((cell) => (typeof cell === 'number' ? integer(cell) : cell))))
  return made.toString()
}

const formatter = new Intl.NumberFormat('en-US', { maximumFractionDigits: 3 })

export function integer(value: number | bigint): string {
  return formatter.format(value)
}
