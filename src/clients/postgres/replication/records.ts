/** Changes as records: one line of JSON each. */

import type { ValueWriters } from './json-values.ts'
import { type Lsn, lsnText } from './lsn.ts'
import type { OldTuple, RelationMessage, TupleValue } from './messages.ts'

const POSTGRES_EPOCH_MICROS = BigInt(Date.UTC(2000, 0, 1)) * 1000n

/** What the changes of one transaction have in common. */
export interface Transaction {
  readonly xid: number
  readonly commit: Lsn
  readonly micros: bigint
}

export interface Change {
  readonly op: 'insert' | 'update' | 'delete' | 'truncate' | 'snapshot'
  readonly relation: Pick<RelationMessage, 'schema' | 'table' | 'columns'>
  readonly lsn: Lsn
  /** Number of the change in its transaction, from 1. */
  readonly seq: number
  readonly before?: OldTuple | undefined
  readonly after?: readonly TupleValue[] | undefined
}

export function recordOf(change: Change, transaction: Transaction | undefined, writers: ValueWriters): string {
  const { op, relation, lsn, seq, before } = change
  const { columns } = relation
  const after = change.after === undefined ? undefined : filled(change.after, before)
  const old =
    before === undefined
      ? 'null'
      : writers.object(columns, before.key ? before.values.map((value) => value ?? undefined) : before.values)
  const unchanged = (after ?? []).flatMap((value, index) => (value === undefined ? [columns[index]?.name ?? ''] : []))
  const fields = [
    `"op":"${op}"`,
    `"schema":${JSON.stringify(relation.schema)}`,
    `"table":${JSON.stringify(relation.table)}`,
    `"lsn":"${lsnText(lsn)}"`,
    `"seq":${seq}`,
    `"xid":${transaction?.xid ?? null}`,
    `"commit_lsn":${transaction === undefined ? null : JSON.stringify(lsnText(transaction.commit))}`,
    `"commit_time":${transaction === undefined ? null : JSON.stringify(timeText(transaction.micros))}`,
    `"before":${old}`,
    `"after":${after === undefined ? 'null' : writers.object(columns, after)}`,
    ...(unchanged.length === 0 ? [] : [`"unchanged":${JSON.stringify(unchanged)}`]),
  ]
  return `{${fields.join(',')}}\n`
}

/** A large value that did not change is told with the old row, where all of that is told. */
function filled(after: readonly TupleValue[], before: OldTuple | undefined): readonly TupleValue[] {
  if (before === undefined || before.key) return after
  return after.map((value, index) => (value === undefined ? before.values[index] : value))
}

function timeText(micros: bigint): string {
  const all = micros + POSTGRES_EPOCH_MICROS
  const text = new Date(Number(all / 1000n)).toISOString().slice(0, -1)
  return `${text}${String(all % 1000n).padStart(3, '0')}Z`
}
