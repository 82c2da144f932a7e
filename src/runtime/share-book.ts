/** What daemons of several machines know of each other by the server that keeps the state of their jobs. */
import { Members, type PauseAct } from '../clients/postgres/state/members.ts'
import { StateServer } from '../clients/postgres/state/server.ts'
import type { Job } from '../core/job/job.ts'
import type { Shard } from '../core/shard.ts'
import type { StatePlace } from '../core/state-place.ts'
import { sharedName } from './layout.ts'
import { shareOut } from './share-out.ts'

/** By the server, a daemon that was not heard of for a lease is gone; so often it is heard of in that time. */
const BEATS = 4
const MOST_PAUSE_MS = 1_000
/** Nobody waits for it: without it the others find out a little later. */
const LEAVE_MS = 2_000

export interface SharesSeen {
  /** Units that this daemon is to run. */
  readonly mine: ReadonlySet<string>
  /** Unit → the daemon that has claimed it. */
  readonly holders: ReadonlyMap<string, string>
  /** Jobs that nobody is to run. */
  readonly paused: ReadonlyMap<string, PauseAct>
}

/** Of a job that is run whole, and of one in shards: what one daemon at a time runs. */
export function unitOf({ name, stream: { shards } }: Pick<Job, 'name' | 'stream'>, index: number): string {
  return unitName(name, { index, of: shards })
}

export function unitName(job: string, shard: Shard): string {
  return sharedName(job, shard.of === 1 ? {} : { shard })
}

export class ShareBook {
  readonly #server: StateServer
  readonly #members: Members
  readonly #id: string
  readonly #name: string
  readonly #leaving = new Set<string>()

  /** `id` is of this process alone, `name` for people. Files of `place` are relative to `baseDir`. */
  constructor(place: StatePlace, baseDir: string, { id, name }: { readonly id: string; readonly name: string }) {
    this.#server = new StateServer(place, baseDir, 1)
    this.#members = new Members(this.#server)
    this.#id = id
    this.#name = name
  }

  get pauseMs(): number {
    return Math.min(MOST_PAUSE_MS, this.#server.place.leaseMs / BEATS)
  }

  /** `units`: what it could run. `held`: at which of them it is at work. @throws AdflowError STATE_* */
  async beat(units: readonly string[], held: ReadonlySet<string>, signal: AbortSignal): Promise<SharesSeen> {
    const id = this.#id
    const done = [...this.#leaving].filter((unit) => !held.has(unit))
    const silentMs = this.#server.place.leaseMs
    const seen = await this.#members.beat(
      { id, name: this.#name, units, done, silentMs },
      ({ members, claims, leased }) =>
        shareOut({ members, claims, busy: new Set([...leased].filter((unit) => !held.has(unit))) }, id),
      signal,
    )
    const names = new Map(seen.members.map((member) => [member.id, member.name]))
    const own = seen.claims.filter(({ member }) => member === id)
    this.#leaving.clear()
    for (const { unit, leaving } of own) if (leaving) this.#leaving.add(unit)
    return {
      mine: new Set(own.filter(({ leaving }) => !leaving).map(({ unit }) => unit)),
      holders: new Map(seen.claims.map(({ unit, member }) => [unit, names.get(member) ?? 'another daemon'])),
      paused: seen.paused,
    }
  }

  /** See Members. @throws AdflowError STATE_* */
  pause(job: string, act: PauseAct | null): Promise<boolean> {
    return this.#members.pause(job, act, AbortSignal.timeout(this.#server.place.leaseMs))
  }

  /** Not rejected where the server is away: the daemon is forgotten by itself. */
  async leave(): Promise<void> {
    await this.#members.leave(this.#id, AbortSignal.timeout(LEAVE_MS)).catch(() => undefined)
    await this.#server.close()
  }
}
