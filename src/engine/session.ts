/**
 * The embedded engine: one DuckDB instance per process, locked down before any SQL of a job file runs.
 * Files outside `folders`, further ATTACH, settings and extensions are refused from then on.
 */
import {
  DuckDBBlobValue,
  type DuckDBConnection,
  DuckDBInstance,
  type DuckDBType,
  type DuckDBValue,
  version,
} from '@duckdb/node-api'
import pLimit from 'p-limit'
import type { EngineAccess, EngineConnection } from '../core/contracts.ts'
import { AdflowError, localIoError } from '../core/errors.ts'
import { ident, list, literal } from './sql-text.ts'
import { underWay } from './statements.ts'

export interface EngineOptions extends EngineAccess {
  readonly memoryBytes: number
  readonly threads: number
  /** Where the engine spills. */
  readonly tempFolder: string
  /** false for tools that must read what the user names (query, init). */
  readonly locked?: boolean
  /** Attach files read-only (query, status). */
  readonly readOnly?: boolean
}

const THREADS = 'threads'
/** Threads that run statements and are not the engine's own; they count as threads of it. */
const SHARING = 'external_threads'
const LIMIT = 'memory_limit'
/** To read so much again takes a tenth of a second or two. */
const MOST_EVICTED_BYTES = 256 * 2 ** 20

export class Engine {
  readonly #instance: DuckDBInstance
  readonly #threads: number
  readonly #limit: string
  /** Each statement has one thread. */
  #alone = false

  private constructor(instance: DuckDBInstance, threads: number, limit: string) {
    this.#instance = instance
    this.#threads = threads
    this.#limit = limit
  }

  static async open(options: EngineOptions): Promise<Engine> {
    const limit = `${Math.max(64, Math.floor(options.memoryBytes / 1_000_000))}MB`
    const opening = ahead ?? create()
    ahead = undefined
    const engine = new Engine(await opening, options.threads, limit)
    const session = await engine.connect()
    try {
      await session.run(
        `SET GLOBAL ${THREADS} = ${options.threads}; SET GLOBAL ${LIMIT} = ${literal(limit)}; SET GLOBAL temp_directory = ${literal(options.tempFolder)}; SET GLOBAL TimeZone = 'UTC'`,
      )
      for (const { file, as } of options.attach ?? []) await session.attach(file, as, options.readOnly === true)
      if (options.locked !== false) await session.lockDown(options)
    } catch (error) {
      session.close()
      engine.close()
      throw error
    }
    session.close()
    return engine
  }

  /** The next open() finds it open: it takes a thread some time, and the process has other things to do. */
  static openAhead(): void {
    ahead ??= create()
    ahead.catch(() => undefined) // told to open()
  }

