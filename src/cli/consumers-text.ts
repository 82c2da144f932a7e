/** What was distributed, and dead letters, for people. */
import type { Letter } from '../distribute/letters.ts'
import type { ConsumerSummary } from '../runtime/distribution.ts'
import { integer, table } from './table.ts'

export function consumersTable(consumers: Readonly<Record<string, ConsumerSummary>>): string {
  return table(
    [
      { name: 'consumer' },
      { name: 'delivered', align: 'right' },
      { name: 'dead', align: 'right' },
      { name: 'owed', align: 'right' },
    ],
    Object.entries(consumers).map(([id, { delivered, dead, owed }]) => [id, delivered, dead, owed]),
  )
}

/** What needs somebody's attention. */
export function owedLines(consumers: Readonly<Record<string, ConsumerSummary>>): string[] {
  return Object.entries(consumers).flatMap(([id, { dead, owed, reason }]) => [
    ...(dead > 0 ? [`dead letters: ${integer(dead)} rows for ${id}: see \`adflow dlq list\``] : []),
    ...(owed > 0 ? [`owed: ${integer(owed)} rows to ${id}: ${reason ?? 'the run ended before'}`] : []),
  ])
}

export function lettersTable(letters: readonly Letter[]): string {
  return table(
    [
      { name: 'id' },
      { name: 'consumer' },
      { name: 'state' },
      { name: 'rows', align: 'right' },
      { name: 'attempts', align: 'right' },
      { name: 'last' },
      { name: 'reason' },
    ],
    letters.map(({ id, consumer, state, rows, attempts, last_at, reason }) => [
      id,
      consumer,
      state,
      rows,
      attempts,
      last_at,
      reason.length > 80 ? `${reason.slice(0, 79)}…` : reason,
    ]),
  )
}
