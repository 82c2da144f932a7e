// @ts-expect-error: it has no types
import slotByLibrary from 'cluster-key-slot'
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { slotOf, slotsSql, tagOf } from '../../../src/clients/redis/slots.ts'
import { literal } from '../../../src/engine/sql-text.ts'
import { duckdbRows } from '../../harness/engine.ts'

const KEYS = ['', 'a', '{b}c', 'x{é😀}y', '{', '}{a}', 'ab\ncd{e\nf}g', '{a}{b}', 'x'.repeat(3000)]

it('agrees with the library about any key', () => {
  for (const key of KEYS) expect(slotOf(key), key).toBe(slotByLibrary(key))
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (key) => key.includes('{}') || slotOf(key) === slotByLibrary(key)),
  )
})

it('takes the whole key where its first braces are empty, as the server does', () => {
  expect(slotOf('x{}y{z}')).toBe(15453)
})

it('gives the same slots in the engine', async () => {
  const keys = [...KEYS, 'x{}y{z}', ...Array.from({ length: 500 }, (_, index) => `campaign:${index * 7919}`)]
  const values = keys.map((key) => `(${literal(key)})`).join(', ')
  const rows = await duckdbRows(slotsSql(`SELECT k FROM (VALUES ${values}) AS t(k)`))
  expect(rows.map(({ k, slot }) => [k, Number(slot)])).toEqual(keys.map((key) => [key, slotOf(key)]))
})

it('has a tag for each slot', () => {
  const slots = Array.from({ length: 16_384 }, (_, slot) => slot)
  expect(slots.map((slot) => slotOf(`fence:{${tagOf(slot)}}`))).toEqual(slots)
})
