import { z } from 'zod'
import type { Column, Relation } from '../core/contracts.ts'
import { defineStep } from '../core/define.ts'
import { columnNamed, project } from '../engine/relation.ts'
import { checkNames, operand } from '../engine/step-columns.ts'

export default defineStep({
  summary: 'Makes rows of exactly the named columns.',
  description:
    'Every output column is an SQL expression over the columns that arrive; columns that are not named end here. A row on which an expression fails goes to quarantine.',
  options: z
    .record(z.string().min(1), z.string().trim().min(1).describe('SQL expression over one row.'))
    .refine((columns) => Object.keys(columns).length > 0, 'name at least one column')
    .describe('Output column → SQL expression.'),
  example: { event_id: 'event_id', spend: 'cost_micros / 1000000::DECIMAL(18, 6)' },
  sample: {
    columns: { event_id: 'BIGINT', cost_micros: 'DECIMAL(18, 0)', country: 'VARCHAR' },
    rows: [
      { event_id: '9007199254740993', cost_micros: '2500000', country: 'DE' },
      { event_id: 2, cost_micros: null, country: 'FR' },
    ],
    expect: [
      { event_id: '9007199254740993', spend: 2.5 },
      { event_id: 2, spend: null },
    ],
  },
  async compile(options, input: Relation, env) {
    checkNames(Object.keys(options).map((name) => ({ name, path: [...env.path, name] })))
    const items: { column: Column; sql: string }[] = []
    const expressions: { field: string; sql: string }[] = []
    for (const [name, sql] of Object.entries(options)) {
      const typed = await env.analysis.row({ sql, path: [...env.path, name] }, input)
      items.push({ column: { name, ...typed }, sql: operand(sql) })
      if (columnNamed(input, sql) === undefined) expressions.push({ field: name, sql })
    }
    return { output: project(input, items), kind: 'row', expressions }
  },
})
