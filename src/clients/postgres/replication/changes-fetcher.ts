/**
 * Reads the changes of tables by logical replication: first the rows that are there where the slot begins, then each transaction in the
 * order of commits. The server keeps what the checkpoint does not have.
 */
import type { Client, PoolClient } from 'pg'
import type { Dataset } from '../../../core/contracts.ts'
import { AdflowError } from '../../../core/errors.ts'
import { ident, literal } from '../../../engine/sql-text.ts'
import { persistently } from '../../staging/attempts.ts'
import type { Fetcher, FetchLane, FetchTask } from '../../staging/fetcher.ts'
import { Postgres, placeOf } from '../connect.ts'
import { explainSource } from '../errors.ts'
import type { SourceOptions } from '../source/options.ts'
import { ReadSession, WRITTEN } from '../source/session.ts'
import { ValueWriters } from './json-values.ts'
import { type Lsn, lsnText, parseLsn } from './lsn.ts'
import type { RelationColumn, RelationMessage } from './messages.ts'
import {
  createPublication,
  hasPublication,
  lagOf,
  requireServer,
  requireSlot,
  requireTables,
  type ServerFacts,
  serverFacts,
  slotFacts,
} from './slot.ts'
import { readSnapshot, shownBy } from './snapshot.ts'
import { type ChangesState, parseChangesState } from './state.ts'
import { ChangeStream } from './stream.ts'
import { TransactionReader } from './transaction-reader.ts'

export interface ChangesOptions extends SourceOptions {
  readonly tables: readonly string[]
  readonly slot: string
  /** The name is adflow's own: nobody else has a slot of it. */
  readonly ownName: boolean
  readonly publication: string
  readonly create: boolean
  readonly snapshot: boolean
  readonly max_slot_wal: number
}

const CONNECTIONS = 3

export class ChangesFetcher implements Fetcher {
  readonly #options: ChangesOptions
  readonly #postgres: Postgres
  readonly #warn: (text: string) => void
  readonly #writers = new ValueWriters()
  /** Columns as they were told last, by table. */
  readonly #relations = new Map<number, RelationMessage>()
  /** Up to here the checkpoint has everything. */
  #confirmed: Lsn = 0n

  constructor(options: ChangesOptions, baseDir: string, warn: (text: string) => void) {
    this.#options = options
    this.#postgres = new Postgres({ ...options, connections: CONNECTIONS }, baseDir, explainSource)
    this.#warn = warn
  }

