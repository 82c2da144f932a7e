import { z } from 'zod'
import type { Column, Relation } from '../core/contracts.ts'
import { defineStep } from '../core/define.ts'
import type { CompiledStep, StepEnv, Typed } from '../core/step-contract.ts'
import { columnNamed, project } from '../engine/relation.ts'
import { ident } from '../engine/sql-text.ts'
import { checkNames, operand, union } from '../engine/step-columns.ts'

export default defineStep({
  summary: 'Adds columns, or replaces them, and keeps the others.',
  description:
    'Expressions are taken in order: a later one sees the columns that earlier ones have made. A replaced column keeps its place. A row on which an expression fails goes to quarantine.',
  options: z
    .record(z.string().min(1), z.string().trim().min(1).describe('SQL expression over one row.'))
    .refine((columns) => Object.keys(columns).length > 0, 'name at least one column')
    .describe('Column → SQL expression, in order.'),
  example: { spend: 'cost_micros / 1000000::DECIMAL(18, 6)', rich: 'spend > 1' },
  sample: {
    columns: { event_id: 'BIGINT', cost_micros: 'DECIMAL(18, 0)' },
    rows: [
      { event_id: 1, cost_micros: '2500000' },
      { event_id: 2, cost_micros: null },
    ],
    expect: [
      { event_id: 1, cost_micros: '2500000', spend: 2.5, rich: true },
      { event_id: 2, cost_micros: null, spend: null, rich: null },
    ],
  },
  async compile(options, input: Relation, env: StepEnv): Promise<CompiledStep> {
    checkNames(Object.keys(options).map((name) => ({ name, path: [...env.path, name] })))
    const layers = new Layers(input)
    for (const [name, sql] of Object.entries(options)) {
      const typed = await env.analysis.row({ sql, path: [...env.path, name] }, layers.named())
      layers.add(name, sql, typed)
    }
    return { output: layers.output(), kind: 'row', expressions: layers.expressions }
  },
})

interface Item {
  readonly column: Column
  readonly sql: string
}

/** Nested projections: an expression that reads a column made before it starts a new one. */
class Layers {
  readonly #input: Relation
  #base: Relation
  /** The base with NULL where an expression failed, so that a failure is found in its own expression only. */
  #unfailing: Relation
  #pending: Item[] = []
  readonly expressions: { field: string; sql: string; over?: string }[] = []

  constructor(input: Relation) {
    this.#input = input
    this.#base = input
    this.#unfailing = input
  }

  /** What the next expression sees; each column is its own source, so that typing tells which columns it reads. */
  named(): Relation {
    const columns = this.#items().map(({ column }) => ({ ...column, from: [column.name] }))
    return { sql: this.#base.sql, columns }
  }

  add(name: string, sql: string, typed: Typed): void {
    const visible = { sql: '', columns: this.#items().map(({ column }) => column) }
    if (typed.from.some((read) => this.#pending.some(({ column }) => sameName(column.name, read)))) this.#flush()
    const from = union(typed.from.map((read) => columnNamed(visible, read)?.from ?? []))
    // A bare name may stand for a column that an expression before it has made.
    const how = typed.how ?? (typed.from[0] === undefined ? undefined : columnNamed(visible, typed.from[0])?.how)
    const column = { name, type: typed.type, from, ...(how === undefined ? {} : { how }) }
    this.#pending.push({ column, sql: operand(sql) })
    const over = this.#base === this.#input ? {} : { over: this.#unfailing.sql }
    this.expressions.push({ field: name, sql, ...over })
  }

  output(): Relation {
    return project(this.#base, this.#items())
  }

  #flush(): void {
    const items = this.#items()
    const made = new Set(this.#pending)
    this.#unfailing = project(
      this.#unfailing,
      items.map((item) => (made.has(item) ? { column: item.column, sql: `TRY(${item.sql})` } : item)),
    )
    this.#base = project(this.#base, items)
    this.#pending = []
  }

  #items(): Item[] {
    const replaced = this.#base.columns.map(
      (column) =>
        this.#pending.find((item) => sameName(item.column.name, column.name)) ?? { column, sql: ident(column.name) },
    )
    return [...replaced, ...this.#pending.filter((item) => columnNamed(this.#base, item.column.name) === undefined)]
  }
}

function sameName(a: string, b: string): boolean {
  return a.toLowerCase() === b.toLowerCase()
}
