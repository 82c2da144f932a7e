import { z } from 'zod'
import { postgresReference, referenceOptions } from '../clients/postgres/source/reference.ts'
import type { Column, Relation } from '../core/contracts.ts'
import { defineStep } from '../core/define.ts'
import { duration } from '../core/job/units.ts'
import type { CompiledStep, Drops, StepEnv } from '../core/step-contract.ts'
import { columnNamed, ROW } from '../engine/relation.ts'
import { ident } from '../engine/sql-text.ts'
import { checkNames, invalidStep, operand, placed, requireColumn, union } from '../engine/step-columns.ts'

const expression = z.string().trim().min(1)

export default defineStep({
  summary: 'Adds columns of a reference table, found by key.',
  description: [
    'The reference table is loaded before the first batch; where it cannot be read then, the run does not begin. Its key must not repeat: a repeated key would double rows, so the run stops before it starts. NULL in a key finds nothing.',
    'With `refresh` it is read again while the run goes on. A new version counts from one batch on, whole: no batch sees a part of each. The version is written down with the plan of the batch, and kept with the pins of the job (`pins/files`) for as long as these are: a batch that is repeated after a crash, or by `replay`, `trace` and `heal`, finds the same rows. A version that cannot be read, that has other columns, a value that does not fit or a repeated key is left aside: the one before stays, and the log says how old it is. Put a file in place by renaming it. One version has at most 256 MB.',
    'A query is asked by whatever evaluates the step: a run, `adflow test`, `adflow transform`; not by `lint` and `plan`, which need no server. `replay`, `trace` and `heal` read what the run had read.',
    'The lineage of an added column are the columns by which it was found.',
  ].join('\n\n'),
  options: z
    .strictObject({
      table: z
        .string()
        .regex(/^[a-z][a-z0-9_]{0,62}$/, 'must be lower_snake')
        .describe('Name of the reference table, for messages and lineage.'),
      from: z
        .discriminatedUnion('type', [
          z.strictObject({
            type: z.literal('files').describe('A file.'),
            path: z.string().min(1).describe('File, relative to the folder of the job file.'),
            format: z.enum(['csv', 'ndjson', 'parquet']).optional().describe('Default: by the name of the file.'),
            columns: z
              .record(z.string().min(1), z.string().min(1).describe('Type, as in the contract.'))
              .optional()
              .describe(
                'Columns of the file that the step may use → type. Default: all, with the types that the engine finds.',
              ),
          }),
          referenceOptions,
        ])
        .describe('Where the reference table is.'),
      refresh: duration
        .refine((ms) => ms >= 100, 'at least `100ms`')
        .optional()
        .describe('How often the table is read again while the run goes on. Default: once, when the run begins.'),
      max_age: duration
        .optional()
        .describe(
          'With `refresh`: where the table was last read longer ago, because it cannot be read, a run without an end takes up no more batches until it can, and another one fails. Default: the version that is there is used.',
        ),
      on: z
        .record(expression, z.string().min(1).describe('Column of the reference table.'))
        .refine((keys) => Object.keys(keys).length > 0, 'name at least one column')
        .describe('Column that arrives here, or an SQL expression over them → column of the reference table.'),
      select: z
        .union([
          z.array(z.string().min(1)).min(1),
          z.record(z.string().min(1), z.string().min(1).describe('Column of the reference table.')),
        ])
        .optional()
        .describe('Columns to add, or a map: new name → column of the reference table. Default: all but the key.'),
      prefix: z.string().min(1).optional().describe('Put before the names of added columns, unless `select` is a map.'),
      missing: z
        .enum(['null', 'quarantine', 'drop'])
        .nullable()
        .default('null')
        .describe('What becomes of a row that finds nothing: added columns are NULL, quarantine, or filtered out.'),
    })
    .refine(({ refresh, max_age }) => max_age === undefined || (refresh !== undefined && max_age >= refresh), {
      error: '`max_age` needs `refresh`, and is not shorter',
      path: ['max_age'],
    })
    .describe('The reference table, how its rows are found, and what is added.'),
  example: {
    table: 'campaigns',
    from: { type: 'files', path: 'campaigns.csv' },
    on: { campaign_id: 'id' },
    select: { campaign: 'name' },
  },
  sample: {
    columns: { event_id: 'BIGINT', campaign_id: 'BIGINT' },
    rows: [
      { event_id: 1, campaign_id: 7 },
      { event_id: 2, campaign_id: 8 },
      { event_id: 3, campaign_id: null },
    ],
    expect: [
      { event_id: 1, campaign_id: 7, campaign: 'Spring' },
      { event_id: 2, campaign_id: 8, campaign: null },
      { event_id: 3, campaign_id: null, campaign: null },
    ],
    files: { 'campaigns.csv': 'id,name\n7,Spring\n9,Summer\n' },
  },
  async compile(options, input: Relation, env: StepEnv): Promise<CompiledStep> {
    const { from, refresh, max_age: maxAgeMs } = options
    const { table, columns } = await env.reference(
      options.table,
      from.type === 'postgres'
        ? postgresReference(from, options.table)
        : { kind: 'file', file: from.path, format: from.format, columns: from.columns },
      refresh === undefined ? undefined : { everyMs: refresh, maxAgeMs },
    )
    const reference = { sql: table, columns }
    const keys = await keysOf(options.on, options.table, input, reference, env)
    const found = union(keys.map((key) => key.from))
    const added = addedColumns(options, keys, reference, env).map(({ name, source }) => ({
      column: { name, type: source.type, from: found, how: 'found' as const },
      source,
    }))
    checkNames([
      ...placed(input.columns, env.path),
      ...added.map(({ column }) => ({
        name: column.name,
        path: [...env.path, options.select === undefined ? 'prefix' : 'select'],
      })),
    ])
    const outer = options.missing === null || options.missing === 'null'
    const sides = joinSides(input, table, keys, added)
    const items = [
      `__i.${ROW}`,
      ...input.columns.map(({ name }) => `__i.${ident(name)}`),
      ...added.map(({ column }, index) => `__r.__v${index} AS ${ident(column.name)}`),
    ]
    const output = {
      sql: `SELECT ${items.join(', ')} FROM ${sides.left} ${outer ? 'LEFT JOIN' : 'JOIN'} ${sides.right}`,
      columns: [...input.columns, ...added.map(({ column }) => column)],
    }
    const drops = `SELECT __i.${ROW} FROM ${sides.left} ANTI JOIN ${sides.right}`
    return {
      output,
      kind: 'row',
      expressions: keys.flatMap(({ name, plain }) => (plain ? [] : [{ field: name, sql: name }])),
      references: [{ table, key: keys.map((key) => key.column.name) }],
      lineage: {
        finds: Object.fromEntries(
          added.map(({ column, source }) => [column.name, { reference: options.table, column: source.name }]),
        ),
        ...(outer ? {} : { decides: { by: 'join', columns: found } }),
      },
      ...(outer ? {} : { drops: dropsOf(options, keys, drops) }),
    }
  },
})

