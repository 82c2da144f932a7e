import { afterAll, beforeAll, expect, test } from 'vitest'
import lookup from '../../src/transforms/lookup.ts'
import { STEP_PATH, StepBench } from '../harness/step.ts'

const FILES = {
  'campaigns.csv': 'id,name,event_id\n7,Frühling,70\n9007199254740993,"o\'clock",90\n',
  'rates.ndjson': '{"country":"DE","day":"2026-01-01","rate":1.5}\n{"country":"DE","day":"2026-01-02","rate":2.5}\n',
}
const columns = { event_id: 'BIGINT', campaign_id: 'BIGINT' }
const rows = [
  { event_id: 1, campaign_id: 7 },
  { event_id: 2, campaign_id: '9007199254740993' },
  { event_id: 3, campaign_id: '9007199254740992' },
  { event_id: 4, campaign_id: null },
]
const base = { table: 'campaigns', from: { type: 'files', path: 'campaigns.csv' }, on: { campaign_id: 'id' } }

let bench: StepBench
beforeAll(async () => {
  bench = await StepBench.open(FILES)
})
afterAll(() => bench.close())

test('keeps every row; keys beyond 2^53 are told apart; NULL finds nothing', async () => {
  const run = await bench.outcome(lookup, { ...base, select: ['name'] }, columns, rows)
  expect(run.rows.map(({ name }) => name)).toEqual(['Frühling', "o'clock", null, null])
  expect(run.step.drops).toBeUndefined()
  expect(run.step.references).toEqual([{ table: expect.stringContaining('campaigns'), key: ['id'] }])
})

test.each([
  ['all but the key, with a prefix', { prefix: 'c_' }, ['c_name', 'c_event_id']],
  ['a list with a prefix', { select: ['NAME'], prefix: 'ç ' }, ['ç name']],
  ['a map', { select: { 'der "Name"': 'name', key: 'id' } }, ['der "Name"', 'key']],
])('adds %s', async (_, options, added) => {
  const { step } = await bench.outcome(lookup, { ...base, ...options }, columns, rows)
  expect(step.output.columns.map(({ name }) => name)).toEqual(['event_id', 'campaign_id', ...added])
})

test('missing: drop filters out rows that find nothing', async () => {
  const run = await bench.outcome(lookup, { ...base, select: ['name'], missing: 'drop' }, columns, rows)
  expect(run.rows).toHaveLength(2)
  expect(run.dropped).toEqual([2, 3])
  expect(run.step.drops?.as).toBe('filtered')
})

test('missing: quarantine names the field', async () => {
  const run = await bench.outcome(lookup, { ...base, select: ['name'], missing: 'quarantine' }, columns, rows)
  expect(run.dropped).toEqual([2, 3])
  expect(run.step.drops).toMatchObject({
    as: 'quarantined',
    field: 'campaign_id',
    message: 'campaigns has no row for this campaign_id',
  })
})

test('finds by several keys and by expressions; a row on which one fails is taken out', async () => {
  const run = await bench.outcome(
    lookup,
    {
      table: 'rates',
      from: { type: 'files', path: 'rates.ndjson', format: 'ndjson' },
      on: { 'upper(country)': 'country', 'text::DATE': 'day' },
      select: ['rate'],
    },
    { country: 'VARCHAR', text: 'VARCHAR' },
    [
      { country: 'de', text: '2026-01-02' },
      { country: 'de', text: 'tomorrow' },
      { country: 'fr', text: '2026-01-02' },
    ],
  )
  expect(run.rows.map(({ rate }) => rate)).toEqual([2.5, null])
  expect(run.failed).toEqual([{ row: 1, field: 'text::DATE' }])
  expect(run.step.output.columns.at(-1)).toEqual({
    name: 'rate',
    type: 'DOUBLE',
    from: ['country', 'text'],
    how: 'found',
  })
})

test.each([
  ['an unknown column in a key', { on: { campain_id: 'id' } }, ['on', 'campain_id'], /campain_id/],
  ['an unknown reference column', { on: { campaign_id: 'ID_' } }, ['on', 'campaign_id'], /reference table campaigns/],
  ['an unknown selected column', { select: ['nme'] }, ['select', 0], /nme/],
  [
    'text against a number',
    { on: { 'campaign_id::VARCHAR': 'id' } },
    ['on', 'campaign_id::VARCHAR'],
    /VARCHAR in campaigns.id/,
  ],
  ['an added column that is there', { select: ['event_id'] }, ['select'], /two columns/],
])('refuses %s', async (_, options, place, message) => {
  const input = await bench.input(columns)
  await expect(bench.compile(lookup, { ...base, ...options }, input)).rejects.toMatchObject({
    code: 'SQL_INVALID',
    message: expect.stringMatching(message),
    details: { path: [...STEP_PATH, ...place] },
  })
})
