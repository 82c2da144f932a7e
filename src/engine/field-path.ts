/** Where a column stands in a record. By itself, since whoever cuts records needs no engine for it. */
import type { ContractColumn } from './read-plan.ts'

/** A dot in `from` is a step into an object; a column without `from` is read by its name as it stands. */
export function pathOf(column: Pick<ContractColumn, 'name' | 'from'>): string[] {
  return column.from === column.name ? [column.name] : column.from.split('.')
}
