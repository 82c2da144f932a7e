import { setTimeout as delay } from 'node:timers/promises'
import { expect, it } from 'vitest'
import type { Finding } from '../../src/core/diagnosis.ts'
import { AdflowError } from '../../src/core/errors.ts'
import { diagnosisAt, type Findings } from '../../src/core/findings.ts'
import { diagnoseAll, type Question } from '../../src/runtime/diagnose.ts'

function question(ask: (at: Findings, signal: AbortSignal) => AsyncIterable<Finding>): Question {
  const place = 'somewhere'
  return { place: 'it', code: 'STORE_UNAVAILABLE', ask: ({ signal }) => diagnosisAt(place, (at) => ask(at, signal)) }
}

const well = question(async function* (at) {
  yield at.ok('reachable', 'answers')
})

it('keeps the order of the questions, whoever answers first', async () => {
  const late = question(async function* (at) {
    await delay(20)
    yield at.ok('version', '1')
  })
  const all = await diagnoseAll([late, well], 5000)
  expect(all.map((findings) => findings.map(({ check }) => check))).toEqual([['version'], ['reachable']])
})

it('asks several at once', async () => {
  let under = 0
  let most = 0
  const slow = question(async function* (at) {
    under += 1
    most = Math.max(most, under)
    await delay(10)
    under -= 1
    yield at.ok('reachable', 'answers')
  })
  await diagnoseAll(
    Array.from({ length: 20 }, () => slow),
    5000,
  )
  expect(most).toBe(8)
})

it('says that what was reached and then throws is not reachable', async () => {
  const broken = question(async function* (at) {
    yield at.ok('reachable', 'answers')
    yield at.ok('version', '1')
    throw new AdflowError('STORE_DENIED', 'no longer', { hint: 'ask' })
  })
  const [findings = []] = await diagnoseAll([broken], 5000)
  expect(findings).toMatchObject([
    { check: 'version', status: 'ok' },
    { check: 'reachable', status: 'failed', code: 'STORE_DENIED', place: 'somewhere' },
  ])
})

it('has a failure where not even the place can be told', async () => {
  const nowhere: Question = {
    place: 'loader `warehouse`',
    code: 'STORE_UNAVAILABLE',
    ask() {
      throw new AdflowError('JOB_INVALID', 'the URL does not parse')
    },
  }
  expect(await diagnoseAll([nowhere, well], 5000)).toMatchObject([
    [{ place: 'loader `warehouse`', code: 'JOB_INVALID' }],
    [{ status: 'ok' }],
  ])
})

it('keeps what came before the time was over, aborts, and goes on where nobody listens', async () => {
  let aborted = false
  const deaf = question(async function* (at, signal) {
    signal.addEventListener('abort', () => {
      aborted = true
    })
    yield at.ok('version', '1')
    await new Promise(() => undefined)
  })
  const [findings] = await diagnoseAll([deaf], 30)
  expect(aborted).toBe(true)
  expect(findings).toMatchObject([
    { check: 'version', status: 'ok' },
    {
      check: 'reachable',
      status: 'failed',
      code: 'STORE_UNAVAILABLE',
      found: 'no answer within 0.03 s to what would have been asked next',
    },
  ])
})
