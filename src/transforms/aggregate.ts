import { z } from 'zod'
import type { Column, Relation } from '../core/contracts.ts'
import { defineStep } from '../core/define.ts'
import { identifier } from '../core/job/identifier.ts'
import type { CompiledStep, StepEnv } from '../core/step-contract.ts'
import { ROW } from '../engine/relation.ts'
import { ident } from '../engine/sql-text.ts'
import { checkNames, operand, requireColumn, union } from '../engine/step-columns.ts'

const expression = z.string().trim().min(1)

export default defineStep({
  summary: 'Groups the rows of a batch and computes counts, sums and other aggregates.',
  description: [
    'One output row for each group **of one batch**: a partial result, because where a batch ends follows from the size of chunks and not from the data. For totals over all batches load the partial rows and add them up where they are read (`adflow query`, a view), or aggregate in the store.',
    'Output rows are new ones: a failure in an aggregate stops the batch, since no single row is to blame. Cast and check in a step before.',
  ].join('\n\n'),
  options: z
    .strictObject({
      id: identifier.optional().describe('Name of the step, where others refer to it.'),
      by: z
        .array(
          z
            .union([z.string().min(1), z.record(z.string().min(1), expression)])
            .describe('Column, or a map: name → SQL expression over one row.'),
        )
        .default([])
        .describe('What makes a group. Empty: all rows of the batch are one.'),
      select: z
        .record(z.string().min(1), expression.describe('SQL expression with aggregates.'))
        .refine((columns) => Object.keys(columns).length > 0, 'name at least one column')
        .describe('Output column → SQL expression with aggregates.'),
    })
    .describe('Groups and what is computed for each.'),
  example: {
    by: ['campaign_id', { day: 'event_time::DATE' }],
    select: { events: 'count(*)', spend: 'sum(spend)' },
  },
  sample: {
    columns: { campaign_id: 'BIGINT', event_time: 'TIMESTAMP', spend: 'DECIMAL(18, 6)' },
    rows: [
      { campaign_id: 2, event_time: '2026-03-01 10:00:00', spend: '0.1' },
      { campaign_id: 1, event_time: '2026-03-01 23:59:59', spend: '0.2' },
      { campaign_id: 2, event_time: '2026-03-01 11:00:00', spend: '0.2' },
    ],
    expect: [
      { campaign_id: 1, day: '2026-03-01', events: 1, spend: '0.200000' },
      { campaign_id: 2, day: '2026-03-01', events: 2, spend: '0.300000' },
    ],
  },
  async compile(options, input: Relation, env: StepEnv): Promise<CompiledStep> {
    const groups = await groupsOf(options.by, input, env)
    const sums: { column: Column; sql: string }[] = []
    for (const [name, sql] of Object.entries(options.select)) {
      const path = [...env.path, 'select', name]
      sums.push({ column: { name, ...(await env.analysis.aggregate({ sql, path }, input)) }, sql: operand(sql) })
    }
    checkNames([
      ...groups.map(({ column, path }) => ({ name: column.name, path })),
      ...sums.map(({ column }) => ({ name: column.name, path: [...env.path, 'select', column.name] })),
    ])
    const columns = [...groups, ...sums].map(({ column }) => column)
    return {
      output: { sql: numbered(grouped(input, groups, sums), groups.length, columns), columns },
      kind: 'set',
      lineage: { decides: { by: 'group', columns: union(groups.map(({ column }) => column.from)) } },
      groups: groups.map(({ column, sql }) => ({ name: column.name, sql })),
      expressions: groups.flatMap(({ column, raw }) => (raw === undefined ? [] : [{ field: column.name, sql: raw }])),
    }
  },
})

interface Group {
  readonly column: Column
  readonly sql: string
  readonly path: StepEnv['path']
  /** As the user wrote it, where it is an expression. */
  readonly raw?: string
}

async function groupsOf(
  by: readonly (string | Readonly<Record<string, string>>)[],
  input: Relation,
  env: StepEnv,
): Promise<Group[]> {
  const groups: Group[] = []
  for (const [index, entry] of by.entries()) {
    const path = [...env.path, 'by', index]
    if (typeof entry === 'string') {
      const column = requireColumn(input, entry, path)
      groups.push({ column, sql: ident(column.name), path })
    } else
      for (const [name, sql] of Object.entries(entry)) {
        const typed = await env.analysis.row({ sql, path: [...path, name] }, input)
        groups.push({ column: { name, ...typed }, sql: operand(sql), path: [...path, name], raw: sql })
      }
  }
  return groups
}

/** The groups are computed beside the input's columns, under names of their own: an output name may hide an input name. */
function grouped(input: Relation, groups: readonly Group[], sums: readonly { column: Column; sql: string }[]): string {
  const keys = groups.map((_, index) => `__g${index}`)
  const rows = `SELECT ${['*', ...groups.map(({ sql }, index) => `${sql} AS ${keys[index]}`)].join(', ')} FROM (${input.sql})`
  const items = [
    ...groups.map(({ column }, index) => `${keys[index]} AS ${ident(column.name)}`),
    ...sums.map(({ column, sql }) => `${sql} AS ${ident(column.name)}`),
  ]
  // Without groups an empty batch would give one row of nothing.
  const group = keys.length === 0 ? 'HAVING count(*) > 0' : `GROUP BY ${keys.join(', ')}`
  return `SELECT ${items.join(', ')} FROM (${rows}) ${group}`
}

/** Numbered by group, so that a repeated batch gives the same rows under the same numbers. */
function numbered(select: string, groups: number, columns: readonly Column[]): string {
  const order = columns.slice(0, groups).map(({ name }) => ident(name))
  const over = order.length === 0 ? '' : `ORDER BY ${order.join(', ')}`
  const names = columns.map(({ name }) => ident(name))
  return `SELECT row_number() OVER (${over}) - 1 AS ${ROW}, ${names.join(', ')} FROM (${select}) ORDER BY ${ROW}`
}
