import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { aliasOf, warehouseFile } from '../../src/clients/duckdb/attach.ts'
import { ident } from '../../src/engine/sql-text.ts'
import duckdb from '../../src/loaders/duckdb.ts'
import files from '../../src/loaders/files.ts'
import { rowsOfFiles, writtenFiles } from '../harness/written-files.ts'
import { comparisonConformance } from './suites/comparison.ts'
import { type Columns, type LoaderFixture, loaderConformance } from './suites/loader.ts'

type Options = Readonly<Record<string, unknown>>

const names = (columns: Columns) => Object.keys(columns).map(ident).join(', ')

function warehouse(options: Options): LoaderFixture<unknown> {
  return {
    definition: duckdb as LoaderFixture<unknown>['definition'],
    type: 'duckdb',
    bounded: 'batches',
    options: { path: 'warehouse.duckdb', table: 'events', ...options },
    other: { path: 'warehouse.duckdb', table: 'other', ...options },
    rows: ({ path, table }, folder, columns) =>
      `SELECT ${names(columns)} FROM ${aliasOf(warehouseFile(String(path), folder))}.main.${ident(String(table))}`,
  }
}

function folderOf(options: Options): LoaderFixture<unknown> {
  return {
    definition: files as LoaderFixture<unknown>['definition'],
    type: 'files',
    options: { path: 'out', ...options },
    other: { path: 'out', name: 'other-', ...options },
    rows: (target, folder, columns) => {
      const out = join(folder, 'out')
      const found = writtenFiles(readdirSync(out, { recursive: true, encoding: 'utf8' }), target)
      return rowsOfFiles(
        found.map((file) => join(out, file)),
        target,
        columns,
      )
    },
  }
}

const fixtures: readonly (readonly [string, LoaderFixture<unknown>])[] = [
  ['duckdb append', warehouse({})],
  ['duckdb merge', warehouse({ write: 'merge', key: ['id'] })],
  ['files parquet', folderOf({ format: 'parquet' })],
  ['files csv', folderOf({ format: 'csv' })],
  ['files ndjson', folderOf({ format: 'ndjson' })],
  ['files parquet, partitioned', folderOf({ format: 'parquet', partition: { part: 'id % 2' } })],
  [
    'files ndjson, partitioned and compressed',
    folderOf({ format: 'ndjson', compression: 'gzip', partition: { part: 'id % 2' } }),
  ],
]
for (const [name, fixture] of fixtures) {
  loaderConformance(name, fixture)
  comparisonConformance(name, fixture)
}
