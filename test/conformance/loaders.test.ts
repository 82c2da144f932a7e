import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { aliasOf, warehouseFile } from '../../src/clients/duckdb/attach.ts'
import { ident, literal } from '../../src/engine/sql-text.ts'
import duckdb from '../../src/loaders/duckdb.ts'
import files from '../../src/loaders/files.ts'
import { comparisonConformance } from './suites/comparison.ts'
import { type Columns, type LoaderFixture, loaderConformance } from './suites/loader.ts'

type Options = Readonly<Record<string, unknown>>

const names = (columns: Columns) => Object.keys(columns).map(ident).join(', ')
const typed = (columns: Columns) =>
  Object.entries(columns)
    .map(([name, type]) => `CAST(${ident(name)} AS ${type}) AS ${ident(name)}`)
    .join(', ')
const spec = (columns: Columns, type?: string) =>
  `{${Object.entries(columns)
    .map(([name, own]) => `${literal(name)}: ${literal(type ?? own)}`)
    .join(', ')}}`

function warehouse(options: Options): LoaderFixture<unknown> {
  return {
    definition: duckdb as LoaderFixture<unknown>['definition'],
    type: 'duckdb',
    options: { path: 'warehouse.duckdb', table: 'events', ...options },
    other: { path: 'warehouse.duckdb', table: 'other', ...options },
    rows: ({ path, table }, folder, columns) =>
      `SELECT ${names(columns)} FROM ${aliasOf(warehouseFile(String(path), folder))}.main.${ident(String(table))}`,
  }
}

function folderOf(options: Options, read: (glob: string, columns: Columns) => string): LoaderFixture<unknown> {
  return {
    definition: files as LoaderFixture<unknown>['definition'],
    type: 'files',
    options: { path: 'out', ...options },
    other: { path: 'out', name: 'other-', ...options },
    rows: ({ format, name = '' }, folder, columns) => {
      const out = join(folder, 'out')
      const pattern = new RegExp(`(?:^|/)${name}[0-9a-f]{24}(?:-\\d+)?\\.${format}(?:\\.gz|\\.zst)?$`)
      const found = readdirSync(out, { recursive: true, encoding: 'utf8' }).filter((file) => pattern.test(file))
      if (found.length === 0)
        return `SELECT ${typed(columns)} FROM (SELECT ${Object.keys(columns)
          .map((column) => `NULL AS ${ident(column)}`)
          .join(', ')}) WHERE false`
      return read(`[${found.map((file) => literal(join(out, file))).join(', ')}]`, columns)
    },
  }
}

const parquet = (list: string, columns: Columns) =>
  `SELECT ${typed(columns)} FROM read_parquet(${list}, union_by_name = true, hive_partitioning = false)`
const csv = (list: string, columns: Columns) =>
  `SELECT ${typed(columns)} FROM read_csv(${list}, header = true, all_varchar = true, union_by_name = true, allow_quoted_nulls = false, delim = ',', quote = '"', escape = '"', comment = '', hive_partitioning = false)`
const ndjson = (list: string, columns: Columns) =>
  `SELECT ${names(columns)} FROM read_json(${list}, format = 'newline_delimited', columns = ${spec(columns)}, hive_partitioning = false)`

const fixtures: readonly (readonly [string, LoaderFixture<unknown>])[] = [
  ['duckdb append', warehouse({})],
  ['duckdb merge', warehouse({ write: 'merge', key: ['id'] })],
  ['files parquet', folderOf({ format: 'parquet' }, parquet)],
  ['files csv', folderOf({ format: 'csv' }, csv)],
  ['files ndjson', folderOf({ format: 'ndjson' }, ndjson)],
  ['files parquet, partitioned', folderOf({ format: 'parquet', partition: { part: 'id % 2' } }, parquet)],
  [
    'files ndjson, partitioned and compressed',
    folderOf({ format: 'ndjson', compression: 'gzip', partition: { part: 'id % 2' } }, ndjson),
  ],
]
for (const [name, fixture] of fixtures) {
  loaderConformance(name, fixture)
  comparisonConformance(name, fixture)
}