  async connect(): Promise<Session> {
    return new Session(await this.#instance.connect())
  }

  /**
   * Statements of so many batches are run at the same time from now on. The thread that asks for a statement works on it, too, and waits
   * actively when others have taken the rest of it: beside the engine's own threads such threads take a fifth of the machine for nothing. Where these are
   * all that there may be, each statement has one thread, and is told so: planned for several, a COPY in order copies most rows once more, to put
   * together what might have come from any of them.
   */
  async shareAmong(batches: number): Promise<void> {
    if (this.#alone) return
    this.#alone = batches >= this.#threads
    await this.#set(SHARING, this.#alone ? '1' : String(batches))
    if (this.#alone) await this.#set(THREADS, '1')
  }

  /**
   * What is free goes back to the machine, the engine's and that of everybody else in the process. The C library keeps it otherwise: what lies between
   * blocks that are in use is never given back, and there is more of it from batch to batch. Told its limit anew, the engine has it let go.
   * @throws AdflowError OUT_OF_MEMORY where more than the limit is in use at this moment.
   */
  async giveBack(): Promise<void> {
    await this.#set(LIMIT, literal(this.#limit))
  }

  /**
   * Lets go of what the engine has noted of blocks that are gone. Each block that could be evicted gets a note of some 250 bytes in one of eight queues; a queue is looked
   * through for blocks that are gone from 32,768 notes on, and a join of a few rows leaves sixteen. A limit that cannot be kept makes the engine go through all of them, and
   * changes nothing else: what it has of files is read again, temporary tables are in their folder until they are asked for. Nothing is done where that would be much.
   */
  async forgetBlocks(): Promise<void> {
    const session = await this.connect()
    try {
      const used = await session.value('SELECT sum(memory_usage_bytes)::DOUBLE FROM duckdb_memory()')
      if (Number(used) > MOST_EVICTED_BYTES) return
      // Never is so little in use: this table is, and no statement of another session finds that nothing is left for it.
      await session.run('CREATE TEMP TABLE in_use AS SELECT 1 AS one')
      await session.run(`SET GLOBAL ${LIMIT} = '0B'`)
    } catch (error) {
      if (!(error instanceof AdflowError) || error.code !== 'OUT_OF_MEMORY') throw error
    } finally {
      session.close()
    }
    await this.giveBack()
  }

  async #set(setting: string, value: string): Promise<void> {
    const session = await this.connect()
    try {
      await session.run(`SET GLOBAL ${setting} = ${value}`)
    } finally {
      session.close()
    }
  }

  /** Of the engine itself, such as `v1.5.6`. */
  get version(): string {
    return version()
  }

  close(): void {
    this.#instance.closeSync()
  }
}

let ahead: Promise<DuckDBInstance> | undefined

/** With a single thread, until it is known for what. */
function create(): Promise<DuckDBInstance> {
  return DuckDBInstance.create(':memory:', {
    [THREADS]: '1',
    autoinstall_known_extensions: 'false',
    autoload_known_extensions: 'false',
  })
}

let sessions = 0

/**
 * One connection: temp tables, variables and a transaction of its own. Statements that several ask for at the same time run one after the
 * other; they wait here, not in threads that the rest of the process needs.
 */
export class Session implements EngineConnection {
  /** Unique in the process: part of the names of files that belong to this session. */
  readonly id: number
  readonly #connection: DuckDBConnection
  readonly #turns = pLimit(1)
  #closed = false

  constructor(connection: DuckDBConnection) {
    sessions += 1
    this.id = sessions
    this.#connection = connection
  }

  async run(sql: string): Promise<void> {
    try {
      await this.#inTurn(() => this.#connection.run(sql))
    } catch (error) {
      throw engineError(error, sql)
    }
  }

  async rows(sql: string): Promise<Record<string, unknown>[]> {
    try {
      const reader = await this.#inTurn(() => this.#connection.runAndReadAll(sql))
      return reader.getRowObjects().map(plainRow)
    } catch (error) {
      throw engineError(error, sql)
    }
  }

  /** Rows as JSON values: integers beyond 2^53, decimals and timestamps as strings. For output. */
  async jsonRows(sql: string): Promise<{ columns: string[]; types: string[]; rows: unknown[][] }> {
    try {
      const reader = await this.#inTurn(() => this.#connection.runAndReadAll(sql))
      return {
        columns: reader.columnNames(),
        types: reader.columnTypes().map((type) => type.toString()),
        rows: reader.getRowsJson(),
      }
    } catch (error) {
      throw engineError(error, sql)
    }
  }

  /** Names and engine types of a SELECT, without running it. */
  async describe(select: string): Promise<{ name: string; type: string }[]> {
    const rows = await this.rows(`DESCRIBE ${select}`)
    return rows.map((row) => ({ name: String(row['column_name']), type: String(row['column_type']) }))
  }

  /** The engine's type of one expression. */
  async typeOf(expression: string): Promise<DuckDBType> {
    try {
      return (await this.#inTurn(() => this.#connection.runAndReadAll(`SELECT ${expression}`))).columnType(0)
    } catch (error) {
      throw engineError(error, expression)
    }
  }

  /** One row, one column. */
  async value(sql: string): Promise<unknown> {
    const [row] = await this.rows(sql)
    return row === undefined ? undefined : Object.values(row)[0]
  }

  /** Runs the statements in one transaction; rolls back when one fails. */
  async transaction<T>(work: () => Promise<T>): Promise<T> {
    await this.run('BEGIN TRANSACTION')
    try {
      const result = await work()
      await this.run('COMMIT')
      return result
    } catch (error) {
      await this.run('ROLLBACK').catch(() => undefined) // the failed statement may have ended it already
      throw error
    }
  }

  /** Sets a variable by a bound parameter: the value never stands in SQL text, so no error message can show it. */
  async setSecret(name: string, value: Uint8Array): Promise<void> {
    const parameters = [new DuckDBBlobValue(value)]
    await this.#inTurn(() => this.#connection.run(`SET VARIABLE ${ident(name)} = $1`, parameters))
  }

  async attach(file: string, as: string, readOnly: boolean): Promise<void> {
    await this.run(`ATTACH ${literal(file)} AS ${ident(as)}${readOnly ? ' (READ_ONLY)' : ''}`)
  }

  async lockDown(access: EngineAccess & { readonly tempFolder: string }): Promise<void> {
    const files = (access.attach ?? []).flatMap(({ file }) => [file, `${file}.wal`, `${file}.tmp`])
    await this.run(`SET allowed_directories = ${list([...(access.folders ?? []), access.tempFolder].map(asFolder))}`)
    await this.run(`SET allowed_paths = ${list(files)}`)
    await this.run('SET enable_external_access = false')
    await this.run(`SET allowed_configs = ${list([THREADS, SHARING, LIMIT])}`)
    await this.run('SET lock_configuration = true')
  }

  interrupt(): void {
    this.#connection.interrupt()
  }

  /** A statement that is under way comes to its end first: the engine would go on in memory that is gone. What waits behind it is refused. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    if (this.#turns.activeCount === 0) this.#connection.closeSync()
    else void this.#turns(() => this.#connection.closeSync())
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    return this.#turns(() => {
      if (this.#closed) throw new Error('the connection to the engine is closed')
      return underWay(work)
    })
  }
}

function asFolder(path: string): string {
  return path.endsWith('/') ? path : `${path}/`
}

function plainRow(row: Record<string, DuckDBValue>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(row).map(([name, value]) => [name, plain(value)]))
}

/** Engine values as plain ones: bigint stays, blobs become Buffers, lists arrays, structs objects, the rest text. */
function plain(value: DuckDBValue): unknown {
  if (value === null || typeof value !== 'object') return value
  if (value instanceof DuckDBBlobValue) return Buffer.from(value.bytes)
  if ('items' in value && Array.isArray(value.items)) return value.items.map((item) => plain(item as DuckDBValue))
  if ('entries' in value && !Array.isArray(value.entries)) return plainRow(value.entries as Record<string, DuckDBValue>)
  return String(value)
}

function engineError(error: unknown, sql: string): AdflowError {
  const text = error instanceof Error ? error.message : String(error)
  if (/No space left on device/i.test(text)) return localIoError(error, 'write with the embedded engine')
  if (/^Out of Memory Error/i.test(text))
    return new AdflowError('OUT_OF_MEMORY', `the embedded engine ran out of memory: ${firstLine(text)}`, {
      cause: error,
      hint: 'raise resources.memory_limit, or lower resources.chunk or resources.in_flight',
    })
  if (/^IO Error/i.test(text))
    return new AdflowError('LOCAL_IO', `the embedded engine: ${firstLine(text)}`, { cause: error, details: { sql } })
  return new AdflowError('ENGINE_FAILED', text, { cause: error, details: { sql } })
}

function firstLine(text: string): string {
  return text.split('\n', 1)[0] ?? text
}
