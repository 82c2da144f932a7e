import { z } from 'zod'
import { defineStep } from '../core/define.ts'
import { project } from '../engine/relation.ts'
import { ident } from '../engine/sql-text.ts'
import { invalidStep, requireColumn } from '../engine/step-columns.ts'

export default defineStep({
  summary: 'Changes the types of columns.',
  description:
    'A strict SQL CAST: a row with a value that does not fit goes to quarantine. Fractions are rounded where the new type has none. To get NULL in place of bad values use `derive` with `TRY_CAST`.',
  options: z
    .record(z.string().min(1), z.string().trim().min(1).describe('Engine type, such as `bigint` or `decimal(18,6)`.'))
    .refine((types) => Object.keys(types).length > 0, 'name at least one column')
    .describe('Column → its new type.'),
  example: { price: 'decimal(18,6)', clicks: 'bigint' },
  sample: {
    columns: { price: 'VARCHAR', clicks: 'VARCHAR' },
    rows: [
      { price: '0.000001', clicks: '9007199254740993' },
      { price: null, clicks: '2' },
    ],
    expect: [
      { price: '0.000001', clicks: '9007199254740993' },
      { price: null, clicks: 2 },
    ],
  },
  async compile(options, input, env) {
    const casts = new Map<string, { sql: string; type: string }>()
    for (const [name, type] of Object.entries(options)) {
      const path = [...env.path, name]
      const column = requireColumn(input, name, path)
      if (casts.has(column.name)) throw invalidStep(`column ${column.name} is cast twice`, path)
      if (!balanced(type)) throw invalidStep(`\`${type}\` is not a type`, path)
      const sql = `CAST(${ident(column.name)} AS ${type})`
      casts.set(column.name, { sql, type: (await env.analysis.row({ sql, path }, input)).type })
    }
    const items = input.columns.map((column) => {
      const cast = casts.get(column.name)
      return cast === undefined
        ? { column, sql: ident(column.name) }
        : { column: { ...column, type: cast.type, how: 'computed' as const }, sql: cast.sql }
    })
    return {
      output: project(input, items),
      kind: 'row',
      expressions: [...casts].map(([field, { sql }]) => ({ field, sql })),
    }
  },
})

/** A parenthesis that closes more than it opened would end the CAST and begin another expression. */
function balanced(type: string): boolean {
  let depth = 0
  for (const char of type) {
    if (char === '(') depth += 1
    if (char === ')') depth -= 1
    if (depth < 0) return false
  }
  return depth === 0
}
