import { createHash } from 'node:crypto'
import { z } from 'zod'
import type { Column, Relation } from '../core/contracts.ts'
import { defineStep } from '../core/define.ts'
import { identifier } from '../core/job/identifier.ts'
import { duration } from '../core/job/units.ts'
import type { Branch, CompiledStep, StepEnv } from '../core/step-contract.ts'
import { ROW } from '../engine/relation.ts'
import { ident } from '../engine/sql-text.ts'
import { checkNames, invalidStep, operand, placed, requireColumn, union } from '../engine/step-columns.ts'
import { closedRows, lateRows, type WindowState, type Windows, windowDdl, windowMark } from '../engine/windows.ts'

const MAX_MS = 366 * 86_400_000
/** So many windows of one row are still a table, and not a mistake. */
const MAX_OVERLAP = 1000

const expression = z.string().trim().min(1)
const span = duration.refine((ms) => ms > 0 && ms <= MAX_MS, 'more than nothing, and at most 366 days')

const options = z
  .strictObject({
    id: identifier.optional().describe('Name of the step, where others refer to it; the state goes by it.'),
    time: z.string().min(1).describe('Timestamp column: when the event happened.'),
    every: span
      .optional()
      .describe(
        'A window begins every so often, counted from midnight UTC of a Monday; without `size` it is as long (tumbling).',
      ),
    size: span.optional().describe('Length of a window, a multiple of `every` (hopping): a row is in several windows.'),
    gap: span
      .optional()
      .describe('Instead of `every`: a window ends when nothing of its group has come for so long (session).'),
    lateness: duration
      .prefault('0s')
      .describe('How far behind the newest event of its lane an event may come and still find its window open.'),
    idle: duration
      .prefault('1m')
      .describe('A lane of which no batch has come for so long does not hold the windows open.'),
    settle: duration
      .prefault('10s')
      .describe('Nothing closes before so long after the very first batch: until then each lane has been heard of.'),
    late: z
      .strictObject({ to: identifier.describe('Name of the output, for `input` of a loader or consumer.') })
      .optional()
      .describe(
        'Records that find their window closed, and those without a time, go to an output of their own as they are, with `window_start` and `window_end` of what they have missed. Without it they come out as corrections.',
      ),
    by: z
      .array(
        z
          .union([z.string().min(1), z.record(z.string().min(1), expression)])
          .describe('Column, or a map: name → SQL expression over one row.'),
      )
      .default([])
      .describe('What makes a group. Empty: all rows of a window are one.'),
    select: z
      .record(z.string().min(1), expression.describe('SQL expression with aggregates.'))
      .refine((columns) => Object.keys(columns).length > 0, 'name at least one column')
      .describe('Output column → SQL expression with aggregates.'),
  })
  .refine(({ every, gap }) => (every === undefined) !== (gap === undefined), {
    error: 'a window has either `every` or `gap`',
    path: ['every'],
  })
  .refine(
    ({ every, size }) =>
      size === undefined || (every !== undefined && size % every === 0 && size / every <= MAX_OVERLAP),
    {
      error: `\`size\` is a multiple of \`every\`, at most ${MAX_OVERLAP} times`,
      path: ['size'],
    },
  )
  .describe('Windows on event time, and what is computed for each.')

