import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type ShareClaim, type ShareMember, shareOut } from '../../src/runtime/share-out.ts'

/** Daemons that ask in turn; a unit that is given up is free once its run has ended. */
class Group {
  members: ShareMember[] = []
  claims: ShareClaim[] = []
  moved = 0

  join(id: string, units: readonly string[]): void {
    this.members.push({ id, units })
  }

  leave(id: string): void {
    this.members = this.members.filter((member) => member.id !== id)
    this.claims = this.claims.filter(({ member }) => member !== id)
  }

  ask(me: string, busy: ReadonlySet<string> = new Set()): void {
    const { take, giveUp } = shareOut({ members: this.members, claims: this.claims, busy }, me)
    this.moved += take.length
    this.claims = this.claims.map((claim) => (giveUp.includes(claim.unit) ? { ...claim, leaving: true } : claim))
    for (const unit of take) {
      expect(this.claims.map((claim) => claim.unit)).not.toContain(unit)
      this.claims.push({ unit, member: me, leaving: false })
    }
  }

  /** Until nobody has anything to do. */
  settle(): void {
    for (let round = 0; round < 20; round += 1) {
      const before = JSON.stringify(this.claims)
      for (const { id } of this.members) this.ask(id)
      this.claims = this.claims.filter(({ leaving }) => !leaving)
      if (JSON.stringify(this.claims) === before) return
    }
    throw new Error('it does not come to rest')
  }

  of(id: string): string[] {
    return this.claims
      .filter(({ member }) => member === id)
      .map(({ unit }) => unit)
      .sort()
  }
}

const UNITS = Array.from({ length: 8 }, (_, index) => `flow@${index}/8`)

describe('daemons that share a stream', () => {
  it('have equally much, and only what must move moves', () => {
    const group = new Group()
    group.join('a', UNITS)
    group.settle()
    expect(group.of('a')).toHaveLength(8)
    group.join('b', UNITS)
    group.settle()
    expect([group.of('a').length, group.of('b').length, group.moved]).toEqual([4, 4, 12])
    group.join('c', UNITS)
    group.settle()
    expect([group.of('a'), group.of('b'), group.of('c')].map(({ length }) => length).sort()).toEqual([2, 3, 3])
    expect(group.moved).toBe(14)
    const [before, others] = [group.of('a'), group.moved]
    group.leave('b')
    group.settle()
    expect(group.of('a')).toEqual(expect.arrayContaining(before))
    expect([group.of('a').length, group.of('c').length, group.moved - others]).toEqual([4, 4, 3])
  })

  it('wait for a unit at which somebody still works, and take it when that has ended', () => {
    const group = new Group()
    group.join('a', ['flow'])
    group.ask('a', new Set(['flow']))
    expect(group.of('a')).toEqual([])
    group.ask('a')
    expect(group.of('a')).toEqual(['flow'])
  })

  it('leave a job that only one of them has to that one', () => {
    const group = new Group()
    group.join('a', ['x', 'y', 'z'])
    group.join('b', ['z'])
    group.settle()
    expect([group.of('a'), group.of('b')]).toEqual([['x', 'y'], ['z']])
  })

  it('give up what is no job of theirs any more', () => {
    const group = new Group()
    group.join('a', ['x', 'y'])
    group.settle()
    group.members = [{ id: 'a', units: ['x'] }]
    group.settle()
    expect(group.of('a')).toEqual(['x'])
  })

  it('come to rest with every unit at one of them, whoever comes and goes', () => {
    const act = fc.record({
      join: fc.boolean(),
      id: fc.constantFrom('a', 'b', 'c', 'd', 'e'),
      asks: fc.array(fc.nat(4)),
    })
    fc.assert(
      fc.property(fc.array(act, { maxLength: 12 }), (acts) => {
        const group = new Group()
        for (const { join, id, asks } of acts) {
          const there = group.members.some((member) => member.id === id)
          if (join && !there) group.join(id, UNITS)
          if (!join && there) group.leave(id)
          for (const index of asks) {
            const member = group.members[index]
            if (member !== undefined) group.ask(member.id)
          }
        }
        group.settle()
        const loads = group.members.map(({ id }) => group.of(id).length)
        expect(group.claims).toHaveLength(loads.length === 0 ? 0 : UNITS.length)
        expect(Math.max(0, ...loads) - Math.min(8, ...loads)).toBeLessThanOrEqual(1)
      }),
    )
  })
})
