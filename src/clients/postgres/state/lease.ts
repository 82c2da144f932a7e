/**
 * Who may write. A lease has an epoch, which rises with every taker; a transaction that writes asks for its own epoch before it
 * commits, so that what a former holder still writes is refused, whatever its clock says. Time only decides when another may take it:
 * by the clock of the server alone.
 */
import { hostname } from 'node:os'
import type { PoolClient } from 'pg'
import { AdflowError } from '../../../core/errors.ts'
import { uuidv7 } from '../../../core/ids.ts'
import { StateServer } from './server.ts'

/** Who holds a lease, for people. */
export interface LeaseHolder {
  readonly epoch: number
  readonly host: string
  readonly pid: number
  readonly command: string
  /** Whatever the taker has to say to others. */
  readonly more: Readonly<Record<string, unknown>>
  /** ISO 8601 UTC, by the clock of the server. */
  readonly since: string
  readonly expires: string
  /** false: it was given back, or has run out. */
  readonly held: boolean
}

export interface LeaseRequest {
  readonly name: string
  readonly command: string
  /** A holder of the same machine is known to be gone: the caller has its lock. */
  readonly machine?: string | null
  readonly more?: Readonly<Record<string, unknown>>
}

/** Renewed so often in its time. */
const RENEWALS = 4
const PAUSE_MS = 200

export class Lease {
  readonly name: string
  readonly epoch: number
  readonly #server: StateServer
  /** A connection of its own: what the others wait for must not hold it up. */
  readonly #own: StateServer
  readonly #holder: string
  readonly #lost = new AbortController()
  readonly #ended = new AbortController()
  /** By the steady clock of this machine; never later than the server has it. */
  #until: number
  #renewing: Promise<void>

  private constructor(
    server: StateServer,
    own: StateServer,
    { name, epoch, holder, until }: { name: string; epoch: number; holder: string; until: number },
  ) {
    this.#server = server
    this.#own = own
    this.name = name
    this.epoch = epoch
    this.#holder = holder
    this.#until = until
    this.#renewing = this.#renew()
  }

  /** Takes it where nobody has it. undefined: somebody has, see `leaseHolder`. @throws AdflowError STATE_* */
  static async take(server: StateServer, request: LeaseRequest, baseDir: string): Promise<Lease | undefined> {
    const { name, command, machine = null, more = {} } = request
    const holder = uuidv7()
    const about = JSON.stringify({ host: hostname(), pid: process.pid, command, more })
    const asked = performance.now()
    const { rows } = await server.with(`take the lease of ${name}`, (client) =>
      client.query<{ epoch: string }>(
        `INSERT INTO ${server.table('leases')} AS held (name, epoch, holder, machine, about, since, expires)
         VALUES ($1, 1, $2, $3, $4, clock_timestamp(), clock_timestamp() + $5 * interval '1 ms')
         ON CONFLICT (name) DO UPDATE SET epoch = held.epoch + 1, holder = excluded.holder, machine = excluded.machine,
           about = excluded.about, since = excluded.since, expires = excluded.expires
         WHERE held.expires <= clock_timestamp() OR held.machine = $3
         RETURNING epoch`,
        [name, holder, machine, about, server.place.leaseMs],
      ),
    )
    if (rows[0] === undefined) return undefined
    const until = asked + server.place.leaseMs
    const own = new StateServer(server.place, baseDir, 1)
    return new Lease(server, own, { name, epoch: Number(rows[0].epoch), holder, until })
  }

  /** Aborted when it is lost; its reason is an AdflowError FENCED or STATE_UNREACHABLE. */
  get lost(): AbortSignal {
    return this.#lost.signal
  }

  /** Call before something is done that only the holder may do. A process that has stood still finds out here, whatever else it has
   *  not noticed yet. @throws AdflowError FENCED, STATE_UNREACHABLE */
  check(): void {
    if (performance.now() >= this.#until) this.#lose(this.#fenced('it has run out while this process stood still'))
    this.#lost.signal.throwIfAborted()
  }

  /** `work` in one transaction that is committed only by the holder. It renews the lease, too. Rejected: nothing of it is there, or,
   *  where the connection broke at the commit, unknown. @throws AdflowError FENCED, STATE_* */
  async transaction<T>(
    doing: string,
    work: (client: PoolClient) => Promise<T>,
    signal = this.#lost.signal,
  ): Promise<T> {
    return this.#fencedBy(this.#server, doing, work, signal)
  }

  async #fencedBy<T>(
    server: StateServer,
    doing: string,
    work: (client: PoolClient) => Promise<T>,
    signal: AbortSignal,
  ): Promise<T> {
    let asked = 0
    const result = await server.transaction(
      doing,
      async (client) => {
        const done = await work(client)
        asked = performance.now()
        await this.#fence(client)
        return done
      },
      signal,
    )
    this.#until = Math.max(this.#until, asked + this.#server.place.leaseMs)
    return result
  }

