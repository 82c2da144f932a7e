/** What can be known of a loader's options under the columns that reach it, without the server. */

import { didYouMean } from '../../core/job/suggest.ts'
import type { LoaderCheckEnv, LoaderRemark } from '../../core/loader-check.ts'
import { isThisMachine } from '../../core/this-machine.ts'
import { emptyRelation } from '../../engine/relation.ts'
import { placeOf } from './connect.ts'
import type { DataOptions, Increment } from './data-options.ts'
import { isNested } from './data-sql.ts'
import type { ConnectionOptions } from './options.ts'

/** A script passes so many arguments to one command, at most. */
const MOST_STREAM_FIELDS = 3000
const WHOLE = /^U?(?:TINY|SMALL|BIG|HUGE)?INT(?:EGER)?$/
const DOUBLES = /^(?:FLOAT|DOUBLE|U?TINYINT|U?SMALLINT|U?INTEGER)$/

export async function remarksOf(
  options: DataOptions & Pick<ConnectionOptions, 'url' | 'tls'>,
  env: LoaderCheckEnv,
): Promise<readonly LoaderRemark[]> {
  return [...fieldRemarks(options, env), ...(await expressionRemarks(options, env)), ...connectionRemarks(options, env)]
}

function fieldRemarks({ as, fields = [] }: DataOptions, { columns, path }: LoaderCheckEnv): LoaderRemark[] {
  const names = columns.map(({ name }) => name)
  const missing = fields.flatMap((name, index) =>
    names.includes(name)
      ? []
      : [
          mistake(
            `the column ${name} does not reach the loader`,
            didYouMean(name, names) ?? `columns here: ${names.join(', ')}`,
            [...path, 'fields', index],
          ),
        ],
  )
  const many = (fields.length || names.length) > MOST_STREAM_FIELDS && as === 'stream'
  return many
    ? [...missing, mistake('a stream entry takes at most 3000 fields', 'name fewer `fields`', [...path, 'fields'])]
    : missing
}

async function expressionRemarks(options: DataOptions, env: LoaderCheckEnv): Promise<LoaderRemark[]> {
  const { increment, increments = {}, key, member, score, value } = options
  const { analysis, columns, path } = env
  const input = emptyRelation(columns)
  const typeOf = async (sql: string, ...place: string[]) =>
    (await analysis.row({ sql, path: [...path, ...place] }, input)).type
  const remarks: LoaderRemark[] = []
  for (const [name, sql] of Object.entries({ key, value, member })) {
    if (sql === undefined) continue
    const type = await typeOf(sql, name)
    if (isNested(type) || type === 'BLOB')
      remarks.push(
        mistake(
          `\`${name}\` is a ${type}, which is no text`,
          `write \`${type === 'BLOB' ? 'hex' : 'to_json'}(${sql})\``,
          [...path, name],
        ),
      )
  }
  if (score !== undefined) remarks.push(...scoreRemarks(await typeOf(score, 'score'), [...path, 'score']))
  const raised: readonly (readonly [Increment, ...string[]])[] = [
    ...(increment === undefined ? [] : [[increment, 'increment'] as const]),
    ...Object.entries(increments).map(([name, by]) => [by, 'increments', name] as const),
  ]
  for (const [by, ...place] of raised) {
    const scaled = typeof by !== 'string'
    const at = scaled ? [...place, 'of'] : place
    const type = await typeOf(scaled ? by.of : by, ...at)
    remarks.push(...incrementRemarks(type, by, [...path, ...at]))
  }
  return remarks
}

function scoreRemarks(type: string, path: LoaderRemark['path']): LoaderRemark[] {
  if (DOUBLES.test(type)) return []
  if (!WHOLE.test(type) && !type.startsWith('DECIMAL'))
    return [mistake(`\`score\` is a ${type}, and a score is a number`, 'for a time write `epoch_ms(…)`', path)]
  return [
    {
      kind: 'warning',
      message: `\`score\` is a ${type}, and Redis keeps a double: a batch with a score that it cannot hold exactly is refused`,
      hint: 'cast it to DOUBLE where rounding is meant, or take a coarser unit',
      path,
    },
  ]
}

/** Counters are integers: nothing is ever added as a floating point number. */
function incrementRemarks(type: string, by: Increment, path: LoaderRemark['path']): LoaderRemark[] {
  const of = typeof by === 'string' ? by : by.of
  if (WHOLE.test(type)) return []
  const [, digits] = /^DECIMAL\(\d+,\s*(\d+)\)$/.exec(type) ?? []
  if (digits === undefined)
    return [
      mistake(
        `\`${of}\` is a ${type}, and a counter takes whole numbers`,
        'cast it to an integer, or to a DECIMAL of which `scale` digits are kept',
        path,
      ),
    ]
  if (typeof by === 'string' && Number(digits) > 0)
    return [
      mistake(
        `\`${of}\` is a ${type}, and a counter takes whole numbers`,
        `say how many digits are kept: \`{ of: "${of}", scale: ${digits} }\`; the counter then holds the value times 10^${digits}`,
        path,
      ),
    ]
  if (typeof by !== 'string' && Number(digits) > by.scale)
    return [
      {
        kind: 'warning',
        message: `\`${of}\` is a ${type}, and \`scale: ${by.scale}\` keeps ${by.scale} digits: a batch with a value that has more is refused`,
        hint: `round it where that is meant: \`round(${of}, ${by.scale})\``,
        path,
      },
    ]
  return []
}

function connectionRemarks(
  { tls, url }: Pick<ConnectionOptions, 'url' | 'tls'>,
  { path }: LoaderCheckEnv,
): LoaderRemark[] {
  const { host, secure } = placeOf({ url, tls })
  if (secure || tls.mode !== 'off') return []
  return isThisMachine(host)
    ? []
    : [
        {
          kind: 'warning',
          message: `the connection to ${host} is not encrypted, and nobody checks who answers`,
          hint: 'leave `tls.mode` out, and name the authority in `tls.ca`',
          path: [...path, 'tls', 'mode'],
        },
      ]
}

function mistake(message: string, hint: string, path: LoaderRemark['path']): LoaderRemark {
  return { kind: 'mistake', message, hint, path }
}
