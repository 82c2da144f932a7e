/**
 * Who runs what, where several daemons share it: each unit – a job, or a shard of one – by one of them, and none has two more than another
 * that could run them. Only what must move moves: a daemon with too many gives some up, and whoever has the fewest takes what is free.
 */

export interface ShareMember {
  readonly id: string
  /** What it could run: daemons need not have the same jobs. */
  readonly units: readonly string[]
}

export interface ShareClaim {
  readonly unit: string
  readonly member: string
  /** It is being given up: its run still has to end. */
  readonly leaving: boolean
}

export interface ShareState {
  /** Those that live. */
  readonly members: readonly ShareMember[]
  /** Of these members. */
  readonly claims: readonly ShareClaim[]
  /** Somebody is at work at the unit, whoever has claimed it. */
  readonly busy: ReadonlySet<string>
}

export interface ShareMoves {
  readonly take: readonly string[]
  readonly giveUp: readonly string[]
}

/** What `me` does now, when all of them ask this one after the other about the same state. */
export function shareOut({ members, claims, busy }: ShareState, me: string): ShareMoves {
  const load = new Map(members.map(({ id }) => [id, 0]))
  const add = (id: string, by: number) => load.set(id, (load.get(id) ?? 0) + by)
  const held = new Map(claims.map((claim) => [claim.unit, claim]))
  for (const { member, leaving } of claims) if (!leaving) add(member, 1)
  const able = new Map<string, string[]>()
  for (const { id, units } of members) for (const unit of units) able.set(unit, [...(able.get(unit) ?? []), id])
  const least = (unit: string): string | undefined =>
    (able.get(unit) ?? []).sort((a, b) => (load.get(a) ?? 0) - (load.get(b) ?? 0) || (a < b ? -1 : 1))[0]

  const take: string[] = []
  for (const unit of [...able.keys()].sort()) {
    const claim = held.get(unit)
    if (claim !== undefined && !claim.leaving) continue
    const next = least(unit)
    if (next === undefined) continue
    add(next, 1)
    if (next === me && claim === undefined && !busy.has(unit)) take.push(unit)
  }
  const giveUp: string[] = []
  for (const { unit, member, leaving } of [...claims].sort((a, b) => (a.unit < b.unit ? 1 : -1))) {
    if (member !== me || leaving) continue
    const next = least(unit)
    const known = able.get(unit)?.includes(me) === true
    // Whoever has the most begins, or more would move than must.
    const most = Math.max(...(able.get(unit) ?? []).map((id) => load.get(id) ?? 0))
    const own = load.get(me) ?? 0
    if (known && (next === undefined || own < most || own - (load.get(next) ?? 0) < 2)) continue
    giveUp.push(unit)
    add(me, -1)
    if (next !== undefined) add(next, 1)
  }
  return { take, giveUp }
}