  /** The last statement of a transaction that writes: until it ends, nobody else takes the lease. */
  async #fence(client: PoolClient): Promise<void> {
    const { rowCount } = await client.query(
      `UPDATE ${this.#server.table('leases')} SET expires = clock_timestamp() + $4 * interval '1 ms' WHERE name = $1 AND epoch = $2 AND holder = $3`,
      [this.name, this.epoch, this.#holder, this.#server.place.leaseMs],
    )
    if (rowCount !== 1) {
      this.#lose(this.#fenced('another process has taken it'))
      throw this.#lost.signal.reason
    }
  }

  /** Gives it back, so that another may have it at once. Not rejected where the server is away: it runs out by itself. */
  async release(): Promise<void> {
    this.#ended.abort()
    await this.#renewing
    if (!this.#lost.signal.aborted)
      await this.#server
        .with(`give the lease of ${this.name} back`, (client) =>
          client.query(
            `UPDATE ${this.#server.table('leases')} SET expires = '-infinity', machine = NULL, holder = '' WHERE name = $1 AND epoch = $2 AND holder = $3`,
            [this.name, this.epoch, this.#holder],
          ),
        )
        .catch(() => undefined)
    await this.#own.close()
  }

  async #renew(): Promise<void> {
    const { leaseMs } = this.#server.place
    for (let wait = leaseMs / RENEWALS; await this.#pause(wait); ) {
      // Earlier than it runs out: what is under way must have time to end.
      const spare = leaseMs / 10
      const left = this.#until - spare - performance.now()
      try {
        const late = AbortSignal.timeout(Math.max(spare, left))
        const signal = AbortSignal.any([late, this.#ended.signal])
        await this.#fencedBy(this.#own, `renew the lease of ${this.name}`, () => Promise.resolve(), signal)
        wait = leaseMs / RENEWALS
      } catch (error) {
        if (this.#lost.signal.aborted || this.#ended.signal.aborted) return
        // One that was asked in time may have been overtaken by a process that stood still: the last one tells whose it is.
        if (left <= 0) return this.#lose(this.#unreachable(error))
        wait = Math.min(PAUSE_MS, Math.max(0, this.#until - spare - performance.now()))
      }
    }
  }

  /** false: it has ended. */
  #pause(ms: number): Promise<boolean> {
    const { signal } = this.#ended
    if (signal.aborted || this.#lost.signal.aborted) return Promise.resolve(false)
    return new Promise((resolve) => {
      const end = () => {
        clearTimeout(timer)
        resolve(false)
      }
      const timer = setTimeout(() => {
        signal.removeEventListener('abort', end)
        resolve(true)
      }, ms)
      signal.addEventListener('abort', end, { once: true })
    })
  }

  #lose(error: AdflowError): void {
    if (!this.#lost.signal.aborted) this.#lost.abort(error)
  }

  #fenced(why: string): AdflowError {
    return new AdflowError('FENCED', `the lease of ${this.name} (epoch ${this.epoch}) is lost: ${why}`, {
      hint: 'nothing was written since; who has the lease goes on from the last durable state',
    })
  }

  #unreachable(cause: unknown): AdflowError {
    const message = cause instanceof Error ? cause.message : String(cause)
    return new AdflowError(
      'STATE_UNREACHABLE',
      `the lease of ${this.name} could not be renewed for ${this.#server.place.leaseMs} ms: ${message}`,
      { cause, hint: `look after ${this.#server.place.label}, and run again` },
    )
  }
}

/** Who has it, or had it last; undefined: nobody ever. */
export async function leaseHolder(server: StateServer, name: string): Promise<LeaseHolder | undefined> {
  const { rows } = await server.with(`ask who holds the lease of ${name}`, (client) =>
    client.query<{ epoch: string; about: Omit<LeaseHolder, 'epoch'>; since: Date; expires: string; held: boolean }>(
      `SELECT epoch, about, since, expires::text AS expires, expires > clock_timestamp() AS held FROM ${server.table('leases')} WHERE name = $1`,
      [name],
    ),
  )
  const row = rows[0]
  if (row === undefined) return undefined
  const { host, pid, command, more } = row.about
  return {
    ...{ epoch: Number(row.epoch), host, pid, command, more },
    since: row.since.toISOString(),
    expires: row.expires,
    held: row.held,
  }
}
