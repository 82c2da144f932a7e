/** A PostgreSQL server that keeps the state of jobs: its tables, and connections that give up in time. */
import type { PoolClient } from 'pg'
import { AdflowError } from '../../../core/errors.ts'
import type { StatePlace } from '../../../core/state-place.ts'
import { ident } from '../../../engine/sql-text.ts'
import { Postgres } from '../connect.ts'
import { explainState } from '../errors.ts'

const FORMAT = 1
const MOST_CONNECTING_MS = 10_000

export class StateServer {
  readonly place: StatePlace
  readonly #postgres: Postgres

  /** `baseDir`: what the files of `tls` are relative to. */
  constructor(place: StatePlace, baseDir: string, connections = 2) {
    this.place = place
    const { url, tls, leaseMs } = place
    const options = {
      ...{ url, tls, connections },
      connect_timeout: Math.min(leaseMs, MOST_CONNECTING_MS),
      statement_timeout: leaseMs,
      idleMs: leaseMs,
    }
    this.#postgres = new Postgres(options, baseDir, explainState)
  }

  /** As SQL, with its schema. */
  table(name: 'leases' | 'extents' | 'about'): string {
    return `${ident(this.place.schema)}.${ident(name)}`
  }

  with<T>(doing: string, work: (client: PoolClient) => Promise<T>, signal?: AbortSignal): Promise<T> {
    return this.#postgres.with(doing, work, signal)
  }

  /** `work` in one transaction, which the server ends by itself where this process stands still in the middle of it: its locks would
   *  hold up whoever takes over. */
  transaction<T>(doing: string, work: (client: PoolClient) => Promise<T>, signal?: AbortSignal): Promise<T> {
    const idle = Math.ceil(this.place.leaseMs / 2)
    return this.#postgres.with(
      doing,
      async (client) => {
        // A server that is set up to acknowledge before it has written would lose what was promised.
        await client.query(
          `BEGIN; SET LOCAL idle_in_transaction_session_timeout = ${idle}; SET LOCAL synchronous_commit = on`,
        )
        const result = await work(client)
        await client.query('COMMIT')
        return result
      },
      signal,
    )
  }

  /** Makes what is missing. @throws AdflowError STATE_NEWER, STATE_DENIED, STATE_UNREACHABLE */
  async open(signal?: AbortSignal): Promise<void> {
    const doing = `open the state in ${this.place.label}`
    if ((await this.#format(doing, signal)) === undefined) await this.transaction(doing, (client) => this.#make(client))
  }

  /** true: some job has its state there. Nothing is made. */
  async exists(): Promise<boolean> {
    return (await this.#format(`look for the state in ${this.place.label}`)) !== undefined
  }

  async #format(doing: string, signal?: AbortSignal): Promise<number | undefined> {
    const format = await this.with(
      doing,
      async (client) => {
        const found = await client.query('SELECT to_regclass($1) IS NOT NULL AS found', [this.table('about')])
        if (found.rows[0]?.found !== true) return undefined
        return Number((await client.query(`SELECT format FROM ${this.table('about')}`)).rows[0]?.format ?? 0)
      },
      signal,
    )
    if (format !== undefined && format > FORMAT)
      throw new AdflowError(
        'STATE_NEWER',
        `the state in ${this.place.label} has format ${format}; this adflow knows ${FORMAT}`,
        { hint: 'upgrade adflow; nothing was touched' },
      )
    return format
  }

  async #make(client: PoolClient): Promise<void> {
    // Two that begin at once would both find nothing, and one would fail.
    await client.query('SELECT pg_advisory_xact_lock(hashtext($1))', [`adflow state ${this.place.schema}`])
    await client.query(`
      CREATE SCHEMA IF NOT EXISTS ${ident(this.place.schema)};
      CREATE TABLE IF NOT EXISTS ${this.table('leases')} (
        name text PRIMARY KEY, epoch bigint NOT NULL, holder text NOT NULL, machine text, about jsonb NOT NULL,
        since timestamptz NOT NULL, expires timestamptz NOT NULL);
      CREATE TABLE IF NOT EXISTS ${this.table('extents')} (
        name text, path text COLLATE "C", at bigint, epoch bigint NOT NULL, digest text NOT NULL, bytes bytea NOT NULL,
        PRIMARY KEY (name, path, at));
      CREATE TABLE IF NOT EXISTS ${this.table('about')} (one bool PRIMARY KEY DEFAULT true CHECK (one), format int NOT NULL);
      INSERT INTO ${this.table('about')} (format) VALUES (${FORMAT}) ON CONFLICT DO NOTHING`)
  }

  close(): Promise<void> {
    return this.#postgres.close()
  }
}
