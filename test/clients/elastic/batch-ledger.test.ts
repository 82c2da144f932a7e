import fc from 'fast-check'
import { expect, it } from 'vitest'
import { BatchLedger } from '../../../src/clients/elastic/batch-ledger.ts'
import type { Elastic, ElasticRequest } from '../../../src/clients/elastic/http.ts'
import { AdflowError } from '../../../src/core/errors.ts'
import { atMost } from '../../../src/core/positions.ts'

const entry = {
  token: 't',
  source: 's',
  lane: 'a',
  from: '0',
  to: '9',
  digest: 'd',
  rows: 1,
  clock: 'c',
  written_at: '',
}

it('a cluster that runs no scripts tells all that it has', async () => {
  const asked: string[] = []
  const request = async ({ body, path }: ElasticRequest) => {
    asked.push(JSON.stringify(body ?? path))
    if (asked.at(-1)?.includes('painless'))
      throw new AdflowError('STORE_MISMATCH', 'cannot execute [inline] scripts', { hint: 'none' })
    return { status: 200, body: { timed_out: false, hits: { hits: [{ _source: entry }] } } }
  }
  const place = { index: 'i', target: 't', loader: 'l' }
  const ledger = new BatchLedger({ request } as unknown as Elastic, place, {})
  expect(await ledger.history('j', () => '9')).toMatchObject([{ token: 't', range: { lane: 'a', from: '0', to: '9' } }])
  expect(asked).toHaveLength(3)
})

it('a position that was counted in doubles is never taken for one before it', () => {
  fc.assert(
    fc.property(fc.bigInt({ min: 0n, max: 10n ** 30n }), (position) => {
      expect(BigInt(atMost(Number(position))) >= position).toBe(true)
    }),
  )
  expect(atMost(Number('9007199254740993'))).toBe('9007199254740994')
  expect(atMost(1_000_000)).toBe('1000000')
})
