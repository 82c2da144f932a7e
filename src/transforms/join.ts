import { createHash } from 'node:crypto'
import { z } from 'zod'
import type { Column, Relation } from '../core/contracts.ts'
import { defineStep } from '../core/define.ts'
import { identifier } from '../core/job/identifier.ts'
import { duration } from '../core/job/units.ts'
import type { Branch, CompiledStep, StepEnv } from '../core/step-contract.ts'
import {
  type IntervalJoin,
  type JoinSide,
  joinDdl,
  joinDue,
  joinedRows,
  joinMark,
  unmatchedRows,
} from '../engine/interval-join.ts'
import { ROW } from '../engine/relation.ts'
import { ident } from '../engine/sql-text.ts'
import { checkNames, invalidStep, operand, placed, requireColumn, union } from '../engine/step-columns.ts'
import { eventTime, watermarkShape } from '../engine/watermark.ts'

const MAX_MS = 366 * 86_400_000

const expression = z.string().trim().min(1)
const span = duration.refine((ms) => ms <= MAX_MS, 'at most 366 days')
const side = (what: string) => z.strictObject({ where: expression.describe(`SQL condition over a row: ${what}.`) })

const options = z
  .strictObject({
    id: identifier.optional().describe('Name of the step, where others refer to it; the state goes by it.'),
    left: side('which rows are to be joined').describe('Rows that come out, each with what it finds.'),
    right: side('which rows they find').describe('Rows that are found. A row may be of both kinds.'),
    on: z
      .union([
        z.array(z.string().min(1)).min(1),
        z
          .record(expression, expression.describe('Column of the right row, or an SQL expression over it.'))
          .refine((keys) => Object.keys(keys).length > 0, 'name at least one column'),
      ])
      .describe(
        'Columns that are equal on both sides, or a map: column of the left row, or an SQL expression over it → that of the right one.',
      ),
    time: z.string().min(1).describe('Timestamp column of both: when the event happened.'),
    within: z
      .union([
        span.transform((ms) => ({ before: ms, after: ms })),
        z.strictObject({
          before: span.prefault('0s').describe('How long before the left row.'),
          after: span.prefault('0s').describe('How long after it: so long the left row waits.'),
        }),
      ])
      .describe(
        'How far the right row may lie from the left one in time: before and after it, ends included. `30m` is both.',
      ),
    ...watermarkShape,
    select: z
      .union([
        z.array(z.string().min(1)).min(1),
        z.record(z.string().min(1), z.string().min(1).describe('Column of the right row.')),
      ])
      .describe('Columns of the right row to add, or a map: new name → column of the right row.'),
    prefix: z.string().min(1).optional().describe('Put before the names of added columns, unless `select` is a map.'),
    missing: z
      .union([
        z.enum(['null', 'drop']),
        z.strictObject({ to: identifier.describe('Name of the output, for `input` of a loader or consumer.') }),
      ])
      .nullable()
      .default('null')
      .describe(
        'What becomes of a left row that finds nothing: added columns are NULL (left join), it is left out (inner join), or it goes to an output of its own.',
      ),
  })
  .describe('Two kinds of rows of one stream, what they must have in common, and what is added.')

