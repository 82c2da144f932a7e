/** The status of a job, for people. */

import { sizeText } from '../core/job/units.ts'
import type { JobStatus } from '../runtime/status.ts'
import { integer, table } from './table.ts'

export function statusText(status: JobStatus): string {
  const { checkpoint, running } = status
  const parts = [
    `${status.job} — state in ${status.state_dir}`,
    status.shards.length > 0
      ? `in ${status.shards.length} parts, each with a state of its own: --state-dir shows one`
      : running === null
        ? 'not running'
        : `running: process ${running.pid}${running.host === undefined ? '' : ` on ${running.host}`} since ${running.since} (${running.command})`,
    status.shards.length > 0
      ? shards(status)
      : checkpoint === null
        ? 'no checkpoint yet: the job has not run'
        : `checkpoint ${checkpoint.generation} of ${checkpoint.saved_at}${checkpoint.fallback === null ? '' : ` — the newer slot is damaged: ${checkpoint.fallback}`}`,
  ]
  if (status.planned > 0)
    parts.push(`${integer(status.planned)} ranges planned and not acknowledged: the next run retries exactly these`)
  if (status.lanes.length > 0) parts.push('', lanes(status))
  if (status.conservation.length > 0)
    parts.push(
      '',
      grid(status.conservation, [
        'source',
        'store',
        'batches',
        'read',
        'loaded',
        'quarantined',
        'filtered',
        'deduplicated',
        'owed',
        'unaccounted',
      ]),
    )
  for (const { store, batches, rows, bytes: size } of status.owed)
    parts.push(
      '',
      `owed to ${store}: ${integer(rows)} rows in ${integer(batches)} batches (${sizeText(size)}); the next run pays them`,
    )
  for (const { source, bytes: size, since } of status.staged)
    if (size > 0)
      parts.push(
        '',
        `staged of ${source}: ${sizeText(size)} since ${since}; the next run loads them before it fetches more`,
      )
  for (const { consumer, batches, rows, bytes: size } of status.consumers)
    parts.push(
      '',
      `waiting for ${consumer}: ${integer(rows)} rows in ${integer(batches)} batches (${sizeText(size)}); the next run, or \`adflow distribute\`, hands them over`,
    )
  for (const gap of status.gaps)
    parts.push(
      '',
      `open gap: ${gap['source']} ${gap['lane']} from ${gap['range_from']}: ${gap['code']}: ${gap['message']} (since ${gap['since']})`,
    )
  if (status.gaps.length > 0) parts.push('', 'the next run, or `adflow gaps --collect`, asks for what is missing')
  if (status.runs.length > 0)
    parts.push('', grid(status.runs, ['started_at', 'status', 'exit', 'code', 'batches', 'read']))
  return parts.join('\n')
}

function shards({ shards: all }: JobStatus): string {
  return table(
    [
      { name: 'part' },
      { name: 'run' },
      { name: 'saved' },
      { name: 'lanes', align: 'right' },
      { name: 'planned', align: 'right' },
      { name: 'owed', align: 'right' },
    ],
    all.map(({ shard, running, saved_at, lanes, planned, owed }) => [
      shard,
      running === null ? 'not here' : `process ${running.pid} since ${running.since}`,
      saved_at ?? 'never',
      lanes,
      planned,
      owed,
    ]),
  )
}

function lanes({ lanes: all }: JobStatus): string {
  const shown = all.slice(0, 20).map(({ source, lane, at, behind }) => [
    source,
    lane,
    integer(BigInt(at)),
    Object.entries(behind)
      .map(([store, position]) => `${store} at ${position}`)
      .join(', '),
  ])
  const text = table(
    [{ name: 'source' }, { name: 'lane' }, { name: 'position', align: 'right' }, { name: 'behind' }],
    shown,
  )
  return all.length > 20 ? `${text}\n… and ${all.length - 20} more lanes (--json has them all)` : text
}

/** Integers come from the engine as text. */
function grid(rows: readonly Readonly<Record<string, unknown>>[], names: readonly string[]): string {
  const numeric = (name: string) => rows.every((row) => row[name] === null || /^-?\d+$/.test(String(row[name])))
  return table(
    names.map((name) => ({ name, align: numeric(name) ? ('right' as const) : ('left' as const) })),
    rows.map((row) =>
      names.map((name) =>
        row[name] === null || row[name] === undefined
          ? ''
          : numeric(name)
            ? integer(BigInt(String(row[name])))
            : String(row[name]),
      ),
    ),
  )
}
