/** A connection with one transaction that only reads, in one snapshot, and writes values in one way. */
import type { PoolClient } from 'pg'
import type { to } from 'pg-copy-streams'
import { AdflowError } from '../../../core/errors.ts'
import { literal } from '../../../engine/sql-text.ts'
import type { Postgres } from '../connect.ts'
import { explainSource } from '../errors.ts'

/** How values are written must not depend on the server's configuration. */
export const WRITTEN = {
  timezone: 'UTC',
  datestyle: 'ISO',
  intervalstyle: 'postgres',
  bytea_output: 'hex',
  extra_float_digits: '3',
  xmloption: 'content',
} as const

/** `lines`: of one column, each value a line as it is; it has no control characters. */
export type CopyFormat = 'csv' | 'text' | 'lines'

const COPY_OPTIONS: Readonly<Record<CopyFormat, string>> = {
  csv: 'FORMAT csv',
  text: 'FORMAT text',
  lines: `FORMAT csv, QUOTE e'\\x01', DELIMITER e'\\x02'`,
}

export interface SessionOptions {
  readonly lockMs: number
  /** After so long without a statement the server ends the transaction. */
  readonly idleMs: number
  /** How long the server may take for the next rows. */
  readonly statementMs: number
}

export class ReadSession {
  readonly client: PoolClient
  readonly #end: (error?: Error) => Promise<void>
  readonly #doing: string
  readonly #statementMs: number
  readonly #to: typeof to

  private constructor(
    client: PoolClient,
    {
      to: copyTo,
      doing,
      statementMs,
    }: { readonly to: typeof to; readonly doing: string; readonly statementMs: number },
    end: (error?: Error) => Promise<void>,
  ) {
    this.client = client
    this.#to = copyTo
    this.#doing = doing
    this.#statementMs = statementMs
    this.#end = end
  }

  /** `lock`: SQL of tables that must stay as they are meanwhile. `snapshot`: one that another session has exported.
   *  @throws AdflowError SOURCE_… */
  static async begin(
    postgres: Postgres,
    doing: string,
    { lockMs, idleMs, statementMs }: SessionOptions,
    signal: AbortSignal,
    { lock, snapshot }: { readonly lock?: string; readonly snapshot?: string } = {},
  ): Promise<ReadSession> {
    const { to: copyTo } = await import('pg-copy-streams')
    const opened = Promise.withResolvers<PoolClient>()
    const done = Promise.withResolvers<void>()
    const held = postgres.with(
      doing,
      async (client) => {
        opened.resolve(client)
        await done.promise
      },
      signal,
    )
    held.catch(opened.reject) // whoever opens it is told
    let ended = false
    const session = new ReadSession(await opened.promise, { to: copyTo, doing, statementMs }, async (error) => {
      if (!ended && error === undefined)
        await session.client.query('ROLLBACK').catch((failed: Error) => (error = failed))
      ended = true
      if (error === undefined) done.resolve()
      else done.reject(error)
      await held.catch(() => undefined) // told to whoever waited for the rows
    })
    try {
      const settings = {
        ...WRITTEN,
        lock_timeout: lockMs,
        statement_timeout: 0,
        idle_in_transaction_session_timeout: idleMs,
      }
      await session.query('BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY')
      if (snapshot !== undefined) await session.query(`SET TRANSACTION SNAPSHOT ${literal(snapshot)}`)
      const set = Object.entries(settings).map(([name, value]) => `SET LOCAL ${name} = ${literal(String(value))}`)
      await session.query(set.join(';'))
      if (lock !== undefined) await session.query(`LOCK TABLE ${lock} IN ACCESS SHARE MODE`)
      return session
    } catch (error) {
      await session.end(error as Error)
      throw error
    }
  }

  /** Rows as text; NULL as null. */
  async query(sql: string, values?: readonly unknown[]): Promise<Record<string, string | null>[]> {
    const types = { getTypeParser: () => (text: string) => text }
    return this.#within(async () => {
      const result = await this.client.query({
        text: sql,
        types,
        ...(values === undefined ? {} : { values: [...values] }),
      })
      return result.rows as Record<string, string | null>[]
    })
  }

  /** Names and types (their oids) of what a statement gives. */
  async fields(sql: string): Promise<readonly { readonly name: string; readonly type: number }[]> {
    const { fields } = await this.#within(() => this.client.query(sql))
    return fields.map(({ name, dataTypeID }) => ({ name, type: dataTypeID }))
  }

  async one(sql: string, values?: readonly unknown[]): Promise<Record<string, string | null>> {
    return (await this.query(sql, values))[0] ?? {}
  }

  /** The bytes of a COPY, as they come. It begins at once, and is so many bytes ahead of whoever asks; the next piece is awaited
   *  within the time of a statement. */
  copy(sql: string, format: CopyFormat, aheadBytes: number): AsyncGenerator<Buffer> {
    const stream = this.client.query(
      this.#to(`COPY (${sql}) TO STDOUT WITH (${COPY_OPTIONS[format]})`, { highWaterMark: aheadBytes }),
    )
    const broken = Promise.withResolvers<never>()
    stream.on('error', broken.reject)
    broken.promise.catch(() => undefined) // perhaps nobody asks any more
    stream.read(0)
    return this.#pieces(stream, broken.promise)
  }

  async *#pieces(stream: AsyncIterable<unknown>, broken: Promise<never>): AsyncGenerator<Buffer> {
    const pieces = stream[Symbol.asyncIterator]() as AsyncIterator<Buffer>
    for (;;) {
      const { done, value } = await this.#within(() => Promise.race([pieces.next(), broken]))
      if (done === true) return
      yield value
    }
  }

  /** Gives the connection back; with an error it is closed. */
  async end(error?: Error): Promise<void> {
    await this.#end(error)
  }

  async #within<T>(work: () => Promise<T>): Promise<T> {
    const late = Promise.withResolvers<never>()
    const timer = setTimeout(() => {
      const seconds = this.#statementMs / 1000
      late.reject(
        new AdflowError('SOURCE_UNREADABLE', `cannot ${this.#doing}: the server gave nothing for ${seconds} s`, {
          hint: '`statement_timeout` allows a statement more time',
        }),
      )
    }, this.#statementMs)
    try {
      return await Promise.race([work(), late.promise])
    } catch (error) {
      throw explainSource(error, this.#doing)
    } finally {
      clearTimeout(timer)
    }
  }
}