export default defineStep({
  summary: 'Joins two kinds of events of one stream that happen within an interval: clicks with impressions.',
  description: [
    'All sources of a job flow into one stream under one contract; `left` and `right` say by a condition which of its rows are the two sides, whatever source they come from. Each left row comes out once for each right row that it finds, whole, with the columns of `select` added and a column `correction`; or once, as `missing` says, where it finds none. Rows that are of neither side do not come out.',
    'A left row waits until the watermark has passed the end of its interval: `after` behind its own time. Then all that it can find has come. The watermark is `lateness` behind the newest event of the lane that is furthest behind, as in [`window`](step-window.md); events of all kinds move it. Within the lateness the rows that come out are those of one SQL join over the whole input, whatever the order in which records arrive, and however often the job is killed.',
    'In a stream (`until: forever`) whose sources were all empty for longer than `idle`, left rows come out by the clock, `lateness` after the end of their interval: see [`window`](step-window.md).',
    'What comes later than that is not dropped: a left row comes out at once, with what it finds among the rows that are still kept, and a right row comes out with the left rows that have gone without it, each pair in a row with `correction` true. Left rows that came out more than a hundred batches ago are not found any more. A left row without a time finds nothing and is a correction too; NULL in a key finds nothing.',
    'Rows wait in the state of the job, on disk beyond its memory limit: left rows for `after` and the lateness, right rows for `before`, `after` and the lateness, with the columns that are needed. Other columns, keys or intervals under the same id begin with no rows. Duplicates make pairs of their own: put `dedupe` before.',
  ].join('\n\n'),
  options,
  branches: ({ missing }) => (typeof missing === 'object' && missing !== null ? [missing.to] : []),
  example: {
    left: { where: "type = 'click'" },
    right: { where: "type = 'impression'" },
    on: ['impression_id'],
    time: 'event_time',
    within: { before: '30m' },
    lateness: '10s',
    settle: '0s',
    select: { seen_at: 'event_time', added: 'campaign' },
  },
  sample: {
    columns: { type: 'VARCHAR', impression_id: 'BIGINT', event_time: 'TIMESTAMP', campaign: 'VARCHAR' },
    rows: [
      { type: 'click', impression_id: 1, event_time: '1999-03-01 10:10:00', campaign: null },
      { type: 'impression', impression_id: 1, event_time: '1999-03-01 10:00:00', campaign: 'Spring' },
      { type: 'click', impression_id: 2, event_time: '1999-03-01 10:10:01', campaign: null },
      { type: 'impression', impression_id: 2, event_time: '1999-03-01 09:40:00', campaign: 'Spring' },
      { type: 'click', impression_id: 3, event_time: '1999-03-01 10:11:00', campaign: null },
    ],
    expect: [
      {
        type: 'click',
        impression_id: 1,
        event_time: '1999-03-01 10:10:00',
        campaign: null,
        seen_at: '1999-03-01 10:00:00',
        added: 'Spring',
        correction: false,
      },
      {
        type: 'click',
        impression_id: 2,
        event_time: '1999-03-01 10:10:01',
        campaign: null,
        seen_at: null,
        added: null,
        correction: false,
      },
    ],
  },
  async compile(chosen, input: Relation, env: StepEnv): Promise<CompiledStep> {
    const time = eventTime(input, chosen.time, [...env.path, 'time'])
    const wheres = await Promise.all([
      conditionOf('left', chosen, input, env),
      conditionOf('right', chosen, input, env),
    ])
    const keys = await keysOf(chosen.on, input, env)
    const added = addedColumns(chosen, input, env)
    const from = union([time.column.from, ...wheres, ...keys.flatMap(({ left, right }) => [left.from, right.from])])
    const correction: Column = { name: 'correction', type: 'BOOLEAN', from: time.column.from, how: 'computed' }
    const columns = [...input.columns, ...added.map(({ column }) => column), correction]
    checkNames(placed(columns, [...env.path, 'select']))
    const join = joinOf(env.id, chosen, time.sql, { keys, input, added })
    const all = input.columns.map(({ name }, index) => `__l${index} AS ${ident(name)}`)
    const found = added.map(({ column }, index) => `__r${index} AS ${ident(column.name)}`)
    const named = (rows: string, items: readonly string[]) =>
      `SELECT ${[ROW, ...items, '__correction AS correction'].join(', ')} FROM (${rows}) ORDER BY ${ROW}`
    const { missing } = chosen
    const aside = typeof missing === 'object' && missing !== null
    const branch = (to: string): Branch => ({
      name: to,
      relation: { sql: named(unmatchedRows(join), all), columns: [...input.columns, correction] },
      path: [...env.path, 'missing', 'to'],
    })
    return {
      output: { sql: named(joinedRows(join, missing === null || missing === 'null'), [...all, ...found]), columns },
      kind: 'set',
      ...(aside ? { branches: [branch(missing.to)] } : {}),
      lineage: { decides: { by: 'join', columns: from } },
      expressions: [
        ...(['left', 'right'] as const).map((name) => ({ field: `${name}.where`, sql: chosen[name].where })),
        ...keys
          .flatMap(({ left, right }) => [left, right])
          .flatMap(({ name, plain }) => (plain ? [] : [{ field: name, sql: name }])),
      ],
      state: {
        tables: joinDdl(join),
        mark: (inputTable) => joinMark(join, inputTable),
        idle: { afterMs: chosen.idle, due: joinDue(join) },
        bytesPerRow: 40 + 16 * (keys.length + input.columns.length),
        bounded: true,
        keptMs: chosen.within.before + chosen.within.after + chosen.lateness,
      },
    }
  },
})

