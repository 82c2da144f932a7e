import { afterEach, beforeEach, expect, test } from 'vitest'
import { temporaryFolder } from '../harness/cli.ts'
import { SmallJob } from '../harness/small-job.ts'

let folder: ReturnType<typeof temporaryFolder>
beforeEach(() => {
  folder = temporaryFolder('exact-numbers')
})
afterEach(() => folder.remove())

/** Source text → as it must be loaded; undefined: it has digits for which the type has no place. The double of each has a short text. */
const NUMBERS = [
  ['5.000000000000000006', '5.000000000000000006'],
  ['-0.100000000000000005', '-0.100000000000000005'],
  ['12345678901.123456', '12345678901.123456000000000000'],
  ['1234567890123456789.000000000000000001', '1234567890123456789.000000000000000001'],
  ['1.5', '1.500000000000000000'],
  ['4.9999999999999999999', undefined],
  ['50000000000000000001e-19', undefined],
  ['500000000000000001e-17', '5.000000000000000010'],
  ['"7.000000000000000006"', '7.000000000000000006'],
] as const

test.each([
  ['straight into one store', '{ archive: { type: files, format: parquet, path: archive } }'],
  [
    'by way of a table',
    '{ archive: { type: files, format: parquet, path: archive }, more: { type: files, format: parquet, path: more } }',
  ],
])('decimals of JSON have all digits of the source, %s', async (_, load) => {
  const job = new SmallJob(
    folder.path,
    `version: 1
name: rows
extract: { input: { type: files, path: "data/*", settle: 0s } }
contract: { columns: { id: { type: bigint, required: true }, price: "decimal(38, 18)" } }
validate: [ { id: not_six, check: "price <> 6.000000000000000006" } ]
load: ${load}
`,
  )
  const lines = [...NUMBERS.map(([text]) => text), '6.000000000000000006'].map(
    (text, id) => `{"id":${id},"price":${text}}\n`,
  )
  job.put('data/a.ndjson', lines.join(''))
  const summary = await job.summary()
  expect(summary).toMatchObject({ exit: 0, read: lines.length, quarantined: 3 })
  expect(await job.archive('SELECT id, price FROM archive ORDER BY id')).toEqual(
    NUMBERS.flatMap(([, price], id) => (price === undefined ? [] : [{ id: String(id), price }])),
  )
})

test('an integer of any length has all of its digits in a decimal', async () => {
  const job = new SmallJob(
    folder.path,
    `version: 1
name: rows
extract: { input: { type: files, path: "data/*", settle: 0s } }
contract: { columns: { id: { type: bigint, required: true }, total: "decimal(38, 0)" } }
load: { archive: { type: files, format: parquet, path: archive } }
`,
  )
  const totals = ['100000000000000000001', '-100000000000000000000000000001', '18446744073709551617']
  job.put('data/a.ndjson', totals.map((total, id) => `{"id":${id},"total":${total}}\n`).join(''))
  expect(await job.summary()).toMatchObject({ exit: 0, quarantined: 0 })
  expect((await job.archive('SELECT total FROM archive ORDER BY id')).map(({ total }) => total)).toEqual(totals)
})
