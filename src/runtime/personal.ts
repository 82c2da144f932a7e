/** Follows personal data through the steps: which columns of a step's output still show a personal column of the contract. */
import type { Column } from '../core/contracts.ts'
import { MAIN, type Pipeline } from './pipeline.ts'

/** Output (`main` or a step's id) → column → personal columns of the contract that it shows. */
export type PersonalColumns = ReadonlyMap<string, ReadonlyMap<string, readonly string[]>>

type Shown = ReadonlyMap<string, readonly string[]>

export function personalColumns(pipeline: Pipeline): PersonalColumns {
  const { steps, main } = personalFlow(pipeline)
  const outputs = [...steps].filter(([id]) => pipeline.outputs.get(id)?.kind === 'set' && id !== MAIN)
  return new Map([...outputs, [MAIN, main]])
}

/** The same after each step, whether a loader reads it there or not. */
export function personalFlow(pipeline: Pipeline): { readonly steps: PersonalColumns; readonly main: Shown } {
  const personal = pipeline.job.columns.filter((column) => column.personal).map((column) => column.name)
  let input: readonly Column[] = pipeline.base.columns
  let shown: Shown = new Map(personal.map((name) => [name, [name]]))
  const steps = new Map<string, Shown>()
  for (const { id, step } of pipeline.stages) {
    const hidden = new Set(step.hides ?? [])
    const showing = (columns: readonly Column[], kind: 'row' | 'set'): Shown => {
      const next = new Map<string, readonly string[]>()
      for (const column of columns) {
        const sources = hidden.has(column.name) ? [] : sourcesOf(column, input, shown, kind)
        if (sources.length > 0) next.set(column.name, sources)
      }
      return next
    }
    const next = showing(step.output.columns, step.kind)
    steps.set(id, next)
    for (const { name, relation } of step.branches ?? []) steps.set(name, showing(relation.columns, 'row'))
    if (pipeline.outputs.get(id)?.kind !== 'set') {
      input = step.output.columns
      shown = next
    }
  }
  return { steps, main: shown }
}

/** Lineage speaks of the contract's columns, so what a column shows is what those of the input with a common source show.
 *  Truth values tell nobody's name, and neither do counts: in a new row only a column of the same type can show a value. */
function sourcesOf(column: Column, input: readonly Column[], shown: Shown, kind: 'row' | 'set'): readonly string[] {
  if (column.type === 'BOOLEAN') return []
  const same = input.find(({ name }) => name === column.name)
  if (same !== undefined && same.from.join() === column.from.join()) return shown.get(column.name) ?? []
  const sources = input.flatMap(({ name, type, from }) => {
    const related = from.some((source) => column.from.includes(source)) && (kind === 'row' || type === column.type)
    return related ? (shown.get(name) ?? []) : []
  })
  return [...new Set(sources)]
}
