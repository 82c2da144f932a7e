import { expect, it } from 'vitest'
import { explainPostgres, explainSource } from '../../../src/clients/postgres/errors.ts'

const coded = (code: string) => Object.assign(new Error('said'), { code })

it.each([
  ['EPIPE', 'STORE_UNAVAILABLE', 'SOURCE_UNREADABLE'], // as long as an SQLSTATE, and none
  ['ECONNRESET', 'STORE_UNAVAILABLE', 'SOURCE_UNREADABLE'],
  ['57P01', 'STORE_UNAVAILABLE', 'SOURCE_UNREADABLE'],
  ['22P02', 'STORE_MISMATCH', 'SOURCE_UNSUPPORTED'],
  ['28P01', 'STORE_DENIED', 'SOURCE_DENIED'],
])('%s is %s of a store and %s of a source', (code, store, source) => {
  expect(explainPostgres(coded(code), 'write')).toMatchObject({ code: store })
  expect(explainSource(coded(code), 'read')).toMatchObject({ code: source })
})
