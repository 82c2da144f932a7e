/** Backfills, for people. */
import { Presets, SingleBar } from 'cli-progress'
import { sizeText } from '../core/job/units.ts'
import type { BackfillObserver, BackfillReport } from '../reconcile/backfill.ts'
import type { BackfillDetail, BackfillStatus } from '../reconcile/backfill-status.ts'
import { integer, table } from './table.ts'

const SHOWN = 20

export function backfillText({ backfill, status, planned, done, unreadable, without, job }: BackfillReport): string {
  const lines: string[] = []
  const { first, restore, records, seconds, stores } = planned
  if (first + restore === 0) lines.push(`${job}: nothing is missing`)
  else {
    const time = seconds === null ? '' : `, about ${integer(seconds)} s at the speed of the last runs`
    const verb = status === 'planned' ? 'would load' : 'planned'
    lines.push(
      `${job}: ${verb} ${count(first + restore, 'range')}, ${sizeText(planned.bytes)}, ${count(records, 'record')}${time}`,
    )
    if (first > 0) lines.push(`  ${count(first, 'range')} that no run has read`)
    if (restore > 0)
      lines.push(
        `  ${count(restore, 'batch', 'batches')} that stores have lost: ${Object.entries(stores)
          .map(([id, batches]) => `${id} ${integer(batches)}`)
          .join(', ')}`,
      )
  }
  if (done !== undefined) {
    const rows = Object.entries(done.stores).map(([id, own]) => [id, own.batches, own.rows])
    if (rows.length > 0)
      lines.push(
        '',
        table([{ name: 'store' }, { name: 'batches', align: 'right' }, { name: 'rows', align: 'right' }], rows),
      )
    if (done.superseded > 0) lines.push(`${count(done.superseded, 'range')} had been read by a run meanwhile`)
    for (const { lane, from, to, code, message } of done.left.slice(0, SHOWN))
      lines.push(`left: ${lane} [${from}, ${to}): ${code}: ${message}`)
    if (done.left.length > SHOWN) lines.push(`… and ${done.left.length - SHOWN} more (--json has them all)`)
    for (const text of done.warnings) lines.push(`warning: ${text}`)
    lines.push(
      '',
      `backfill ${backfill}: ${status}${done.open > 0 ? `; ${integer(done.open)} to do: adflow backfill resume ${job} ${backfill}` : ''}`,
    )
  }
  for (const { lane, from, code, message } of unreadable.slice(0, SHOWN))
    lines.push(`cannot be read: ${lane} from ${from}: ${code}: ${message}`)
  for (const id of without) lines.push(`${id} has no place for batches of the past: it is left out`)
  return lines.join('\n')
}

export function backfillsText(backfills: readonly BackfillStatus[]): string {
  if (backfills.length === 0) return 'no backfills yet'
  return table(
    [
      { name: 'backfill' },
      { name: 'created' },
      { name: 'status' },
      { name: 'first', align: 'right' },
      { name: 'restore', align: 'right' },
      { name: 'records', align: 'right' },
      { name: 'who' },
    ],
    backfills.map(({ id, created_at, status, first, restore, records, who }) => [
      id,
      created_at,
      status,
      first,
      restore,
      records,
      who,
    ]),
  )
}

export function backfillDetailText(detail: BackfillDetail): string {
  const { id, status, message, command, who, created_at, done, items } = detail
  const open = items.filter((item) => !item.done)
  const shown = open
    .slice(0, SHOWN)
    .map(({ kind, source, lane, from, to, stores }) => [
      kind,
      source,
      lane,
      integer(BigInt(from)),
      integer(BigInt(to)),
      kind === 'first' ? 'all' : stores.join(', '),
    ])
  return [
    `backfill ${id}: ${status}${message === undefined ? '' : ` (${message})`}`,
    `planned by ${who} at ${created_at}: ${command}`,
    `${integer(done)} of ${count(items.length, 'range')} done`,
    ...(shown.length === 0
      ? []
      : [
          '',
          table(
            [
              { name: 'to do' },
              { name: 'source' },
              { name: 'lane' },
              { name: 'from', align: 'right' },
              { name: 'to', align: 'right' },
              { name: 'stores' },
            ],
            shown,
          ),
        ]),
    ...(open.length > SHOWN ? [`… and ${integer(open.length - SHOWN)} more (--json has them all)`] : []),
  ].join('\n')
}

/** A bar on a terminal, nothing anywhere else. */
export function backfillProgress(enabled: boolean): BackfillObserver & { stop(): void } {
  if (!enabled || process.stderr.isTTY !== true) return { stop: () => undefined }
  const bar = new SingleBar(
    {
      format: '{bar} {percentage}% │ {items} of {all} ranges │ {size} │ ETA {eta_formatted}',
      stream: process.stderr,
      hideCursor: true,
      clearOnComplete: true,
    },
    Presets.shades_classic,
  )
  let running = false
  return {
    started: ({ items: all, bytes: total }) => {
      running = true
      bar.start(Math.max(1, total), 0, { items: 0, all, size: sizeText(total) })
    },
    done: ({ items, bytes: so }) => {
      if (running) bar.update(Math.min(so, bar.getTotal()), { items })
    },
    stop: () => {
      if (running) bar.stop()
    },
  }
}

function count(value: number, one: string, many = `${one}s`): string {
  return `${integer(value)} ${value === 1 ? one : many}`
}
