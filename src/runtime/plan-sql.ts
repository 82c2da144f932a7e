/** The SQL that a batch goes through, part by part, for people who want to read or try it. */
import { redact } from '../core/job/secrets.ts'
import { jsonSource, tableSql } from '../engine/read-plan.ts'
import { withoutRow } from '../engine/relation.ts'
import { ident } from '../engine/sql-text.ts'
import { type Pipeline, ROWS_VIEW } from './pipeline.ts'

export interface SqlPart {
  /** `read`, the id of a step, or the name of an output. */
  readonly name: string
  readonly what: string
  readonly sql: string
}

/** Stands for the bytes of a batch; other formats are read by another function and cast in the same way. */
const CHUNK = 'chunk.ndjson'

/** `$seq` is the batch's number. Each part reads the parts before it by their names. */
export function sqlOfChain({ plan, base, stages, outputs }: Pipeline): SqlPart[] {
  const read = tableSql(plan, jsonSource(plan, CHUNK), false)
  const parts: SqlPart[] = [
    { name: 'read', what: `raw text → typed rows and verdicts: ${ROWS_VIEW}`, sql: read },
    { name: 'base', what: 'rows that passed', sql: base.sql },
  ]
  const names: [sql: string, name: string][] = [[base.sql, 'base']]
  // The longest first: the SQL of a step holds that of the steps before it.
  const short = (sql: string) =>
    names.toReversed().reduce((text, [inner, name]) => text.replaceAll(`(${inner})`, ident(name)), sql)
  for (const { id, verb, step, inputTable, input } of stages) {
    if (inputTable !== undefined && step.state !== undefined) {
      parts.push({ name: inputTable, what: `${verb}: its input, as a table`, sql: short(input.sql) })
      for (const sql of step.state.mark(ident(inputTable)))
        parts.push({ name: id, what: `${verb}: marks of the batch`, sql })
      for (const sql of step.state.sweep ?? [])
        parts.push({ name: id, what: `${verb}: what no batch needs any more goes, now and then`, sql })
    }
    if (step.drops !== undefined)
      parts.push({ name: id, what: `${verb}: rows that are ${step.drops.as}`, sql: short(step.drops.sql) })
    parts.push({ name: id, what: `${verb}: rows that go on`, sql: short(step.output.sql) })
    names.push([step.output.sql, id])
  }
  for (const { name, relation } of outputs.values())
    parts.push({ name, what: 'rows as a store receives them', sql: short(withoutRow(relation)) })
  return parts.map((part) => ({ ...part, sql: redact(part.sql) }))
}
