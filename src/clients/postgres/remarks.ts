/** What can be known of a loader's options under the columns that reach it, without the server. */
import type { Column } from '../../core/contracts.ts'
import { didYouMean } from '../../core/job/suggest.ts'
import type { LoaderRemark } from '../../core/loader-check.ts'
import { isThisMachine } from '../../core/this-machine.ts'
import { placeOf } from './connect.ts'
import type { IndexOption } from './indexes.ts'
import type { ConnectionOptions } from './options.ts'
import type { PartitionOption } from './partitions.ts'
import { postgresType } from './types.ts'

/** NAMEDATALEN - 1 of PostgreSQL: what is longer is cut off in silence. */
const LONGEST_NAME = 63

interface Checked extends Pick<ConnectionOptions, 'url' | 'tls'> {
  readonly key?: readonly string[] | undefined
  readonly partition?: PartitionOption | undefined
  readonly indexes: readonly IndexOption[]
  readonly batch_column: string | false
}

type Path = readonly (string | number)[]

export function remarksOf(options: Checked, columns: readonly Column[], path: Path): LoaderRemark[] {
  return [...columnRemarks(options, columns, path), ...connectionRemarks(options, path)]
}

function columnRemarks(options: Checked, columns: readonly Column[], path: Path): LoaderRemark[] {
  const names = columns.map(({ name }) => name)
  const known = new Set(names)
  const missing = (name: string, what: string, place: Path): LoaderRemark[] => {
    if (known.has(name)) return []
    const hint = didYouMean(name, names) ?? `columns here: ${names.join(', ')}`
    return [
      { kind: 'mistake', message: `the ${what} ${name} does not reach the loader`, hint, path: [...path, ...place] },
    ]
  }
  const { batch_column: numbered, indexes, key = [], partition } = options
  return [
    ...key.flatMap((name, index) => missing(name, 'key column', ['key', index])),
    ...(partition === undefined ? [] : missing(partition.column, 'partition column', ['partition', 'column'])),
    ...indexes.flatMap((index, nth) =>
      index.columns.flatMap((name, at) => missing(name, 'index column', ['indexes', nth, 'columns', at])),
    ),
    ...(numbered !== false && known.has(numbered)
      ? [
          mistake(
            `the column ${numbered} reaches the loader, and is the one that numbers the batches`,
            'rename it in a step, or give `batch_column` another name',
            [...path, 'batch_column'],
          ),
        ]
      : []),
    ...columns.flatMap(({ name, type }) => [
      ...(postgresType(type) === undefined
        ? [
            mistake(
              `PostgreSQL cannot hold column ${name} (${type}) exactly`,
              'cast it in a step, for example to TIMESTAMP or VARCHAR',
              [...path, 'table'],
            ),
          ]
        : []),
      ...(Buffer.byteLength(name) > LONGEST_NAME
        ? [
            mistake(`the name of column ${name} is longer than ${LONGEST_NAME} bytes`, 'rename it in a step', [
              ...path,
              'table',
            ]),
          ]
        : []),
    ]),
  ]
}

function connectionRemarks({ url, tls }: Checked, path: Path): LoaderRemark[] {
  const { host } = placeOf({ url })
  if (tls.mode !== 'off' || isThisMachine(host)) return []
  return [
    {
      kind: 'warning',
      message: `the connection to ${host} is not encrypted, and nobody checks who answers`,
      hint: 'leave `tls.mode` out, and name the authority in `tls.ca`',
      path: [...path, 'tls', 'mode'],
    },
  ]
}

function mistake(message: string, hint: string, path: Path): LoaderRemark {
  return { kind: 'mistake', message, hint, path }
}
