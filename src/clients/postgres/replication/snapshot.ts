/** The rows that tables have where a slot begins, as records before all changes. */
import { AdflowError } from '../../../core/errors.ts'
import { ident } from '../../../engine/sql-text.ts'
import type { PageSink } from '../../staging/fetcher.ts'
import { describeTable } from '../source/columns.ts'
import { type Leaf, leavesOf, partsOf } from '../source/extent.ts'
import { horizonOf } from '../source/horizon.ts'
import type { ReadSession } from '../source/session.ts'
import type { ValueWriters } from './json-values.ts'
import { type Lsn, parseLsn } from './lsn.ts'
import type { RelationColumn } from './messages.ts'
import { recordOf } from './records.ts'
import type { ChangesState } from './state.ts'

const AHEAD_BYTES = 4 << 20
const BEGINNING = '(0,0)'
const NEWLINE = 10

interface PublishedLeaf extends Leaf {
  readonly schema: string
  readonly table: string
  readonly columns: readonly RelationColumn[]
  readonly filter: string | null
}

export interface SnapshotWork {
  /** In the snapshot of the slot, or, where that is gone, in a later one. */
  readonly session: ReadSession
  readonly later: boolean
  readonly publication: string
  readonly state: ChangesState
  readonly sink: PageSink
  readonly segmentBytes: number
  readonly writers: ValueWriters
  readonly signal: AbortSignal
  learn(columns: readonly RelationColumn[]): Promise<void>
  reach(state: ChangesState): Promise<void>
}

/** What the snapshot of a session shows, for a state. */
export async function shownBy(session: ReadSession): Promise<string> {
  return (await session.one('SELECT pg_current_snapshot()::text AS shows'))['shows'] ?? ''
}

export async function readSnapshot(work: SnapshotWork): Promise<void> {
  const { session, state, sink } = work
  const { blockBytes } = await horizonOf(session)
  const begun = state.snapshot
  if (begun === undefined) return
  const shown = work.later ? await shownThen(session, begun.shows) : 'true'
  for (const leaf of await publishedLeaves(session, work.publication)) {
    if (BigInt(leaf.oid) < BigInt(begun.leaf)) continue
    const tid = leaf.oid === begun.leaf ? begun.tid : BEGINNING
    if (tid !== BEGINNING && leaf.file !== begun.file) throw rewritten(leaf.name)
    await work.learn(leaf.columns)
    const condition = leaf.filter === null ? shown : `${shown} AND (${leaf.filter})`
    const parts = partsOf(session, leaf, tid, { condition, above: false, segmentBytes: work.segmentBytes, blockBytes })
    const names = leaf.columns.map(({ name }) => ident(name)).join(', ')
    try {
      for await (const { from, where, end } of parts) {
        await readPart(work, leaf, `SELECT ${names} FROM ONLY ${from} WHERE ${where}`)
        await work.reach({ ...state, snapshot: { ...begun, leaf: leaf.oid, file: leaf.file, tid: end } })
      }
    } catch (error) {
      await sink.drop()
      throw error
    }
  }
}

async function readPart(
  { session, sink, state, writers, signal }: SnapshotWork,
  leaf: PublishedLeaf,
  sql: string,
): Promise<void> {
  const lsn: Lsn = parseLsn(state.lsn)
  let rest: Buffer = Buffer.alloc(0)
  for await (const piece of session.copy(sql, 'text', AHEAD_BYTES)) {
    signal.throwIfAborted()
    const bytes = rest.length === 0 ? piece : Buffer.concat([rest, piece])
    const end = bytes.lastIndexOf(NEWLINE) + 1
    rest = bytes.subarray(end)
    if (end === 0) continue
    const records = bytes
      .toString('utf8', 0, end - 1)
      .split('\n')
      .map((line) =>
        recordOf({ op: 'snapshot', relation: leaf, lsn, seq: 0, after: valuesOf(line, leaf) }, undefined, writers),
      )
    await sink.write(Buffer.from(records.join('')))
  }
}

const ESCAPES: Readonly<Record<string, string>> = { b: '\b', f: '\f', n: '\n', r: '\r', t: '\t', v: '\v' }

/** The values of a row in the text format of COPY. */
function valuesOf(line: string, { columns }: PublishedLeaf): (string | null)[] {
  if (columns.length === 0) return []
  return line.split('\t').map((field) => {
    if (field === '\\N') return null
    return field.includes('\\')
      ? field.replace(/\\(.)/gs, (_, character: string) => ESCAPES[character] ?? character)
      : field
  })
}

/** By oid: a place is a table and a place in it. */
async function publishedLeaves(session: ReadSession, publication: string): Promise<readonly PublishedLeaf[]> {
  const tables = await session.query(
    `SELECT quote_ident(schemaname) || '.' || quote_ident(tablename) AS name, to_jsonb(p)->>'rowfilter' AS filter, to_jsonb(p)->'attnames' AS attnames FROM pg_publication_tables p WHERE pubname = $1`,
    [publication],
  )
  const all: PublishedLeaf[] = []
  for (const { name, filter, attnames } of tables) {
    const table = await describeTable(session, name ?? '', undefined)
    const types = await session.query(
      `SELECT attname AS name, atttypid::text AS type FROM pg_attribute WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum`,
      [table.oid],
    )
    const published = attnames === null || attnames === undefined ? undefined : (JSON.parse(attnames) as string[])
    const columns = types
      .map(({ name: column, type }) => ({ name: column ?? '', type: Number(type) }))
      .filter(({ name: column }) => published?.includes(column) !== false)
    const { schema, table: bare } = table
    for (const leaf of await leavesOf(session, table))
      all.push({ ...leaf, schema, table: bare, columns, filter: filter ?? null })
  }
  return all.sort((a, b) => (BigInt(a.oid) < BigInt(b.oid) ? -1 : 1))
}

/** SQL of the rows that a snapshot has shown which is gone: those that are as they were. What was changed since comes as a change. */
async function shownThen(session: ReadSession, shows: string): Promise<string> {
  const { over } = await horizonOf(session)
  const { age } = await session.one('SELECT age($1::xid) AS age', [String(over & 0xffff_ffffn)])
  const transaction = `(${over + BigInt(age ?? 0)} - age(xmin))::text::xid8`
  return `(age(xmin) < 0 OR age(xmin) = 2147483647 OR pg_visible_in_snapshot(${transaction}, '${shows}'::pg_snapshot))`
}

function rewritten(table: string): AdflowError {
  return new AdflowError(
    'SOURCE_CHANGED',
    `${table} was rewritten (VACUUM FULL, CLUSTER, TRUNCATE) while its first reading was cut off`,
    {
      hint: 'its rows stand in other places now; `adflow state rewind --reload` begins anew: load with `write: merge` then',
    },
  )
}
