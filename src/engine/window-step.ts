/** From the options of a window to its state and its SQL. */
import { createHash } from 'node:crypto'
import type { Column, Relation } from '../core/contracts.ts'
import type { Branch, Fold, StepEnv } from '../core/step-contract.ts'
import { ROW } from './relation.ts'
import { ident } from './sql-text.ts'
import { checkNames, invalidStep, operand, placed, requireColumn } from './step-columns.ts'
import { eventTime, self } from './watermark.ts'
import { givenRows, lateRows } from './window-rows.ts'
import { dayOf, type KeptColumn, keysOf, type WindowState, type Windows } from './windows.ts'

/** Durations in milliseconds. */
export interface WindowOptions {
  readonly windows: Windows
  readonly time: string
  readonly by: readonly (string | Readonly<Record<string, string>>)[]
  readonly select: Readonly<Record<string, string>>
  readonly lateness: number
  readonly idle: number
  readonly settle: number
  readonly early?: number | undefined
  readonly late?: { readonly to: string } | undefined
}

export interface WindowGroup {
  readonly column: Column
  readonly sql: string
  /** As the user wrote it, where it is an expression. */
  readonly raw?: string
}

export interface CompiledWindow {
  readonly state: WindowState
  readonly time: Column
  readonly groups: readonly WindowGroup[]
  readonly columns: readonly Column[]
  /** Of the rows that a batch gives, with ROW. */
  readonly sql: string
  /** What comes too late, where it has an output of its own. */
  readonly branch: Branch | undefined
}

/** Part of the names of tables: another layout begins with no rows. */
const LAYOUT = 2
export async function compileWindow(chosen: WindowOptions, input: Relation, env: StepEnv): Promise<CompiledWindow> {
  const { column: time, sql: at } = eventTime(input, chosen.time, [...env.path, 'time'])
  const groups = [...dayOfTotals(chosen.windows, time), ...(await groupsOf(chosen.by, input, env))]
  const { sums, kept, folded } = await sumsOf(chosen, input, env)
  const state = stateOf(env.id, { chosen, time, at, groups, kept, folded })
  const { late } = chosen
  return {
    state,
    time,
    groups,
    ...given(state, { time, groups, sums }),
    branch: late === undefined ? undefined : lateBranch(late.to, { state, time, input, env }),
  }
}

function dayOfTotals(windows: Windows, { from }: Column): WindowGroup[] {
  if (windows.kind !== 'running') return []
  return [{ column: { name: 'day', type: 'DATE', from, how: 'computed' }, sql: dayOf(windows) }]
}

