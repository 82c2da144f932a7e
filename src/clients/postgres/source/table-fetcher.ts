/**
 * Reads a table of PostgreSQL: first all of it, then what finished transactions have left since. Each row version belongs to one
 * transaction, each transaction to one pass; the place in a pass is the place of a row in the file of the table.
 */
import type { Dataset } from '../../../core/contracts.ts'
import { AdflowError } from '../../../core/errors.ts'
import { ident, literal } from '../../../engine/sql-text.ts'
import { persistently } from '../../staging/attempts.ts'
import type { Fetcher, FetchLane, FetchTask } from '../../staging/fetcher.ts'
import { Postgres, placeOf } from '../connect.ts'
import { explainSource } from '../errors.ts'
import { describeTable, type SourceTable, valueSql } from './columns.ts'
import { boundsOf, type CursorOption, type Leaf, leavesOf, type Part, partsOf } from './extent.ts'
import { type Horizon, horizonOf, writtenBetween } from './horizon.ts'
import type { SourceOptions } from './options.ts'
import { PartReader } from './part-reader.ts'
import { ReadSession } from './session.ts'
import { parseTableState, type TablePass, type TableState } from './table-state.ts'

export interface TableOptions extends SourceOptions {
  readonly tables: readonly string[]
  readonly columns: readonly string[] | undefined
  readonly cursor: CursorOption | undefined
  readonly again: 'changed' | 'all'
  readonly parallel: number
  readonly idle_timeout: number
}

/** How many a pass takes, at most, to find one that nobody's end holds back. */
const SNAPSHOTS = 4
const BEGINNING = '(0,0)'
const NDJSON = { type: 'ndjson' } as const

export class TableFetcher implements Fetcher {
  readonly #options: TableOptions
  readonly #postgres: Postgres
  readonly #warn: (text: string) => void

  constructor(options: TableOptions, baseDir: string, warn: (text: string) => void) {
    this.#options = options
    const limits = {
      connections: options.parallel * options.tables.length,
      statement_timeout: options.statement_timeout,
    }
    this.#postgres = new Postgres({ ...options, ...limits }, baseDir, explainSource)
    this.#warn = warn
  }

  dataset(): Dataset {
    const { host, port, database } = placeOf(this.#options)
    return {
      namespace: `postgres://${host}:${port}`,
      name: this.#options.tables.map((table) => `${database}.${table}`).join(','),
    }
  }

  async lanes(): Promise<readonly FetchLane[]> {
    const { host, port, database } = placeOf(this.#options)
    return this.#options.tables.map((lane) => ({ lane, origin: `postgres://${host}:${port}/${database}.${lane}` }))
  }

  async fetch(task: FetchTask): Promise<void> {
    let state = parseTableState(task.cursor, task.origin)
    await persistently(this.#options.retry, task.signal, (progressed) =>
      new Pass(task, this.#postgres, this.#options, this.#warn, (next) => {
        state = next
        progressed()
      }).run(state),
    )
  }

  async close(): Promise<void> {
    await this.#postgres.close()
  }
}

class Pass {
  readonly #task: FetchTask
  readonly #postgres: Postgres
  readonly #options: TableOptions
  readonly #warn: (text: string) => void
  readonly #reached: (state: TableState) => void
  readonly #doing: string
  #found = false

  constructor(
    task: FetchTask,
    postgres: Postgres,
    options: TableOptions,
    warn: (text: string) => void,
    reached: (state: TableState) => void,
  ) {
    this.#task = task
    this.#postgres = postgres
    this.#options = options
    this.#warn = warn
    this.#reached = reached
    this.#doing = `read ${task.lane}`
  }