interface Key {
  /** As it stands in the job file. */
  readonly name: string
  readonly sql: string
  readonly plain: boolean
  readonly from: readonly string[]
  /** Of the reference table. */
  readonly column: Column
}

async function keysOf(
  on: Readonly<Record<string, string>>,
  table: string,
  input: Relation,
  reference: Relation,
  env: StepEnv,
): Promise<Key[]> {
  const keys: Key[] = []
  for (const [name, target] of Object.entries(on)) {
    const path = [...env.path, 'on', name]
    const column = requireColumn(reference, target, path, `the reference table ${table}`)
    const arriving = columnNamed(input, name)
    const sql = arriving === undefined ? operand(name) : ident(arriving.name)
    const { type, from } = arriving ?? (await env.analysis.row({ sql: name, path }, input))
    // The engine would compare text with a number by casting each text, and fail on the first that is none.
    if (isText(type) !== isText(column.type))
      throw invalidStep(`cannot look up ${type} in ${table}.${column.name}, which is ${column.type}`, path, [
        `cast it: \`${name}::${column.type}\``,
      ])
    await env.analysis.row({ sql: `${sql} = NULL::${column.type}`, path }, input)
    keys.push({ name, sql, plain: arriving !== undefined, from, column })
  }
  return keys
}

function isText(type: string): boolean {
  return type === 'VARCHAR' || type.startsWith('ENUM')
}

interface Choice {
  readonly select?: readonly string[] | Readonly<Record<string, string>> | undefined
  readonly prefix?: string | undefined
  readonly table: string
}

function addedColumns(
  { select, prefix = '', table }: Choice,
  keys: readonly Key[],
  reference: Relation,
  env: StepEnv,
): { name: string; source: Column }[] {
  const path = [...env.path, 'select']
  const find = (name: string, key: string | number) =>
    requireColumn(reference, name, [...path, key], `the reference table ${table}`)
  if (select === undefined) {
    const names = new Set(keys.map((key) => key.column.name))
    const rest = reference.columns.filter(({ name }) => !names.has(name))
    return rest.map((source) => ({ name: prefix + source.name, source }))
  }
  if (isList(select))
    return select.map((name, index) => find(name, index)).map((source) => ({ name: prefix + source.name, source }))
  return Object.entries(select).map(([name, column]) => ({ name, source: find(column, name) }))
}

function isList(value: readonly string[] | Readonly<Record<string, string>>): value is readonly string[] {
  return Array.isArray(value)
}

/** Both sides with names of their own: a column of the reference table may be named like one that arrives. */
function joinSides(input: Relation, table: string, keys: readonly Key[], added: readonly { source: Column }[]) {
  const keyed = ['*', ...keys.map(({ sql }, index) => `${sql} AS __k${index}`)]
  const referred = [
    ...keys.map(({ column }, index) => `${ident(column.name)} AS __r${index}`),
    ...added.map(({ source }, index) => `${ident(source.name)} AS __v${index}`),
  ]
  const on = keys.map((_, index) => `__i.__k${index} = __r.__r${index}`)
  return {
    left: `(SELECT ${keyed.join(', ')} FROM (${input.sql})) __i`,
    right: `(SELECT ${referred.join(', ')} FROM ${table}) __r ON ${on.join(' AND ')}`,
  }
}

function dropsOf(options: { table: string; missing: string | null }, keys: readonly Key[], sql: string): Drops {
  if (options.missing === 'drop') return { as: 'filtered', sql }
  const names = keys.map(({ name }) => name).join(', ')
  return { as: 'quarantined', sql, field: names, message: `${options.table} has no row for this ${names}` }
}
