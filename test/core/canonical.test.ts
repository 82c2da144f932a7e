import fc from 'fast-check'
import { expect, test } from 'vitest'
import { canonicalJson } from '../../src/core/canonical.ts'

test('sorts keys at every level and keeps the order of lists', () => {
  expect(canonicalJson({ b: [{ z: 1, a: 2 }, null], a: 'ä"\n', c: undefined })).toBe(
    '{"a":"ä\\"\\n","b":[{"a":2,"z":1},null]}',
  )
})

test.each([
  ['an integer beyond 2^53', 2 ** 53],
  ['NaN', Number.NaN],
  ['infinity', Number.POSITIVE_INFINITY],
  ['a bigint', 1n],
  ['undefined in a list', [undefined]],
  ['a function', () => 1],
])('refuses %s', (_what, value) => {
  expect(() => canonicalJson(value)).toThrow(/canonical JSON cannot carry/)
})

test('keeps a key called __proto__', () => {
  expect(canonicalJson(JSON.parse('{"__proto__":{"x":1},"a":2}'))).toBe('{"__proto__":{"x":1},"a":2}')
})

test('gives one text for one value, and the value back', () => {
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 4 }), (value) => {
      fc.pre(safe(value))
      const text = canonicalJson(value)
      expect(canonicalJson(JSON.parse(text))).toBe(text)
      expect(canonicalJson(reversed(value))).toBe(text)
      expect(JSON.parse(text)).toEqual(JSON.parse(JSON.stringify(value)))
    }),
  )
})

function safe(value: unknown): boolean {
  if (typeof value === 'number') return !Number.isInteger(value) || Number.isSafeInteger(value)
  return typeof value !== 'object' || value === null || Object.values(value).every(safe)
}

function reversed(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) return value.map(reversed)
  return Object.fromEntries(
    Object.entries(value)
      .reverse()
      .map(([key, member]) => [key, reversed(member)]),
  )
}
