import { expect, it } from 'vitest'
import type { Job } from '../../src/core/job/job.ts'
import { parseStatePlace } from '../../src/core/state-place.ts'
import { DomainSplit } from '../../src/daemon/domains.ts'
import type { AcceptedJob } from '../../src/daemon/job-folder.ts'

const HERE = parseStatePlace('postgres://db/ops')
const THERE = parseStatePlace('postgres://db/other')

const jobs = new Map(
  [
    { name: 'plain', state: undefined, forever: false },
    { name: 'shared', state: HERE, forever: false },
    { name: 'other', state: THERE, forever: false },
    { name: 'flow', state: HERE, forever: true },
    { name: 'tail', state: undefined, forever: true },
  ].map(({ name, state, forever }) => {
    const job = { name, state, baseDir: '/jobs', stream: { forever } } as unknown as Job
    return [name, { job, digest: name, text: '' } satisfies AcceptedJob]
  }),
)

function splitOf(split: DomainSplit) {
  const { local, shared } = split.of(jobs)
  const places = [...shared].map(([key, domain]) => [key, [...domain.jobs.keys()]])
  return { local: [...local.keys()], places: Object.fromEntries(places) }
}

it('times are decided where the state of a job is shared, and else, as what goes on for ever, by the daemon of the machine', () => {
  const split = new DomainSplit(undefined)
  expect(splitOf(split)).toEqual({
    local: ['plain', 'flow', 'tail'],
    places: { [HERE.key]: ['shared'], [THERE.key]: ['other'] },
  })
  expect([...jobs.values()].map(({ job }) => split.placeOf(job)?.place.key)).toEqual([
    undefined,
    HERE.key,
    THERE.key,
    HERE.key,
    undefined,
  ])
})

it('a daemon that is started in a shared place decides about all times there, and shares every stream where its state is', () => {
  const split = new DomainSplit(HERE)
  expect(splitOf(split)).toEqual({ local: ['flow', 'tail'], places: { [HERE.key]: ['plain', 'shared', 'other'] } })
  expect([...jobs.values()].map(({ job }) => split.placeOf(job)?.place.key)).toEqual([
    HERE.key,
    HERE.key,
    THERE.key,
    HERE.key,
    HERE.key,
  ])
})

it('the same jobs give the same maps: nothing is noted anew', () => {
  const split = new DomainSplit(HERE)
  expect(split.of(jobs)).toBe(split.of(jobs))
})
