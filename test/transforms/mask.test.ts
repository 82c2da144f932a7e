import { createHmac } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import mask from '../../src/transforms/mask.ts'
import { STEP_PATH, StepBench } from '../harness/step.ts'

let bench: StepBench
beforeAll(async () => {
  bench = await StepBench.open()
})
afterAll(() => bench.close())

const KEY = 'a key of thirty two bytes, long!'
const hmac = (value: string | Buffer, key = KEY) => createHmac('sha256', key).update(value).digest('hex')
const masked = async (how: unknown, type: string, values: readonly unknown[], key = KEY) => {
  const rows = values.map((v) => ({ v }))
  return (await bench.outcome(mask, { v: how, key }, { v: type }, rows)).rows.map(({ v }) => v)
}

test('hmac equals that of node:crypto for text of any kind, and NULL stays NULL', async () => {
  const texts = ['', 'u1', 'Grüße', '李雷 😀', "'; DROP TABLE x; --", 'x'.repeat(1000), '\\x00']
  expect(await masked('hmac', 'VARCHAR', [...texts, null])).toEqual([...texts.map((text) => hmac(text)), null])
})

test.each([
  ['shorter than a block', 'k'.repeat(16)],
  ['of one block', 'k'.repeat(64)],
  ['longer than a block', 'k'.repeat(65)],
  ['not ASCII', 'schlüssel-鍵-schlüssel'],
])('hmac takes a key %s', async (_, key) => {
  expect(await masked('hmac', 'VARCHAR', ['u1'], key)).toEqual([hmac('u1', key)])
})

test('hmac hashes other types in their text form, blobs as their bytes', async () => {
  expect(await masked('hmac', 'BIGINT', ['9007199254740993'])).toEqual([hmac('9007199254740993')])
  expect(await masked('hmac', 'BLOB', ['\\x00\\xFF'])).toEqual([hmac(Buffer.from([0, 255]))])
})

test('hmac can be shortened', async () => {
  expect(await masked({ hmac: { length: 16 } }, 'VARCHAR', ['u1', null])).toEqual([hmac('u1').slice(0, 16), null])
})

test('the key is in no SQL', async () => {
  const input = await bench.input({ v: 'VARCHAR' })
  const step = await bench.compile(mask, { v: 'hmac', key: KEY }, input)
  const hex = Buffer.from(KEY).toString('hex')
  expect(JSON.stringify(step)).not.toContain(KEY)
  expect(JSON.stringify(step).toLowerCase()).not.toContain(hex)
})

test.each([
  ['redact', 'VARCHAR', ['a@example.com', '', null], ['[redacted]', '[redacted]', null]],
  ['redact', 'INTEGER', [1, null], ['[redacted]', null]],
  ['null', 'VARCHAR', ['x', null], [null, null]],
  [null, 'DECIMAL(18,6)', ['1.5'], [null]],
  [{ truncate: 3 }, 'VARCHAR', ['héllo', '李雷雷雷', 'ab', '', null], ['hél', '李雷雷', 'ab', '', null]],
  [{ truncate: 0 }, 'VARCHAR', ['héllo'], ['']],
  [{ truncate: 'hour' }, 'TIMESTAMP', ['2026-03-01 10:59:59.9', null], ['2026-03-01 10:00:00', null]],
  [{ truncate: 'day' }, 'TIMESTAMP WITH TIME ZONE', ['2026-03-01 23:59:59+01'], ['2026-03-01 00:00:00+00']],
  [{ truncate: 'month' }, 'DATE', ['2026-03-31'], ['2026-03-01 00:00:00']],
  [
    'truncate',
    'VARCHAR',
    ['198.51.100.9', '2001:db8:a:b::c', 'nobody', null],
    ['198.51.100.0', '2001:db8:a::', null, null],
  ],
])('%j on %s', async (how, type, values, expected) => {
  expect(await masked(how, type, values)).toEqual(expected)
})

test('says the types that come out', async () => {
  const input = await bench.input({ a: 'INTEGER', b: 'INTEGER', c: 'TIMESTAMP', 'd d': 'INTEGER' })
  const { output } = await bench.compile(mask, { a: 'redact', b: 'null', c: { truncate: 'day' } }, input)
  expect(output.columns.map(({ type }) => type)).toEqual(['VARCHAR', 'INTEGER', 'TIMESTAMP', 'INTEGER'])
  expect(await bench.session.describe(output.sql)).toMatchObject([{}, ...output.columns.map(({ type }) => ({ type }))])
})

test.each([
  ['hmac without a key', { a: 'hmac' }, 'a', /needs a key/],
  ['truncate of a number', { n: 'truncate' }, 'n', /IP addresses/],
  ['characters of a number', { n: { truncate: 3 } }, 'n', /cuts text/],
  ['hours of a text', { a: { truncate: 'hour' } }, 'a', /timestamps/],
  ['an unknown column', { b: 'redact' }, 'b', /no column b/],
  ['one column twice', { a: 'redact', A: 'null' }, 'A', /twice/],
])('refuses %s', async (_, options, place, message) => {
  const input = await bench.input({ a: 'VARCHAR', n: 'INTEGER' })
  await expect(bench.compile(mask, options, input)).rejects.toMatchObject({
    code: 'SQL_INVALID',
    message: expect.stringMatching(message),
    details: { path: [...STEP_PATH, place] },
  })
})

test.each([
  ['a key that is easy to guess', { a: 'hmac', key: 'secret' }],
  ['a method in place of the key', { a: 'redact', key: 'hmac' }],
  ['no column', { key: KEY }],
  ['an unknown method', { a: 'sha1' }],
  ['a hash so short that values collide', { a: { hmac: { length: 4 } }, key: KEY }],
])('options refuse %s', (_, options) => {
  expect(mask.options.safeParse(options).success).toBe(false)
})
