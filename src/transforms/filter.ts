import { z } from 'zod'
import { defineStep } from '../core/define.ts'
import { identifier } from '../core/job/identifier.ts'
import { ROW, restrict } from '../engine/relation.ts'
import { invalidStep, operand } from '../engine/step-columns.ts'

const where = z.string().trim().min(1).describe('SQL expression that is true for the rows to keep.')

export default defineStep({
  summary: 'Keeps the rows for which an expression is true.',
  description:
    'Rows for which it is false or NULL leave the chain and are counted as filtered. A row on which it fails goes to quarantine.',
  options: z
    .union([
      where,
      z.strictObject({ where, id: identifier.optional().describe('Name of the step, where others refer to it.') }),
    ])
    .describe('The expression, or a map with it.'),
  example: { where: "event_type = 'click'" },
  sample: {
    columns: { event_id: 'BIGINT', event_type: 'VARCHAR' },
    rows: [
      { event_id: 1, event_type: 'click' },
      { event_id: 2, event_type: 'impression' },
      { event_id: 3, event_type: null },
    ],
    expect: [{ event_id: 1, event_type: 'click' }],
  },
  async compile(options, input, env) {
    const short = typeof options === 'string'
    const sql = short ? options : options.where
    const path = short ? env.path : [...env.path, 'where']
    const { type, from } = await env.analysis.row({ sql, path }, input)
    if (type !== 'BOOLEAN')
      throw invalidStep(`a filter needs an expression that is true or false; this one is ${type}`, path, [
        'compare it with something, such as `clicks > 0`',
      ])
    const predicate = `${operand(sql)} IS TRUE`
    return {
      output: restrict(input, predicate),
      kind: 'row',
      expressions: [{ field: 'where', sql }],
      lineage: { decides: { by: 'filter', columns: from } },
      drops: { as: 'filtered', sql: `SELECT ${ROW} FROM (${input.sql}) WHERE ${operand(sql)} IS NOT TRUE` },
    }
  },
})