export default defineStep({
  summary: 'Groups rows by windows of event time, over all batches, and gives each window once it is complete.',
  description: [
    'One output row for each group of a window, when the window closes: `window_start`, `window_end`, the columns of `by`, those of `select`, and `correction`. A window closes when the watermark passes its end. The watermark is `lateness` behind the newest event of the lane that is furthest behind; lanes of which no batch has come for `idle` do not count, nor do those that have never been heard of (`settle` gives them time), and an event from the future moves it at most to the clock of its batch.',
    'Whatever the order in which records arrive, within the `lateness` the rows that come out are the same. A record that comes later than that, when its window has closed, is not dropped: it comes out in a row of its own with `correction` true, so that sums and counts stay right where rows are added up; so does a record without a time, with NULL for its window. With `late: { to: NAME }` there are no corrections and no column `correction`: such records are rows of the output NAME, which a loader must read (`input: NAME`), whole and once for each window that they have missed, with `window_start` and `window_end` (NULL for sessions: which it would have been nobody knows). Either way each record that arrives is in a window or told of. Aggregates over a floating-point column, and those that depend on the order of their rows (`first`, `list` without ORDER BY), may differ in what depends on the order.',
    'Rows of open windows stand in the state of the job; what they need is on disk, beyond the memory limit of the job. A batch that is repeated after a crash closes the same windows with the same rows. A window that is open when a run ends is closed by a later one. Other columns, groups or windows under the same id begin with no rows: let the windows close first, or give the step another `id`.',
    'Output rows are new ones: a failure in an aggregate stops the batch. Cast and check in a step before.',
  ].join('\n\n'),
  options,
  example: {
    time: 'event_time',
    every: '1m',
    lateness: '10s',
    settle: '0s',
    by: ['campaign_id'],
    select: { impressions: 'count(*)', spend: 'sum(cost)' },
  },
  sample: {
    columns: { campaign_id: 'BIGINT', event_time: 'TIMESTAMP', cost: 'DECIMAL(18, 6)' },
    rows: [
      { campaign_id: 2, event_time: '1999-03-01 10:00:59', cost: '0.1' },
      { campaign_id: 1, event_time: '1999-03-01 10:00:00', cost: '0.2' },
      { campaign_id: 2, event_time: '1999-03-01 10:01:00', cost: '0.4' },
      { campaign_id: 2, event_time: '1999-03-01 10:00:01', cost: '0.5' },
      { campaign_id: 1, event_time: '1999-03-01 10:01:10', cost: '0.3' },
    ],
    expect: [
      {
        window_start: '1999-03-01 10:00:00',
        window_end: '1999-03-01 10:01:00',
        campaign_id: 1,
        impressions: 1,
        spend: '0.200000',
        correction: false,
      },
      {
        window_start: '1999-03-01 10:00:00',
        window_end: '1999-03-01 10:01:00',
        campaign_id: 2,
        impressions: 2,
        spend: '0.600000',
        correction: false,
      },
    ],
  },
  branches: ({ late }) => (late === undefined ? [] : [late.to]),
  async compile(chosen, input: Relation, env: StepEnv): Promise<CompiledStep> {
    const time = timeColumn(input, chosen.time, [...env.path, 'time'])
    const groups = await groupsOf(chosen.by, input, env)
    const { sums, read } = await sumsOf(chosen.select, input, env)
    const groupColumns = groups.map(({ column }) => column)
    const state = stateOf(env.id, { windows: windowsOf(chosen), chosen, input, time, groups, read })
    const at = (name: string): Column => ({ name, type: time.type, from: time.from, how: 'computed' as const })
    const columns: Column[] = [
      at('window_start'),
      at('window_end'),
      ...groupColumns,
      ...sums.map(({ column }) => column),
      ...(state.aside ? [] : [{ name: 'correction', type: 'BOOLEAN', from: time.from }]),
    ]
    checkNames(columns.map(({ name }) => ({ name, path: placeOf(name, chosen, env) })))
    return {
      output: { sql: numbered(state, time, groupColumns, sums, columns), columns },
      kind: 'set',
      ...(chosen.late === undefined ? {} : { branches: [lateBranch(chosen.late.to, state, input, at, env)] }),
      lineage: { decides: { by: 'group', columns: union([time.from, ...groupColumns.map(({ from }) => from)]) } },
      expressions: groups.flatMap(({ column, raw }) => (raw === undefined ? [] : [{ field: column.name, sql: raw }])),
      state: {
        tables: windowDdl(state),
        mark: (inputTable) => windowMark(state, inputTable),
        bytesPerRow: 40 + 16 * (state.groups.length + state.columns.length),
        bounded: true,
        keptMs: (chosen.size ?? chosen.every ?? chosen.gap ?? 0) + chosen.lateness,
      },
    }
  },
})

type Chosen = z.output<typeof options>

interface Group {
  readonly column: Column
  readonly sql: string
  /** As the user wrote it, where it is an expression. */
  readonly raw?: string
}

interface Sum {
  readonly column: Column
  readonly sql: string
}

/** Nearer to the ends of the calendar adding the size would overflow and stop the batch. */
const SANE = `BETWEEN TIMESTAMP '0002-01-01 00:00:00' AND TIMESTAMP '9998-12-31 23:59:59.999999'`

function timeColumn(input: Relation, name: string, path: StepEnv['path']): Column {
  const column = requireColumn(input, name, path)
  if (!column.type.startsWith('TIMESTAMP'))
    throw invalidStep(`time needs a timestamp; ${column.name} is ${column.type}`, path)
  return column
}

function windowsOf({ every, size, gap }: Chosen): Windows {
  if (gap !== undefined) return { kind: 'session', gapMs: gap }
  return { kind: 'fixed', everyMs: every ?? 0, sizeMs: size ?? every ?? 0 }
}

