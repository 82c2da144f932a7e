/** What can be known of a loader's options under the columns that reach it, without the server. */
import type { Column } from '../../core/contracts.ts'
import { didYouMean } from '../../core/job/suggest.ts'
import type { LoaderRemark } from '../../core/loader-check.ts'
import { isThisMachine } from '../../core/this-machine.ts'
import { placeOf } from './connect.ts'
import type { Engine, TableOptions } from './table-options.ts'
import { isHeld, isNested } from './types.ts'

interface Checked extends TableOptions {
  readonly url: string
  readonly write: 'append' | 'merge' | 'replace'
  readonly key?: readonly string[] | undefined
  readonly batch_column: string | false
}

type Path = readonly (string | number)[]

export function remarksOf(options: Checked, engine: Engine, columns: readonly Column[], path: Path): LoaderRemark[] {
  return [
    ...nameRemarks(options, columns, path),
    ...typeRemarks(options, columns, path),
    ...engineRemarks(options, engine, columns, path),
    ...connectionRemarks(options, path),
  ]
}

function nameRemarks(options: Checked, columns: readonly Column[], path: Path): LoaderRemark[] {
  const names = columns.map(({ name }) => name)
  const known = new Set(names)
  const missing = (what: string, name: string, place: Path): LoaderRemark[] => {
    if (known.has(name)) return []
    const hint = didYouMean(name, names) ?? `columns here: ${names.join(', ')}`
    return [mistake(`the ${what} ${name} does not reach the loader`, hint, [...path, ...place])]
  }
  const { batch_column: numbered, key = [], not_null, order_by = [], sum = [], version } = options
  return [
    ...key.flatMap((name, at) => missing('key column', name, ['key', at])),
    ...order_by.flatMap((text, at) => (isName(text) ? missing('sorting column', text, ['order_by', at]) : [])),
    ...not_null.flatMap((name, at) => missing('column', name, ['not_null', at])),
    ...sum.flatMap((name, at) => missing('summed column', name, ['sum', at])),
    ...(version === undefined ? [] : missing('version column', version, ['version'])),
    ...(numbered !== false && known.has(numbered)
      ? [
          mistake(
            `the column ${numbered} reaches the loader, and is the one that numbers the batches`,
            'rename it in a step, or give `batch_column` another name',
            [...path, 'batch_column'],
          ),
        ]
      : []),
  ]
}

function typeRemarks({ nested }: Checked, columns: readonly Column[], path: Path): LoaderRemark[] {
  return columns.flatMap(({ name, type }): LoaderRemark[] => {
    if (!isHeld(type) && !(nested === 'json' && isNested(type)))
      return [
        mistake(
          `ClickHouse cannot hold column ${name} (${type}) exactly`,
          'cast it in a step, for example to VARCHAR',
          [...path, 'table'],
        ),
      ]
    if (nested === 'json' || !isNested(type)) return []
    return [
      warning(
        `column ${name} (${type}) becomes a type of ClickHouse that knows no NULL: a record with one is refused`,
        'give it a value in a step, or say `nested: json`',
        [...path, 'nested'],
      ),
    ]
  })
}

function engineRemarks(
  { key, materialized_views: views, partition_by, sum, order_by = [], write }: Checked,
  engine: Engine,
  columns: readonly Column[],
  path: Path,
): LoaderRemark[] {
  const numbers = columns.filter(({ name, type }) => NUMBER.test(type) && !order_by.includes(name))
  return [
    ...(engine === 'SummingMergeTree' && sum === undefined && numbers.length === 0
      ? [mistake('there is no number to sum', 'name columns in `sum`, or use another `engine`', [...path, 'engine'])]
      : []),
    ...(write === 'replace' && views.length > 0
      ? [
          mistake('rows of a replace do not go through materialized views', 'use `write: append`, or leave them out', [
            ...path,
            'materialized_views',
          ]),
        ]
      : []),
    ...(write === 'merge' && views.length > 0
      ? [
          warning(
            'a materialized view sees every row that is written, also those that a later one replaces',
            'let the view feed a ReplacingMergeTree, or read the table with FINAL',
            [...path, 'materialized_views'],
          ),
        ]
      : []),
    ...(write === 'merge' && partition_by !== undefined && !key?.some((name) => partition_by.includes(name))
      ? [
          warning(
            'rows with one key can lie in different partitions, where they are never merged: only FINAL shows one',
            'partition by columns of the key',
            [...path, 'partition_by'],
          ),
        ]
      : []),
  ]
}

const NUMBER = /^(?:U?(?:TINY|SMALL|BIG|HUGE)INT|U?INTEGER|FLOAT|DOUBLE|DECIMAL\(.*\))$/

function connectionRemarks({ url }: Checked, path: Path): LoaderRemark[] {
  const { host } = placeOf({ url })
  if (url.startsWith('https:') || isThisMachine(host)) return []
  return [
    warning(
      `the connection to ${host} is not encrypted, and nobody checks who answers`,
      'use `https`, and name the authority in `tls.ca` where it is your own',
      [...path, 'url'],
    ),
  ]
}

function isName(text: string): boolean {
  return /^[A-Za-z_]\w*$/.test(text)
}

function mistake(message: string, hint: string, path: Path): LoaderRemark {
  return { kind: 'mistake', message, hint, path }
}

function warning(message: string, hint: string, path: Path): LoaderRemark {
  return { kind: 'warning', message, hint, path }
}
