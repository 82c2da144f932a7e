import { z } from 'zod'
import { defineStep } from '../core/define.ts'
import { identifier } from '../core/job/identifier.ts'
import { overInput } from '../engine/analysis.ts'
import { ROW, withoutRow } from '../engine/relation.ts'
import { ident } from '../engine/sql-text.ts'
import { checkNames, invalidStep, placed } from '../engine/step-columns.ts'

const statement = z.string().trim().min(1).describe('SELECT over the table `input`: the rows of one batch.')

export default defineStep({
  summary: 'Runs a SELECT over the rows of a batch.',
  description: [
    'For what no other step does: windows, joins of a batch with itself, pivots, unnesting. It sees **one batch** at a time, and where a batch ends follows from the size of chunks. A failure stops the batch, since no single row is to blame.',
    'The result is a set: its rows are put in the order of their columns, so that a repeated batch is the same to the byte. `ORDER BY` matters only together with `LIMIT`.',
  ].join('\n\n'),
  options: z
    .union([
      statement,
      z.strictObject({ statement, id: identifier.optional().describe('Name of the step, where others refer to it.') }),
    ])
    .describe('The statement, or a map with it.'),
  example: {
    statement:
      'SELECT campaign_id, event_id, row_number() OVER (PARTITION BY campaign_id ORDER BY event_id) AS nth FROM input',
  },
  sample: {
    columns: { campaign_id: 'BIGINT', event_id: 'BIGINT' },
    rows: [
      { campaign_id: 7, event_id: 12 },
      { campaign_id: 7, event_id: 11 },
      { campaign_id: 3, event_id: 13 },
    ],
    expect: [
      { campaign_id: 3, event_id: 13, nth: 1 },
      { campaign_id: 7, event_id: 11, nth: 1 },
      { campaign_id: 7, event_id: 12, nth: 2 },
    ],
  },
  async compile(options, input, env) {
    const short = typeof options === 'string'
    const sql = short ? options : options.statement
    const path = short ? env.path : [...env.path, 'statement']
    if (input.columns.length === 0) throw invalidStep('no columns arrive here', path)
    const { columns } = await env.analysis.select({ sql, path }, input)
    checkNames(placed(columns, path))
    const names = columns.map(({ name }) => ident(name)).join(', ')
    const rows = overInput(withoutRow(input), sql)
    return {
      output: {
        sql: `SELECT row_number() OVER (ORDER BY ${names}) - 1 AS ${ROW}, ${names} FROM (${rows}) ORDER BY ${ROW}`,
        columns,
      },
      kind: 'set',
      expressions: [],
    }
  },
})