  async run(before: TableState | undefined): Promise<void> {
    for (let left = SNAPSHOTS; !(await this.#ran(before, { last: left <= 1 })); left--);
  }

  /** false: one transaction was in its end when the snapshot was taken, and held back what others have written. */
  async #ran(before: TableState | undefined, { last }: { readonly last: boolean }): Promise<boolean> {
    const session = await this.#begin({ lock: this.#task.lane })
    let useful = false
    try {
      const horizon = await horizonOf(session)
      useful = last || !horizon.passed
      if (useful) {
        await this.#read(session, horizon, before)
        if (horizon.next > horizon.over && (before === undefined || !this.#found)) this.#waits(horizon)
      }
    } catch (error) {
      await session.end(error as Error)
      throw error
    }
    await session.end()
    return useful
  }

  async #read(session: ReadSession, horizon: Horizon, before: TableState | undefined): Promise<void> {
    const { columns } = this.#options
    const { lane: name } = this.#task
    if (before !== undefined && before.system !== horizon.system) throw otherSystem(name)
    const table = await describeTable(session, name, columns)
    const leaves = await leavesOf(session, table)
    const work = await this.#work(session, table, leaves, horizon, before)
    if (work === undefined) return
    const { pass, read, condition } = work
    await this.#task.sink.format(formatOf(table))
    for (const leaf of leaves) {
      if (BigInt(leaf.oid) < BigInt(pass.leaf)) continue
      const tid = leaf.oid === pass.leaf ? pass.tid : BEGINNING
      if (leaf.oid === pass.leaf && tid !== BEGINNING && leaf.file !== pass.file) throw rewritten(name)
      const parts = partsOf(session, leaf, tid, {
        condition,
        above: pass.above !== undefined,
        segmentBytes: this.#task.segmentBytes,
        blockBytes: horizon.blockBytes,
      })
      await this.#parts(session, table, parts, (at) => ({
        v: 1,
        system: horizon.system,
        ...(read === undefined ? {} : { read: String(read) }),
        ...(before?.high === undefined ? {} : { high: before.high }),
        pass: { ...pass, leaf: leaf.oid, file: leaf.file, tid: at, cut: true },
      }))
    }
    await this.#reach({
      v: 1,
      system: horizon.system,
      read: pass.to,
      ...(pass.high === undefined ? {} : { high: pass.high }),
      ...(pass.cut ? { whole: true } : {}),
    })
  }

  /** The pass that was not ended, or the next one. undefined: nothing has come to its end since the last. */
  async #work(
    session: ReadSession,
    table: SourceTable,
    leaves: readonly Leaf[],
    horizon: Horizon,
    before: TableState | undefined,
  ) {
    const { cursor } = this.#options
    // A pass that was cut is followed by what changed meanwhile, also where everything is read each time.
    const anew = this.#options.again === 'all' && before?.pass === undefined && before?.whole !== true
    const read = anew || before?.read === undefined ? undefined : BigInt(before.read)
    const to = before?.pass === undefined ? horizon.over : BigInt(before.pass.to)
    if (read !== undefined && to <= read && read <= horizon.next) return undefined
    const window = writtenBetween(read, to, horizon)
    const bounds =
      cursor === undefined
        ? undefined
        : await boundsOf(session, table, cursor, {
            window,
            high: before?.high,
            all: read === undefined || before?.whole === true,
          })
    const pass: TablePass = before?.pass ?? {
      to: String(to),
      leaf: leaves[0]?.oid ?? '0',
      file: leaves[0]?.file ?? '',
      tid: BEGINNING,
      cut: false,
      ...(bounds?.above === undefined ? {} : { above: bounds.above }),
      ...(bounds?.high === undefined ? {} : { high: bounds.high }),
    }
    return { pass, read, condition: pass.above === undefined ? window : `${window} AND ${pass.above}` }
  }

  async #parts(
    session: ReadSession,
    table: SourceTable,
    parts: AsyncIterable<Part>,
    stateAt: (tid: string) => TableState,
  ): Promise<void> {
    const { sink, signal } = this.#task
    const select = selectOf(table)
    const reader = new PartReader(
      session,
      (snapshot) => this.#begin({ snapshot }),
      this.#options.parallel,
      isAlone(table) ? 'lines' : 'csv',
    )
    try {
      for await (const { pieces, end } of reader.read(
        parts,
        ({ from, where }) => `SELECT ${select} FROM ONLY ${from} WHERE ${where}`,
      )) {
        for await (const piece of pieces) {
          signal.throwIfAborted()
          this.#found = true
          await sink.write(piece)
        }
        await this.#reach(stateAt(end))
      }
      await reader.end()
    } catch (error) {
      await reader.end(error as Error)
      await sink.drop()
      throw error
    }
  }

  async #reach(state: TableState): Promise<void> {
    await this.#task.sink.page(JSON.stringify(state))
    this.#reached(state)
  }

  #waits({ over, next, openedBy }: Horizon): void {
    const who = openedBy === undefined ? '' : ` (${openedBy})`
    this.#warn(
      `${this.#task.lane}: transaction ${over}${who} is open; what ${next - over} later ones have written comes when it is over`,
    )
  }

  #begin(how: { readonly lock?: string; readonly snapshot?: string }): Promise<ReadSession> {
    const { lock_timeout, statement_timeout, idle_timeout } = this.#options
    const limits = { lockMs: lock_timeout, idleMs: idle_timeout, statementMs: statement_timeout }
    return ReadSession.begin(this.#postgres, this.#doing, limits, this.#task.signal, how)
  }
}

/** A table of one column is read as JSON: a NULL alone would be an empty line of CSV. */
function isAlone({ columns }: SourceTable): boolean {
  return columns.length === 1
}

function selectOf(table: SourceTable): string {
  if (!isAlone(table)) return table.columns.map((column) => `${valueSql(column)} AS ${ident(column.name)}`).join(', ')
  const object = table.columns.map((column) => `json_build_object(${literal(column.name)}, ${valueSql(column)})`)
  return `replace(${object.join('')}::text, e'\\n', ' ')`
}

function formatOf(table: SourceTable) {
  if (isAlone(table)) return NDJSON
  return { type: 'csv', delimiter: ',', quote: '"', header: table.columns.map(({ name }) => name) } as const
}

function otherSystem(table: string): AdflowError {
  return new AdflowError(
    'SOURCE_CHANGED',
    `${table} is on another cluster than before: its transactions are numbered otherwise`,
    {
      hint: 'name the cluster that was read before in `url`, or read it anew: `adflow state rewind --reload`, and load with `write: merge`',
    },
  )
}

function rewritten(table: string): AdflowError {
  return new AdflowError(
    'SOURCE_CHANGED',
    `${table} was rewritten (VACUUM FULL, CLUSTER, TRUNCATE) while a pass over it was cut off`,
    {
      hint: 'its rows stand in other places now; `adflow state rewind --reload` reads it anew: load it with `write: merge` then',
    },
  )
}