type Chosen = z.output<typeof options>

interface Operand {
  /** As it stands in the job file. */
  readonly name: string
  readonly sql: string
  readonly plain: boolean
  readonly type: string
  readonly from: readonly string[]
}

interface Key {
  readonly left: Operand
  readonly right: Operand
}

interface Added {
  readonly column: Column
  readonly source: Column
}

async function conditionOf(
  name: 'left' | 'right',
  chosen: Chosen,
  input: Relation,
  env: StepEnv,
): Promise<readonly string[]> {
  const path = [...env.path, name, 'where']
  const { type, from } = await env.analysis.row({ sql: chosen[name].where, path }, input)
  if (type === 'BOOLEAN') return from
  throw invalidStep(`a condition must be true or false; this is ${type}`, path)
}

async function keysOf(on: Chosen['on'], input: Relation, env: StepEnv): Promise<Key[]> {
  const path = [...env.path, 'on']
  const pairs = isList(on)
    ? on.map((name, index) => ({ left: name, right: name, at: [...path, index] }))
    : Object.entries(on).map(([left, right]) => ({ left, right, at: [...path, left] }))
  const keys: Key[] = []
  for (const { left, right, at } of pairs) {
    const key = { left: await operandOf(left, input, env, at), right: await operandOf(right, input, env, at) }
    // The engine would compare text with a number by casting each text, and fail on the first that is none.
    if (isText(key.left.type) !== isText(key.right.type))
      throw invalidStep(
        `cannot join ${left}, which is ${key.left.type}, with ${right}, which is ${key.right.type}`,
        at,
        ['cast one of them'],
      )
    await env.analysis.row({ sql: `${key.left.sql} = ${key.right.sql}`, path: at }, input)
    keys.push(key)
  }
  return keys
}

async function operandOf(name: string, input: Relation, env: StepEnv, path: StepEnv['path']): Promise<Operand> {
  const plain = /^[A-Za-z_]\w*$/.test(name) || input.columns.some((column) => column.name === name)
  if (!plain) return { name, sql: operand(name), plain, ...(await env.analysis.row({ sql: name, path }, input)) }
  const column = requireColumn(input, name, path)
  return { name, sql: ident(column.name), plain, type: column.type, from: column.from }
}

function isText(type: string): boolean {
  return type === 'VARCHAR' || type.startsWith('ENUM')
}

function isList<T>(value: readonly string[] | T): value is readonly string[] {
  return Array.isArray(value)
}

function addedColumns({ select, prefix = '' }: Chosen, input: Relation, { path }: StepEnv): Added[] {
  const find = (name: string, key: string | number) =>
    requireColumn(input, name, [...path, 'select', key], 'the right rows')
  const sources = isList(select)
    ? select
        .map((name, index) => ({ source: find(name, index) }))
        .map(({ source }) => ({ name: prefix + source.name, source }))
    : Object.entries(select).map(([name, column]) => ({ name, source: find(column, name) }))
  return sources.map(({ name, source }) => ({
    column: { name, type: source.type, from: source.from, how: 'found' },
    source,
  }))
}

function joinOf(
  id: string,
  { left, right, within, lateness, idle, settle }: Chosen,
  time: string,
  { keys, input, added }: { readonly keys: readonly Key[]; readonly input: Relation; readonly added: readonly Added[] },
): IntervalJoin {
  const typed = (columns: readonly Column[]) => columns.map(({ name, type }) => ({ name: ident(name), type }))
  const kept = (name: 'left' | 'right', where: string, columns: readonly Column[]): Omit<JoinSide, 'table'> => ({
    where: operand(where),
    keys: keys.map((key) => ({ sql: key[name].sql, type: key[name].type })),
    columns: typed(columns),
  })
  const sides = {
    left: kept('left', left.where, input.columns),
    right: kept(
      'right',
      right.where,
      added.map(({ source }) => source),
    ),
  }
  const version = createHash('sha256')
    .update(JSON.stringify([within, time, sides]))
    .digest('hex')
    .slice(0, 8)
  const table = (suffix: string) => `state.${ident(`join_${id}_${version}_${suffix}`)}`
  return {
    watermark: { seen: table('seen'), time, latenessMs: lateness, idleMs: idle, settleMs: settle },
    left: { ...sides.left, table: table('left') },
    right: { ...sides.right, table: table('right') },
    beforeMs: within.before,
    afterMs: within.after,
  }
}