  dataset(): Dataset {
    const { host, port, database } = placeOf(this.#options)
    return { namespace: `postgres://${host}:${port}`, name: `${database}.${this.#options.slot}` }
  }

  async lanes(): Promise<readonly FetchLane[]> {
    const { namespace, name } = this.dataset()
    return [{ lane: this.#options.slot, origin: `${namespace}/${name}` }]
  }

  async fetch(task: FetchTask): Promise<void> {
    let state = parseChangesState(task.cursor, task.origin)
    await persistently(this.#options.retry, task.signal, (progressed) =>
      this.#attempt(task, state, (next) => {
        state = next
        progressed()
      }),
    )
  }

  async confirm(_lane: string, cursor: string): Promise<void> {
    const lsn = parseLsn(parseChangesState(cursor, this.#options.slot)?.lsn ?? '0/0')
    if (lsn > this.#confirmed) this.#confirmed = lsn
  }

  async close(): Promise<void> {
    const confirmed = lsnText(this.#confirmed)
    if (this.#confirmed > 0n) {
      const { slot } = this.#options
      const advance = `SELECT pg_replication_slot_advance(slot_name, ${literal(confirmed)}) FROM pg_replication_slots WHERE slot_name = ${literal(slot)} AND confirmed_flush_lsn < ${literal(confirmed)}`
      // The stream may have ended before its last word was read. The next run tells it, too: a server that is down now loses nothing.
      await this.#postgres
        .with(`confirm to ${slot}`, (client) => client.query(advance))
        .catch((error: Error) => this.#warn(error.message))
      this.#confirmed = 0n
    }
    await this.#postgres.close()
  }

  async #attempt(
    task: FetchTask,
    before: ChangesState | undefined,
    reached: (state: ChangesState) => void,
  ): Promise<void> {
    const { slot, publication, tables, max_slot_wal } = this.#options
    const { facts, found } = await this.#ask(async (client) => ({
      facts: await serverFacts(client),
      found: await slotFacts(client, slot),
    }))
    requireServer(facts)
    if (before !== undefined) {
      if (before.system !== facts.system || before.slot !== slot) throw otherSlot(slot, before.slot)
      requireSlot(found, slot, before.lsn)
      const lag = lagOf(found, slot, max_slot_wal)
      if (lag !== undefined) this.#warn(lag)
    }
    await this.#ask(async (client) => {
      if (this.#options.create && before === undefined && !(await hasPublication(client, publication)))
        await createPublication(client, publication, tables)
      await requireTables(client, publication, tables)
    })
    const reach = async (state: ChangesState) => {
      await task.sink.page(JSON.stringify(state))
      reached(state)
    }
    let state = before
    let session: ReadSession | undefined
    if (state === undefined) {
      const begun = await this.#begin(task, facts, found)
      state = begun.state
      session = begun.session
      reached(state)
    }
    if (state.snapshot !== undefined) {
      await this.#snapshot(task, state, session, reach)
      const { snapshot: _, ...after } = state
      state = after
      await reach(state)
    }
    await this.#changes(task, state, reach)
  }

  /** The slot, made or found; and the rows that are there where it begins. */
  async #begin(task: FetchTask, facts: ServerFacts, found: Awaited<ReturnType<typeof slotFacts>>) {
    const { slot, ownName, create, snapshot } = this.#options
    const common = { v: 1, kind: 'changes', system: facts.system, slot } as const
    if (found !== undefined && !snapshot) {
      requireSlot(found, slot, lsnText(found.confirmed))
      return { state: { ...common, lsn: lsnText(found.confirmed) }, session: undefined }
    }
    if (!create)
      throw new AdflowError('SOURCE_MISSING', `there is no replication slot ${slot}`, {
        hint: `SELECT pg_create_logical_replication_slot(${literal(slot)}, 'pgoutput'), or \`create: missing\``,
      })
    if (found !== undefined) {
      if (!ownName)
        throw new AdflowError(
          'SOURCE_UNSUPPORTED',
          `the replication slot ${slot} is there already, and this job knows nothing of it`,
          {
            hint: `\`snapshot: never\` reads on where it stands; or drop it, where nobody needs it: SELECT pg_drop_replication_slot(${literal(slot)})`,
          },
        )
      this.#warn(`the replication slot ${slot} is made anew: nothing of it was read`)
      await this.#ask((client) => client.query(`SELECT pg_drop_replication_slot(${literal(slot)})`))
    }
    const client = await this.#replication(task.signal)
    try {
      const made = await within(this.#options.statement_timeout, `make the replication slot ${slot}`, () =>
        client.query<{ consistent_point: string; snapshot_name: string }>(
          `CREATE_REPLICATION_SLOT ${ident(slot)} LOGICAL pgoutput ${snapshot ? 'EXPORT_SNAPSHOT' : 'NOEXPORT_SNAPSHOT'}`,
        ),
      )
      const { consistent_point: lsn = '0/0', snapshot_name: name = '' } = made.rows[0] ?? {}
      if (!snapshot) return { state: { ...common, lsn }, session: undefined }
      const session = await this.#session(task, name)
      const start = { shows: await shownBy(session), leaf: '0', file: '', tid: '(0,0)' }
      return { state: { ...common, lsn, snapshot: start }, session }
    } catch (error) {
      throw explainSource(error, `make the replication slot ${slot}`)
    } finally {
      await client.end().catch(() => undefined) // the session has the snapshot
    }
  }