async function groupsOf(by: WindowOptions['by'], input: Relation, env: StepEnv): Promise<WindowGroup[]> {
  const groups: WindowGroup[] = []
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

interface Sum {
  readonly column: Column
  /** Aggregates over what is kept, by name. */
  readonly merged: readonly { readonly name: string; readonly sql: string }[]
  /** SQL over these. */
  readonly finish: string
}

interface Sums {
  readonly sums: readonly Sum[]
  readonly kept: readonly KeptColumn[]
  readonly folded: boolean
}

/** Where all aggregates can be merged, their parts are kept; else the columns that they read. */
async function sumsOf({ select, windows }: WindowOptions, input: Relation, env: StepEnv): Promise<Sums> {
  const columns = new Map<string, Column>()
  const folds = new Map<string, Fold | undefined>()
  for (const [name, sql] of Object.entries(select)) {
    const expression = { sql, path: [...env.path, 'select', name] }
    columns.set(name, { name, ...(await env.analysis.aggregate(expression, input)) })
    const nameOf = (part: number) => `__m${folds.size}_${part}`
    const fold = windows.kind === 'session' ? undefined : await env.analysis.fold(expression, input, nameOf)
    if (fold === undefined && windows.kind === 'running')
      throw invalidStep(
        'a running total is put together of what is known of its steps: this cannot be',
        expression.path,
        ['use sum, count, min, max, count(distinct …), bool_and and bool_or, and what is computed of them'],
      )
    folds.set(name, fold)
  }
  const all = [...folds.values()].filter((fold) => fold !== undefined)
  // Rows that values tell apart are hardly fewer, and cost more than they are.
  const worthIt = windows.kind === 'running' || !all.some(({ parts }) => parts.some(({ kind }) => kind === 'value'))
  return all.length === folds.size && worthIt
    ? foldedSums([...columns.values()], all)
    : plainSums(select, [...columns.values()], await readBy(select, input, env))
}

function foldedSums(columns: readonly Column[], folds: readonly Fold[]): Sums {
  const kept: KeptColumn[] = []
  const sums = columns.map((column, index): Sum => {
    const { parts, finish } = folds[index] ?? { parts: [], finish: '' }
    const merged = parts.map(({ kind, make, type, merge }, part) => {
      const same = kept.find((other) => other.make === make && other.kind === kind)
      const name = same?.name ?? `__p${kept.length}`
      if (same === undefined) kept.push({ name, type, make, kind, merge })
      return { name: `__m${index}_${part}`, sql: merge(name) }
    })
    return { column, merged, finish }
  })
  return { sums, kept, folded: true }
}

function plainSums(select: WindowOptions['select'], columns: readonly Column[], read: readonly Column[]): Sums {
  const sums = columns.map((column, index): Sum => {
    const name = `__m${index}`
    return { column, merged: [{ name, sql: operand(select[column.name] ?? '') }], finish: name }
  })
  const kept = read.map(({ name, type }): KeptColumn => {
    const quoted = ident(name)
    return { name: quoted, type, make: quoted, kind: 'value', merge: () => quoted }
  })
  return { sums, kept, folded: false }
}

/** The columns of the input that the aggregates read. */
async function readBy(select: WindowOptions['select'], input: Relation, env: StepEnv): Promise<Column[]> {
  const own: Relation = { sql: input.sql, columns: input.columns.map((column) => ({ ...column, from: [column.name] })) }
  const read = new Set<string>()
  for (const [name, sql] of Object.entries(select))
    for (const column of (await env.analysis.aggregate({ sql, path: [...env.path, 'select', name] }, own)).from)
      read.add(column)
  return input.columns.filter(({ name }) => read.has(name))
}

function stateOf(
  id: string,
  parts: {
    readonly chosen: WindowOptions
    readonly time: Column
    /** SQL of the time of a row. */
    readonly at: string
    readonly groups: readonly WindowGroup[]
    readonly kept: readonly KeptColumn[]
    readonly folded: boolean
  },
): WindowState {
  const { chosen, time, at, kept, folded } = parts
  const { windows } = chosen
  const groups = parts.groups.map(({ column, sql }) => ({ sql, type: column.type }))
  const version = createHash('sha256')
    .update(JSON.stringify([LAYOUT, windows, time.name, groups, kept]))
    .digest('hex')
    .slice(0, 8)
  const table = (suffix: string) => `state.${ident(`window_${id}_${version}${suffix}`)}`
  return {
    tables: { rows: table(''), settled: table('_settled'), seen: table('_seen') },
    windows,
    latenessMs: chosen.lateness,
    idleMs: chosen.idle,
    settleMs: chosen.settle,
    earlyMs: chosen.early,
    groups,
    kept,
    folded,
    aside: chosen.late !== undefined,
    time: at,
  }
}

/** Numbered by window and group, so that a repeated batch gives the same rows under the same numbers. */
function given(
  state: WindowState,
  parts: { readonly time: Column; readonly groups: readonly WindowGroup[]; readonly sums: readonly Sum[] },
): { sql: string; columns: Column[] } {
  const { windows, aside, earlyMs, tables } = state
  const { time, groups, sums } = parts
  const running = windows.kind === 'running'
  const keys = keysOf(state)
  const kinds = ['__correction', '__provisional']
  const own = (name: string, type: string, sql: string) => ({ column: computed(name, type, time), sql })
  const grouped = groups.map(({ column }, index) => ({ column, sql: keys[index] ?? '' }))
  const at = [own('window_start', time.type, '__w'), own('window_end', time.type, '__w_end')]
  const items = [
    ...(running ? [...grouped.slice(0, 1), ...at, ...grouped.slice(1)] : [...at, ...grouped]),
    ...sums.map(({ column, finish }) => ({ column, sql: finish })),
    ...(running || !aside ? [own('correction', 'BOOLEAN', '__correction')] : []),
    ...(earlyMs === undefined ? [] : [own('provisional', 'BOOLEAN', '__provisional')]),
    ...(running || earlyMs !== undefined ? [own('version', 'BIGINT', self(tables.seen, '__version'))] : []),
  ]
  const merged = sums.flatMap((sum) => sum.merged).map(({ name, sql }) => `${sql} AS ${name}`)
  const by = [...kinds, '__w', '__w_end', ...keys]
  const together = `SELECT ${[...by, ...merged].join(', ')} FROM (${givenRows(state)}) GROUP BY ${by.join(', ')}`
  // The total of a group that comes last is its newest.
  const order = running ? ['__w_end', ...keys] : [...kinds, '__w', ...keys]
  const select = items.map(({ column: { name, type }, sql }) => `CAST(${sql} AS ${type}) AS ${ident(name)}`)
  const columns = items.map(({ column }) => column)
  const sql = `SELECT ${[`row_number() OVER (ORDER BY ${order.join(', ')}) - 1 AS ${ROW}`, ...select].join(', ')} FROM (${together}) ORDER BY ${ROW}`
  return { sql, columns }
}

/** Whole records, by record and window. */
function lateBranch(
  name: string,
  parts: { readonly state: WindowState; readonly time: Column; readonly input: Relation; readonly env: StepEnv },
): Branch {
  const { state, time, input, env } = parts
  const path = [...env.path, 'late', 'to']
  const missed = [computed('window_start', time.type, time), computed('window_end', time.type, time)]
  const columns = [...input.columns, ...missed]
  checkNames(placed(columns, path))
  const items = [
    ...input.columns.map((column) => ident(column.name)),
    `CAST(__w AS ${time.type}) AS window_start`,
    `CAST(__w_end AS ${time.type}) AS window_end`,
  ]
  const sql = `SELECT row_number() OVER (ORDER BY ${ROW}, __w) - 1 AS ${ROW}, ${items.join(', ')} FROM (${lateRows(state, input.sql)}) ORDER BY ${ROW}, __w`
  return { name, relation: { sql, columns }, path }
}

function computed(name: string, type: string, { from }: Column): Column {
  return { name, type, from, how: 'computed' }
}
