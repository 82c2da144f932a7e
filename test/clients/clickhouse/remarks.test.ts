import { expect, it } from 'vitest'
import clickhouse from '../../../src/loaders/clickhouse.ts'

const COLUMNS = [
  { name: 'id', type: 'BIGINT', from: ['id'] },
  { name: 'name', type: 'VARCHAR', from: ['name'] },
  { name: 'tags', type: 'VARCHAR[]', from: ['tags'] },
]
const BASE = { url: 'http://127.0.0.1:8123/ads', table: 'events' }

async function remarks(options: Readonly<Record<string, unknown>>, columns = COLUMNS): Promise<readonly string[]> {
  const parsed = clickhouse.options.parse({ ...BASE, ...options })
  const found = await clickhouse.check?.(parsed, { path: ['load', 'it'], columns, analysis: undefined as never })
  return (found ?? []).map(({ kind, message, path }) => `${path.slice(2).join('.')} ${kind}: ${message}`)
}

it('finds nothing in what fits', async () => {
  expect(await remarks({ write: 'merge', key: ['id'] })).toEqual([])
})

it.for([
  [{ order_by: ['nam', 'id % 2'] }, ['order_by.0 mistake: the sorting column nam does not reach the loader']],
  [{ not_null: ['at'] }, ['not_null.0 mistake: the column at does not reach the loader']],
  [
    { batch_column: 'id' },
    ['batch_column mistake: the column id reaches the loader, and is the one that numbers the batches'],
  ],
  [
    { nested: 'native' },
    [
      'nested warning: column tags (VARCHAR[]) becomes a type of ClickHouse that knows no NULL: a record with one is refused',
    ],
  ],
  [{ engine: 'SummingMergeTree', order_by: ['id'] }, ['engine mistake: there is no number to sum']],
  [
    { write: 'replace', materialized_views: [{ name: 'v', to: 't', query: 'SELECT id FROM {table}' }] },
    ['materialized_views mistake: rows of a replace do not go through materialized views'],
  ],
  [
    { write: 'merge', key: ['id'], partition_by: 'name' },
    [
      'partition_by warning: rows with one key can lie in different partitions, where they are never merged: only FINAL shows one',
    ],
  ],
  [
    { url: 'http://ch.example:8123/ads' },
    ['url warning: the connection to ch.example is not encrypted, and nobody checks who answers'],
  ],
] as const)('finds in %j what would go wrong', async ([options, expected]) => {
  expect(await remarks(options)).toEqual(expected)
})

it('finds a type that ClickHouse cannot hold', async () => {
  expect(await remarks({}, [{ name: 'u', type: 'UNION(a INTEGER, b VARCHAR)', from: [] }])).toEqual([
    'table mistake: ClickHouse cannot hold column u (UNION(a INTEGER, b VARCHAR)) exactly',
  ])
})

it.for([
  [{ version: 'id' }, '`version` is only for ReplacingMergeTree'],
  [{ engine: 'ReplacingMergeTree' }, 'ReplacingMergeTree needs `order_by`: rows that are equal there become one'],
  [{ sum: ['id'] }, '`sum` is only for SummingMergeTree'],
  [{ write: 'merge', key: ['id'], engine: 'MergeTree' }, '`write: merge` is done by ReplacingMergeTree'],
  [
    { write: 'merge', key: ['id'], order_by: ['name'] },
    'rows are merged by their sorting key: `order_by` may only give the columns of `key` another order',
  ],
  [{ materialized_views: [{ name: 'v', to: 't', query: 'SELECT 1' }] }, 'expected `FROM {table}` in it'],
] as const)('refuses %j', ([options, message]) => {
  const { error } = clickhouse.options.safeParse({ ...BASE, ...options })
  expect(error?.issues.map((issue) => issue.message)).toContain(message)
})