async function groupsOf(by: Chosen['by'], input: Relation, env: StepEnv): Promise<Group[]> {
  const groups: Group[] = []
  for (const [index, entry] of by.entries()) {
    const path = [...env.path, 'by', index]
    if (typeof entry === 'string') {
      const column = requireColumn(input, entry, path)
      groups.push({ column, sql: ident(column.name) })
    } else
      for (const [name, sql] of Object.entries(entry)) {
        const typed = await env.analysis.row({ sql, path: [...path, name] }, input)
        groups.push({ column: { name, ...typed }, sql: operand(sql), raw: sql })
      }
  }
  return groups
}

/** The aggregates, and the columns of the input that they read. */
async function sumsOf(
  select: Chosen['select'],
  input: Relation,
  env: StepEnv,
): Promise<{ sums: Sum[]; read: Set<string> }> {
  const own: Relation = { sql: input.sql, columns: input.columns.map((column) => ({ ...column, from: [column.name] })) }
  const sums: Sum[] = []
  const read = new Set<string>()
  for (const [name, sql] of Object.entries(select)) {
    const path = [...env.path, 'select', name]
    sums.push({ column: { name, ...(await env.analysis.aggregate({ sql, path }, input)) }, sql: operand(sql) })
    for (const column of (await env.analysis.aggregate({ sql, path }, own)).from) read.add(column)
  }
  return { sums, read }
}

function stateOf(
  id: string,
  parts: {
    readonly windows: Windows
    readonly chosen: Chosen
    readonly input: Relation
    readonly time: Column
    readonly groups: readonly Group[]
    readonly read: ReadonlySet<string>
  },
): WindowState {
  const { windows, chosen, input, time, groups, read } = parts
  const kept = input.columns.filter(({ name }) => read.has(name)).map(({ name, type }) => ({ name: ident(name), type }))
  const keys = groups.map(({ column, sql }) => ({ sql, type: column.type }))
  const version = createHash('sha256')
    .update(JSON.stringify([windows, time.name, keys, kept]))
    .digest('hex')
    .slice(0, 8)
  const table = (suffix: string) => `state.${ident(`window_${id}_${version}${suffix}`)}`
  const at = `TRY_CAST(${ident(time.name)} AS TIMESTAMP)`
  return {
    tables: { rows: table(''), seen: table('_seen') },
    windows,
    latenessMs: chosen.lateness,
    idleMs: chosen.idle,
    settleMs: chosen.settle,
    groups: keys,
    columns: kept,
    aside: chosen.late !== undefined,
    time: `(CASE WHEN ${at} ${SANE} THEN ${at} END)`,
  }
}

/** Numbered by window and group, so that a repeated batch gives the same rows under the same numbers. */
function numbered(
  state: WindowState,
  time: Column,
  groups: readonly Column[],
  sums: readonly Sum[],
  columns: readonly Column[],
): string {
  const keys = groups.map((_, index) => `__g${index}`)
  const cast = (sql: string) => (time.type === 'TIMESTAMP' ? sql : `CAST(${sql} AS ${time.type})`)
  const items = [
    `${cast('__w')} AS window_start`,
    `${cast('__w_end')} AS window_end`,
    ...groups.map(({ name }, index) => `${keys[index]} AS ${ident(name)}`),
    ...sums.map(({ column, sql }) => `${sql} AS ${ident(column.name)}`),
    ...(state.aside ? [] : ['__correction AS correction']),
  ]
  const select = `SELECT ${items.join(', ')}, row_number() OVER (ORDER BY ${['__correction', '__w', ...keys].join(', ')}) - 1 AS ${ROW} FROM (${closedRows(state)}) GROUP BY ${['__correction', '__w', '__w_end', ...keys].join(', ')}`
  return `SELECT ${[ROW, ...columns.map(({ name }) => ident(name))].join(', ')} FROM (${select}) ORDER BY ${ROW}`
}

/** Whole records, by record and window. */
function lateBranch(
  name: string,
  state: WindowState,
  input: Relation,
  at: (name: string) => Column,
  env: StepEnv,
): Branch {
  const path = [...env.path, 'late', 'to']
  const columns = [...input.columns, at('window_start'), at('window_end')]
  checkNames(placed(columns, path))
  const { type } = at('window_start')
  const items = [
    ...input.columns.map((column) => ident(column.name)),
    `CAST(__w AS ${type}) AS window_start`,
    `CAST(__w_end AS ${type}) AS window_end`,
  ]
  const sql = `SELECT row_number() OVER (ORDER BY ${ROW}, __w) - 1 AS ${ROW}, ${items.join(', ')} FROM (${lateRows(state, input.sql)}) ORDER BY ${ROW}, __w`
  return { name, relation: { sql, columns }, path }
}

function placeOf(name: string, { select }: Chosen, { path }: StepEnv): StepEnv['path'] {
  return name in select ? [...path, 'select', name] : [...path, 'by']
}
