/** What can be known of a loader's options under the columns that reach it, without the brokers. */
import type { Column } from '../../core/contracts.ts'
import type { LoaderCheckEnv, LoaderRemark } from '../../core/loader-check.ts'
import { isThisMachine } from '../../core/this-machine.ts'
import { writtenType } from '../../engine/exact.ts'
import { emptyRelation } from '../../engine/relation.ts'
import { addressesOf } from './cluster.ts'
import type { ConnectionOptions } from './options.ts'
import type { RecordOptions } from './record-options.ts'
import { expressionsOf, fits } from './record-parts.ts'

type Checked = Pick<ConnectionOptions, 'brokers' | 'tls' | 'sasl'> & RecordOptions
type Path = readonly (string | number)[]

export async function remarksOf(options: Checked, env: LoaderCheckEnv): Promise<LoaderRemark[]> {
  return [
    ...(await expressionRemarks(options, env)),
    ...(options.value === undefined ? env.columns.flatMap((column) => columnRemarks(column, env.path)) : []),
    ...connectionRemarks(options, env.path),
  ]
}

async function expressionRemarks(options: Checked, { path, columns, analysis }: LoaderCheckEnv) {
  const input = emptyRelation(columns)
  const remarks: LoaderRemark[] = []
  for (const expression of expressionsOf(options)) {
    const place = [...path, ...expression.path]
    const { type } = await analysis.row({ sql: expression.sql, path: place }, input)
    if (!fits(expression, type))
      remarks.push({
        kind: 'mistake',
        message: `${expression.path.join('.')} is of the type ${type}, not a timestamp`,
        hint: 'cast it, for example with `::TIMESTAMPTZ`',
        path: place,
      })
  }
  return remarks
}

function columnRemarks({ name, type }: Column, path: Path): LoaderRemark[] {
  const warning = (message: string, hint: string): LoaderRemark[] => [{ kind: 'warning', message, hint, path }]
  const written = writtenType(type, 'ndjson')
  const hint = 'cast it in a step, or write `value` yourself, if readers should see something else'
  if (written !== type) return warning(`JSON cannot hold column ${name} (${type}): it is written as ${written}`, hint)
  if (/^(?:BLOB|INTERVAL|TIME WITH TIME ZONE)$/.test(type))
    return warning(`JSON cannot hold column ${name} (${type}): it is written as text, as the engine shows it`, hint)
  if (/^(?:STRUCT|MAP)\(|\]$/.test(type) && /\b(?:DOUBLE|FLOAT)\b/.test(type))
    return warning(
      `column ${name} (${type}) may hold NaN or infinity, which JSON cannot: inside a column they are written bare`,
      'make them NULL in a step',
    )
  return []
}

function connectionRemarks({ brokers, sasl, tls }: Checked, path: Path): LoaderRemark[] {
  const away = addressesOf({ brokers }).find(({ host }) => !isThisMachine(host))
  if (tls.mode !== 'off' || away === undefined) return []
  const password = sasl?.mechanism === 'plain' ? ', and shows the password to whoever listens' : ''
  return [
    {
      kind: 'warning',
      message: `the connection to ${away.host} is not encrypted, and nobody checks who answers${password}`,
      hint: 'leave `tls.mode` out, and name the authority in `tls.ca`',
      path: [...path, 'tls', 'mode'],
    },
  ]
}
