import { z } from 'zod'
import { defineStep } from '../core/define.ts'
import { project } from '../engine/relation.ts'
import { ident } from '../engine/sql-text.ts'
import { checkNames, invalidStep, requireColumn } from '../engine/step-columns.ts'

export default defineStep({
  summary: 'Gives columns other names.',
  description: 'All at once: `{ a: b, b: a }` swaps two columns. The columns keep their places.',
  options: z
    .record(z.string().min(1), z.string().min(1).describe('New name.'))
    .refine((names) => Object.keys(names).length > 0, 'name at least one column')
    .describe('Column → its new name.'),
  example: { cid: 'campaign_id' },
  sample: {
    columns: { cid: 'BIGINT', clicks: 'INTEGER' },
    rows: [{ cid: 7, clicks: 3 }],
    expect: [{ campaign_id: 7, clicks: 3 }],
  },
  async compile(options, input, env) {
    const renamed = new Map<string, { name: string; path: (string | number)[] }>()
    for (const [old, name] of Object.entries(options)) {
      const path = [...env.path, old]
      const column = requireColumn(input, old, path)
      if (renamed.has(column.name)) throw invalidStep(`column ${column.name} is renamed twice`, path)
      renamed.set(column.name, { name, path })
    }
    const kept = input.columns.filter(({ name }) => !renamed.has(name)).map(({ name }) => ({ name, path: env.path }))
    checkNames([...kept, ...renamed.values()])
    const items = input.columns.map((column) => ({
      column: { ...column, name: renamed.get(column.name)?.name ?? column.name },
      sql: ident(column.name),
    }))
    return { output: project(input, items), kind: 'row', expressions: [] }
  },
})
