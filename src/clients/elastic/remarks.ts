/** What can be known of a loader's options under the columns that reach it, without the server. */
import type { Column } from '../../core/contracts.ts'
import { didYouMean } from '../../core/job/suggest.ts'
import type { LoaderRemark } from '../../core/loader-check.ts'
import { isThisMachine } from '../../core/this-machine.ts'
import { parseType, type TypeText } from '../../engine/type-text.ts'
import { type Field, type Fields, fieldOf, fieldsOf, STREAM_TIME, STREAM_TIMESTAMP } from './fields.ts'
import { placeOf } from './http.ts'
import type { ConnectionOptions } from './options.ts'

interface Checked extends Pick<ConnectionOptions, 'url'> {
  readonly key?: readonly string[] | undefined
  readonly data_stream?: string | undefined
  readonly batch_column: string | false
  readonly fields: Readonly<Record<string, unknown>>
  readonly settings: Readonly<Record<string, unknown>>
}

type Path = readonly (string | number)[]

/** Fields of the server itself. */
const TAKEN = new Set([
  '_id',
  '_index',
  '_source',
  '_routing',
  '_ignored',
  '_field_names',
  '_doc_count',
  '_seq_no',
  '_version',
  '_type',
  '_tier',
  '_size',
  '_nested_path',
  '_meta',
  '_primary_term',
])
const INSTANTS = /^(?:DATE$|TIMESTAMP)/
const NUMERIC = /^(?:half_float|float|double|scaled_float)$/

export function remarksOf(options: Checked, columns: readonly Column[], path: Path): LoaderRemark[] {
  return [
    ...nameRemarks(options, columns, path),
    ...columns.flatMap((column) => columnRemarks(column, path)),
    ...fieldRemarks(options, columns, path),
    ...serverRemarks(options, path),
  ]
}

function nameRemarks(options: Checked, columns: readonly Column[], path: Path): LoaderRemark[] {
  const names = columns.map(({ name }) => name)
  const missing = (name: string, what: string, place: Path): LoaderRemark[] => {
    if (names.includes(name)) return []
    const hint = didYouMean(name, names) ?? `columns here: ${names.join(', ')}`
    return [mistake(`the ${what} ${name} does not reach the loader`, hint, [...path, ...place])]
  }
  const { batch_column: numbered, data_stream: timestamp, key = [] } = options
  const type = columns.find(({ name }) => name === timestamp)?.type
  return [
    ...key.flatMap((name, index) => missing(name, 'key column', ['key', index])),
    ...(timestamp === undefined ? [] : missing(timestamp, 'timestamp column', ['data_stream'])),
    ...(type === undefined || INSTANTS.test(type)
      ? []
      : [
          mistake(`the timestamp column ${timestamp} is ${type}`, 'cast it to TIMESTAMP in a step', [
            ...path,
            'data_stream',
          ]),
        ]),
    ...(numbered !== false && names.includes(numbered)
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

function columnRemarks({ name, type }: Column, path: Path): LoaderRemark[] {
  const place = [...path, 'index']
  const bad = [name, ...innerNames(parseType(type))].find(
    (own) => own.includes('.') || own.trim() === '' || TAKEN.has(own),
  )
  return [
    ...(fieldOf(type) === undefined
      ? [mistake(`an index cannot hold column ${name} (${type})`, 'cast it in a step, for example to VARCHAR', place)]
      : []),
    ...(bad === undefined
      ? []
      : [
          mistake(
            `column ${name}: a field cannot be called \`${bad}\``,
            'rename it in a step: dots, empty names and the names of the server itself do not go',
            place,
          ),
        ]),
  ]
}

function fieldRemarks(options: Checked, columns: readonly Column[], path: Path): LoaderRemark[] {
  const { batch_column: numbered, data_stream: timestamp, fields } = options
  const own = new Map(pathsOf(fieldsOf(columns, {})))
  if (numbered !== false) own.set(numbered, { type: 'long' })
  if (timestamp !== undefined) own.set(STREAM_TIMESTAMP, STREAM_TIME)
  const types = new Map(columns.map(({ name, type }) => [name, type]))
  return Object.entries(fields).flatMap(([name, chosen]) => {
    const place = [...path, 'fields', name]
    const usual = own.get(name)
    if (usual === undefined) {
      const hint = didYouMean(name, own.keys()) ?? `fields here: ${[...own.keys()].join(', ')}`
      return [mistake(`there is no field ${name}`, hint, place)]
    }
    const { type = '' } = chosen as { type?: string }
    if (type === 'date_nanos')
      return [
        warning(
          `${name}: \`date_nanos\` takes instants from 1970 to 2262 only`,
          'a document with an earlier one is refused, and the batch with it, unless the field has `ignore_malformed: true`',
          place,
        ),
      ]
    if (NUMERIC.test(type) && usual.type === 'keyword' && /^(?:DECIMAL|U?HUGEINT)/.test(types.get(name) ?? ''))
      return [
        warning(
          `${name} (${types.get(name)}) is searched and summed by about 15 digits as \`${type}\``,
          '`_source` keeps all of them; leave the field a `keyword` where the index must tell such values apart',
          place,
        ),
      ]
    return []
  })
}

function serverRemarks({ url, settings }: Checked, path: Path): LoaderRemark[] {
  const { hostname, protocol } = placeOf({ url })
  const forgetful = ['index.translog.durability', 'translog.durability'].find(
    (name) => String(settings[name]).toLowerCase() === 'async',
  )
  return [
    ...(protocol === 'http:' && !isThisMachine(hostname)
      ? [
          warning(
            `the connection to ${hostname} is not encrypted, and nobody checks who answers`,
            'name it by `https://`, and its authority in `tls.ca`',
            [...path, 'url'],
          ),
        ]
      : []),
    ...(forgetful === undefined
      ? []
      : [
          mistake('with this setting the index acknowledges documents before they are on disk', 'leave it out', [
            ...path,
            'settings',
            forgetful,
          ]),
        ]),
  ]
}

function pathsOf(fields: Fields, prefix = ''): [string, Field][] {
  return Object.entries(fields).flatMap(([name, field]) => [
    [`${prefix}${name}`, field] as [string, Field],
    ...pathsOf(field.properties ?? {}, `${prefix}${name}.`),
  ])
}

function innerNames(type: TypeText): string[] {
  if (type.kind === 'list') return innerNames(type.item)
  if (type.kind !== 'struct') return []
  return type.fields.flatMap(({ name, type: own }) => [name, ...innerNames(own)])
}

function mistake(message: string, hint: string, path: Path): LoaderRemark {
  return { kind: 'mistake', message, hint, path }
}

function warning(message: string, hint: string, path: Path): LoaderRemark {
  return { kind: 'warning', message, hint, path }
}
