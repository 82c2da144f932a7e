/** Daemons that share jobs: who lives, what each could run, and what each has claimed. Only the clock of the server counts. */
import type { PoolClient } from 'pg'
import { ident } from '../../../engine/sql-text.ts'
import type { StateServer } from './server.ts'

export interface MemberRow {
  readonly id: string
  readonly units: readonly string[]
  /** For people. */
  readonly name: string
}

export interface ClaimRow {
  readonly unit: string
  readonly member: string
  readonly leaving: boolean
}

export interface MemberBeat extends MemberRow {
  /** Claims that are being given up and whose runs have ended, or that are not wanted any more. */
  readonly done: readonly string[]
  /** After so long a daemon that was not heard of is none any more, milliseconds. */
  readonly silentMs: number
}

export interface MembersSeen {
  readonly members: readonly MemberRow[]
  readonly claims: readonly ClaimRow[]
  /** Units whose lease somebody holds. */
  readonly leased: ReadonlySet<string>
  /** Jobs that nobody is to run → who said so. */
  readonly paused: ReadonlyMap<string, PauseAct>
}

/** A person's act. */
export interface PauseAct {
  readonly who: string
  readonly why: string
  /** ISO 8601 UTC. */
  readonly at: string
}

export class Members {
  readonly #server: StateServer
  #made = false

  constructor(server: StateServer) {
    this.#server = server
  }

  /** One beat of a member: it lives, the dead are forgotten, and it decides what it takes and gives up, one after the other. */
  async beat(
    beat: MemberBeat,
    decide: (seen: MembersSeen) => { readonly take: readonly string[]; readonly giveUp: readonly string[] },
    signal: AbortSignal,
  ): Promise<MembersSeen> {
    if (!this.#made) await this.#server.open(signal)
    return this.#server.transaction(
      'share jobs with other daemons',
      async (client) => {
        await client.query('SELECT pg_advisory_xact_lock(hashtext($1))', [
          `adflow members ${this.#server.place.schema}`,
        ])
        if (!this.#made) await this.#make(client)
        this.#made = true
        await this.#note(client, beat)
        const seen = await this.#look(client, beat.units)
        const { take, giveUp } = decide(seen)
        await client.query(`INSERT INTO ${this.#table('claims')} (unit, member) SELECT unnest($1::text[]), $2`, [
          take,
          beat.id,
        ])
        await client.query(`UPDATE ${this.#table('claims')} SET leaving = true WHERE member = $1 AND unit = ANY ($2)`, [
          beat.id,
          giveUp,
        ])
        const gone = new Set(giveUp)
        return {
          ...seen,
          claims: [
            ...seen.claims.map((claim) =>
              gone.has(claim.unit) && claim.member === beat.id ? { ...claim, leaving: true } : claim,
            ),
            ...take.map((unit) => ({ unit, member: beat.id, leaving: false })),
          ],
        }
      },
      signal,
    )
  }

  /** For all daemons, until it is taken back (null). false: it was so already. */
  async pause(job: string, act: PauseAct | null, signal: AbortSignal): Promise<boolean> {
    const paused = this.#table('paused')
    if (!this.#made) await this.#server.open(signal)
    return this.#server.transaction(
      `${act === null ? 'resume' : 'pause'} ${job}`,
      async (client) => {
        if (!this.#made) await this.#make(client)
        const { rowCount } =
          act === null
            ? await client.query(`DELETE FROM ${paused} WHERE job = $1`, [job])
            : await client.query(`INSERT INTO ${paused} (job, act) VALUES ($1, $2) ON CONFLICT DO NOTHING`, [
                job,
                JSON.stringify(act),
              ])
        return rowCount === 1
      },
      signal,
    )
  }

  /** What it had is free as soon as nobody is at work at it. */
  async leave(id: string, signal: AbortSignal): Promise<void> {
    if (!this.#made) return
    await this.#server.transaction(
      'leave the daemons that share jobs',
      async (client) => {
        await client.query(`DELETE FROM ${this.#table('claims')} WHERE member = $1`, [id])
        await client.query(`DELETE FROM ${this.#table('members')} WHERE id = $1`, [id])
      },
      signal,
    )
  }

  async #note(client: PoolClient, { id, units, name, done, silentMs }: MemberBeat): Promise<void> {
    const [members, claims] = [this.#table('members'), this.#table('claims')]
    await client.query(
      `INSERT INTO ${members} (id, units, name, seen) VALUES ($1, $2, $3, clock_timestamp())
       ON CONFLICT (id) DO UPDATE SET units = excluded.units, seen = excluded.seen`,
      [id, units, name],
    )
    await client.query(`DELETE FROM ${members} WHERE seen < clock_timestamp() - $1 * interval '1 ms'`, [silentMs])
    await client.query(
      `DELETE FROM ${claims} WHERE member NOT IN (SELECT id FROM ${members}) OR (member = $1 AND unit = ANY ($2))`,
      [id, done],
    )
  }

  async #look(client: PoolClient, units: readonly string[]): Promise<MembersSeen> {
    const members = await client.query<MemberRow>(`SELECT id, units, name FROM ${this.#table('members')}`)
    const claims = await client.query<ClaimRow>(`SELECT unit, member, leaving FROM ${this.#table('claims')}`)
    const leased = await client.query<{ name: string }>(
      `SELECT name FROM ${this.#server.table('leases')} WHERE name = ANY ($1) AND expires > clock_timestamp()`,
      [units],
    )
    const paused = await client.query<{ job: string; act: PauseAct }>(`SELECT job, act FROM ${this.#table('paused')}`)
    return {
      members: members.rows,
      claims: claims.rows,
      leased: new Set(leased.rows.map(({ name }) => name)),
      paused: new Map(paused.rows.map(({ job, act }) => [job, act])),
    }
  }

  async #make(client: PoolClient): Promise<void> {
    await client.query(`
      CREATE TABLE IF NOT EXISTS ${this.#table('members')} (
        id text PRIMARY KEY, units text[] NOT NULL, name text NOT NULL, seen timestamptz NOT NULL);
      CREATE TABLE IF NOT EXISTS ${this.#table('claims')} (
        unit text PRIMARY KEY, member text NOT NULL, leaving boolean NOT NULL DEFAULT false);
      CREATE TABLE IF NOT EXISTS ${this.#table('paused')} (job text PRIMARY KEY, act jsonb NOT NULL)`)
  }

  #table(name: 'members' | 'claims' | 'paused'): string {
    return `${ident(this.#server.place.schema)}.${ident(name)}`
  }
}