  async #snapshot(
    task: FetchTask,
    state: ChangesState,
    exported: ReadSession | undefined,
    reach: (state: ChangesState) => Promise<void>,
  ): Promise<void> {
    const session = exported ?? (await this.#session(task))
    try {
      await readSnapshot({
        session,
        later: exported === undefined,
        publication: this.#options.publication,
        state,
        sink: task.sink,
        segmentBytes: task.segmentBytes,
        writers: this.#writers,
        signal: task.signal,
        learn: (columns) => this.#learn(columns),
        reach,
      })
    } catch (error) {
      await session.end(error as Error)
      throw error
    }
    await session.end()
  }

  async #changes(task: FetchTask, state: ChangesState, reach: (state: ChangesState) => Promise<void>): Promise<void> {
    const { slot, publication, statement_timeout } = this.#options
    const { end: target } = await this.#ask((client) => serverFacts(client))
    const from = parseLsn(state.lsn)
    if (target <= from && state.inside === undefined) return
    const client = await this.#replication(task.signal)
    const stream = new ChangeStream(client, {
      slot,
      publication,
      from,
      confirmed: () => this.#confirmed,
      doing: `read from the replication slot ${slot}`,
    })
    const reader = new TransactionReader(state, {
      sink: task.sink,
      writers: this.#writers,
      relations: this.#relations,
      warn: this.#warn,
      learn: (columns) => this.#learn(columns),
      reach,
    })
    try {
      stream.start()
      while (!reader.isBehind(target)) await reader.take(await stream.next(task.signal, statement_timeout))
      await reader.end()
    } catch (error) {
      await task.sink.drop()
      throw error
    } finally {
      await stream.end()
    }
  }

  async #learn(columns: readonly RelationColumn[]): Promise<void> {
    await this.#writers.learn(columns, (sql, values) =>
      this.#ask(async (client) => (await client.query<Record<string, unknown>>(sql, [...values])).rows),
    )
  }

  #ask<T>(work: (client: PoolClient) => Promise<T>): Promise<T> {
    return this.#postgres.with(`read from the replication slot ${this.#options.slot}`, work)
  }

  #session(task: FetchTask, snapshot?: string): Promise<ReadSession> {
    const { lock_timeout: lockMs, statement_timeout: statementMs, slot } = this.#options
    const how = snapshot === undefined ? {} : { snapshot }
    return ReadSession.begin(
      this.#postgres,
      `read the tables of ${slot}`,
      { lockMs, statementMs, idleMs: 0 },
      task.signal,
      how,
    )
  }

  /** Closed when the run is told to stop. */
  async #replication(signal: AbortSignal): Promise<Client> {
    const settings = Object.entries(WRITTEN).map(([name, value]) => `-c ${name}=${value.replaceAll(' ', '\\ ')}`)
    const client = await this.#postgres.apart({ replication: 'database', options: settings.join(' ') })
    client.on('error', () => undefined) // told by whatever uses the connection
    try {
      await client.connect()
    } catch (error) {
      throw explainSource(error, `read from the replication slot ${this.#options.slot}`)
    }
    signal.addEventListener('abort', () => void client.end().catch(() => undefined), { once: true })
    return client
  }
}

async function within<T>(ms: number, doing: string, work: () => Promise<T>): Promise<T> {
  const late = Promise.withResolvers<never>()
  const timer = setTimeout(() => {
    const hint = 'it waits for every transaction that was open before: end those, or raise `statement_timeout`'
    late.reject(
      new AdflowError('SOURCE_UNREADABLE', `cannot ${doing}: the server was not ready after ${ms / 1000} s`, { hint }),
    )
  }, ms)
  try {
    return await Promise.race([work(), late.promise])
  } finally {
    clearTimeout(timer)
  }
}

function otherSlot(slot: string, before: string): AdflowError {
  return new AdflowError(
    'SOURCE_CHANGED',
    `what was read came from another cluster, or from the replication slot ${before}, not ${slot}`,
    {
      hint: 'name the server and the slot that were read before, or begin anew: `adflow state rewind --reload`, and load with `write: merge`',
    },
  )
}
