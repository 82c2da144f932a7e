import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { CHECKS } from '../../src/core/diagnosis.ts'
import { AdflowError } from '../../src/core/errors.ts'
import { findingsAt, localSpace } from '../../src/core/findings.ts'
import { textOf } from '../harness/repository.ts'

const at = findingsAt('db:5432/ads')

describe('a clock', () => {
  const asked = { askedMs: 1_000_000, answeredMs: 1_000_400 }

  it('that was read between question and answer agrees, however slow the way was', () => {
    expect(at.clock({ systemMs: 1_000_100, ...asked }).status).toBe('ok')
    expect(at.clock({ systemMs: 1_000_000, askedMs: 990_000, answeredMs: 1_010_000 }).status).toBe('ok')
  })

  it('that tells whole seconds is not late for the part it leaves out', () => {
    expect(at.clock({ systemMs: 1_000_400 - 5900, ...asked, resolutionMs: 1000 }).status).toBe('ok')
    expect(at.clock({ systemMs: 1_000_400 - 5900, ...asked }).status).toBe('warning')
  })

  it.for([
    [90_000, '90 s ahead of this machine'],
    [-600_000, '10 min behind this machine'],
    [86_400_000, '24 h ahead of this machine'],
  ] as const)('that is %i ms away is told in words', ([apart, found]) => {
    expect(at.clock({ systemMs: 1_000_200 + apart, ...asked })).toMatchObject({ status: 'warning', found })
  })

  it('beyond what the system takes is a failure', () => {
    const answer = {
      systemMs: 1_000_000 + 1_000_000,
      ...asked,
      refused: { beyondMs: 900_000, code: 'STORE_DENIED' } as const,
    }
    expect(at.clock(answer)).toMatchObject({ status: 'failed', code: 'STORE_DENIED' })
  })
})

describe('a certificate', () => {
  const now = Date.parse('2026-03-01')
  it.for([
    ['2026-06-01', 'ok', 'TLSv1.3, and the certificate is good until 2026-06-01'],
    ['2026-03-08', 'warning', 'TLSv1.3, and the certificate of the server ends in 7 days'],
    ['2026-03-02', 'warning', 'TLSv1.3, and the certificate of the server ends in 24 h'],
  ] as const)('that ends on %s: %s', ([end, status, found]) => {
    expect(at.tls('TLSv1.3', Date.parse(end), now)).toMatchObject({ status, found })
  })
})

describe('a disk', () => {
  it.for([
    [50e6, 10e9, 'failed'],
    [900e6, 10e9, 'warning'],
    [2e9, 10e9, 'ok'],
    [4e9, 100e9, 'warning'],
    [30e9, 10e12, 'ok'],
  ] as const)('with %i of %i bytes free: %s', ([freeBytes, totalBytes, status]) => {
    expect(at.disk({ freeBytes, totalBytes }, 'server').status).toBe(status)
  })

  it('of this machine is known before the folder is made', async () => {
    const space = await localSpace(join(tmpdir(), 'no', 'such', 'folder'))
    expect(space.freeBytes).toBeGreaterThan(0)
    expect(space.totalBytes).toBeGreaterThanOrEqual(space.freeBytes)
  })
})

describe('a failure', () => {
  it('has the message of the error, its code, and how to mend it', () => {
    const error = new AdflowError('STORE_DENIED', 'cannot reach it', { hint: 'ask for access' })
    expect(at.failure('permission', error)).toEqual({
      check: 'permission',
      place: 'db:5432/ads',
      status: 'failed',
      code: 'STORE_DENIED',
      found: 'cannot reach it',
      mend: 'ask for access',
    })
  })

  it('that nobody has foreseen has the code that the asker gives', () => {
    expect(at.failure('reachable', new Error('reset'), 'STORE_UNAVAILABLE')).toMatchObject({
      code: 'STORE_UNAVAILABLE',
      found: 'reset',
    })
  })
})

it('the checks are explained in the component contract', () => {
  const rows = [...textOf('docs/component-contract.md').matchAll(/^\| `([a-z_]+)` \| (.+) \|$/gm)]
  expect(rows.map(([, check, about]) => [check, about])).toEqual(Object.entries(CHECKS))
})
