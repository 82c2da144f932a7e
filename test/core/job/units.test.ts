import { expect, it } from 'vitest'
import { z } from 'zod'
import { byteSize, duration, parseBytes, parseDuration } from '../../../src/core/job/units.ts'

it.each([
  ['250ms', 250],
  ['15m', 900_000],
  ['1.5h', 5_400_000],
  ['6 h', 21_600_000],
  ['7d', 604_800_000],
  ['2w', 1_209_600_000],
  ['0s', 0],
  ['15', undefined],
  ['15M', undefined],
  ['-1s', undefined],
  ['1h30m', undefined],
  ['9999999999999w', undefined],
])('the duration %s has %s ms', (text, expected) => {
  expect(parseDuration(text)).toBe(expected)
})

it.each([
  ['1B', 1],
  ['64MB', 64_000_000],
  ['64mb', 64_000_000],
  ['10GiB', 10_737_418_240],
  ['1.5KiB', 1536],
  ['64', undefined],
  ['64iB', undefined],
  ['64M', undefined],
  ['', undefined],
])('the size %s has %s bytes', (text, expected) => {
  expect(parseBytes(text)).toBe(expected)
})

it('defaults are text in the reference and numbers for the component', () => {
  const schema = z.strictObject({ wait: duration.prefault('15m').describe('Wait.'), size: byteSize.optional() })
  expect(schema.parse({ size: '1MB' })).toEqual({ wait: 900_000, size: 1_000_000 })
  expect(z.toJSONSchema(schema, { io: 'input' }).properties).toMatchObject({
    wait: { type: 'string', default: '15m', description: 'Wait.' },
    size: { type: 'string' },
  })
})
