/** The plan of a job, for people. */

import { sizeText } from '../core/job/units.ts'
import type { JobPlan, PlannedColumn, PlannedConsumer, PlannedLoader, PlannedSource } from '../runtime/plan.ts'
import { integer, table } from './table.ts'

const MAX_LANES = 20

export function planText(plan: JobPlan): string {
  const { checkpoint, planned } = plan
  const since =
    checkpoint === null
      ? 'it has not run yet: every source is read from its beginning'
      : `it goes on from checkpoint ${checkpoint.generation} of ${checkpoint.saved_at}`
  return [
    `${plan.job} — state in ${plan.state_dir}; ${since}`,
    ...(planned === 0
      ? []
      : [`${integer(planned)} ranges of an earlier run are retried first, exactly as they were planned`]),
    ...plan.sources.map(sourceText),
    chainText(plan),
    table(
      [{ name: 'rule' }, { name: 'on fail' }, { name: 'expects' }],
      plan.rules.map(({ id, on_fail, expects }) => [id, on_fail, expects]),
    ),
    ...plan.loaders.map(loaderText),
    ...plan.consumers.map(consumerText),
    `to do: ${sizeText(plan.bytes_left)} in about ${integer(plan.batches)} batches`,
  ].join('\n\n')
}

export function sqlText({ sql }: JobPlan): string {
  return sql.map((part) => `-- ${part.name} — ${part.what}\n${part.sql};`).join('\n\n')
}

function sourceText({ id, type, dataset, lanes, bytes_left, error }: PlannedSource): string {
  const head = `source ${id} (${type}): ${dataset}`
  if (error !== null) return `${head}\n  ✖ ${error}`
  const todo = lanes.filter((lane) => lane.bytes_left > 0)
  const summary = `${head}\n  ${integer(lanes.length)} lanes, ${integer(todo.length)} with something to read, ${sizeText(bytes_left)} left`
  if (todo.length === 0) return summary
  const rows = todo.slice(0, MAX_LANES).map(({ lane, state, at, end, bytes_left: left }) => {
    return [lane, state, integer(BigInt(at)), end === null ? 'unknown' : integer(BigInt(end)), sizeText(left)]
  })
  const right = { align: 'right' } as const
  const heads = [
    { name: 'lane' },
    { name: 'state' },
    { name: 'from', ...right },
    { name: 'to', ...right },
    { name: 'left', ...right },
  ]
  const more = todo.length > MAX_LANES ? `\n… and ${integer(todo.length - MAX_LANES)} more (--json has them all)` : ''
  return `${summary}\n${table(heads, rows)}${more}`
}

/** Each step with the columns that it adds, changes or leaves out. */
function chainText({ contract, steps }: JobPlan): string {
  const rows: [string, string, string, string][] = contract.columns.map(({ name, type, from }, index) => [
    index === 0 ? 'contract' : '',
    name,
    type,
    from[0] === name ? '' : `field ${from.join()}`,
  ])
  let before: readonly PlannedColumn[] = contract.columns
  for (const { id, kind, keeps_state, drops, hides, columns } of steps) {
    const notes = [
      keeps_state ? 'keeps state' : '',
      drops === null ? '' : `drops: ${drops}`,
      hides.length === 0 ? '' : `hides ${hides.join(', ')}`,
    ].filter((note) => note !== '')
    const known = new Map(before.map((column) => [column.name, column]))
    const changed = kind === 'set' ? columns : columns.filter(({ name, type }) => known.get(name)?.type !== type)
    const gone = before.filter(({ name }) => columns.every((column) => column.name !== name))
    const head = [id, ...notes].join('; ')
    if (changed.length === 0 && gone.length === 0) rows.push([head, '(the same columns)', '', ''])
    for (const [index, { name, type, from }] of changed.entries())
      rows.push([index === 0 ? head : '', name, type, from.join(', ')])
    if (kind === 'row' && gone.length > 0)
      rows.push([changed.length === 0 ? head : '', `without ${gone.map(({ name }) => name).join(', ')}`, '', ''])
    before = columns
  }
  return table([{ name: 'step' }, { name: 'column' }, { name: 'type' }, { name: 'made of' }], rows)
}

function loaderText({ id, type, dataset, input, columns, paths, owed }: PlannedLoader): string {
  const from = input === 'main' ? '' : `, rows of ${input}`
  const lines = paths.map(({ source, delivery, because }) => `  ${source} → ${id}: ${delivery} (${because})`)
  if (owed.batches > 0)
    lines.push(
      `  owed: ${integer(owed.rows)} rows in ${integer(owed.batches)} batches (${sizeText(owed.bytes)}), paid first`,
    )
  return [`store ${id} (${type}): ${dataset}${from}, ${integer(columns.length)} columns`, ...lines].join('\n')
}

function consumerText({ id, type, input, delivery, because }: PlannedConsumer): string {
  const from = input === 'main' ? '' : `, rows of ${input}`
  return `consumer ${id} (${type})${from}\n  outbox → ${id}: ${delivery} (${because})`
}
