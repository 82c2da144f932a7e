/** Settings under which a SELECT gives all of its rows, each as it is, or an error. Who may set nothing must have them already. */
import type { ClickHouseSettings } from '@clickhouse/client'
import { AdflowError } from '../../core/errors.ts'
import type { ClickHouse } from './connect.ts'
import { nests, type SourceColumn } from './source-columns.ts'

export interface ReadSettings {
  readonly settings: ClickHouseSettings
  /** An answer with fewer rows than were asked for is the last one: no `limit` of the user can have cut it. */
  readonly endsShort: boolean
  readonly compressed: boolean
  /** The user may not say how errors are written: the server keeps an answer back until it is whole. */
  readonly keptBack: boolean
}

/** Others give fewer rows than there are, and no error. */
const WHOLE: Readonly<Record<string, string>> = {
  ...Object.fromEntries(
    [
      'result',
      'read',
      'read_leaf',
      'timeout',
      'timeout_leaf',
      'sort',
      'group_by',
      'distinct',
      'join',
      'set',
      'transfer',
    ].map((what) => [
      what.endsWith('_leaf') ? `${what.slice(0, -5)}_overflow_mode_leaf` : `${what}_overflow_mode`,
      'throw',
    ]),
  ),
  limit: '0',
  offset: '0',
  skip_unavailable_shards: '0',
  output_format_json_array_of_rows: '0',
  output_format_json_validate_utf8: '0',
}
/** These the server takes out of what it tells. */
const UNSEEN = ['limit', 'offset']
const DENORMALS = 'output_format_json_quote_denormals'
const TIMES = 'date_time_output_format'
const ERRORS_AS_ROWS = 'http_write_exception_in_output_format'

interface Wish {
  readonly value: string
  /** What is lost without it; undefined: nothing. */
  readonly loses: string | undefined
}

/** What the user has, and what may be sent with a statement. */
export class UserSettings {
  readonly #rows: ReadonlyMap<string, { readonly value: string; readonly fixed: boolean }>

  private constructor(rows: ReadonlyMap<string, { readonly value: string; readonly fixed: boolean }>) {
    this.#rows = rows
  }

  static async ask(clickhouse: ClickHouse): Promise<UserSettings> {
    const names = Object.keys(wishesFor([], 0)).map((name) => `'${name}'`)
    // One row: `limit` and `max_result_rows` of the user cut this answer, too.
    const [row] = await clickhouse.rows(
      'look at the settings of the user',
      `SELECT groupArray((name, value, toUInt8(readonly))) AS found FROM system.settings WHERE name IN (${names.join(', ')})`,
    )
    const found = (row?.['found'] ?? []) as readonly (readonly [string, string, number])[]
    return new UserSettings(new Map(found.map(([name, value, fixed]) => [name, { value, fixed: fixed !== 0 }])))
  }

  /** To be sent with a statement. */
  wanted(statementMs: number): Record<string, string> {
    return Object.fromEntries(
      Object.entries(wishesFor([], statementMs)).flatMap(([name, { value }]) => {
        const own = this.#rows.get(name)
        if (own === undefined || own.fixed) return []
        return own.value === value && !UNSEEN.includes(name) ? [] : [[name, value]]
      }),
    )
  }

  /** @throws AdflowError SOURCE_UNSUPPORTED where rows or values would be lost, and the user may not say otherwise */
  check(columns: readonly SourceColumn[], origin: string): void {
    const frozen = Object.entries(wishesFor(columns, 0)).flatMap(([name, { value, loses }]) => {
      const own = this.#rows.get(name)
      return own?.fixed === true && own.value !== value && loses !== undefined
        ? [`${name} is ${own.value}: ${loses}`]
        : []
    })
    if (this.#rows.size > 0 && frozen.length === 0) return
    const found = this.#rows.size === 0 ? 'the server does not tell its settings' : frozen.join('; ')
    throw new AdflowError('SOURCE_UNSUPPORTED', `${origin} cannot be read as it is by this user: ${found}`, {
      hint: 'the user may change no setting: give its profile readonly = 2, or the settings themselves',
    })
  }

  reading(statementMs: number): ReadSettings {
    const settings = this.wanted(statementMs)
    const value = (name: string) => settings[name] ?? this.#rows.get(name)?.value
    return {
      settings,
      endsShort: settings['limit'] !== undefined,
      compressed: value('enable_http_compression') === '1',
      keptBack: (value(ERRORS_AS_ROWS) ?? '0') !== '0',
    }
  }
}

function wishesFor(columns: readonly SourceColumn[], statementMs: number): Record<string, Wish> {
  const seconds = String(Math.ceil(statementMs / 1000))
  const floats = columns.filter((column) => nests(column, /Float|Dynamic|JSON|Object/)).map(({ name }) => name)
  const times = columns.filter((column) => nests(column, /DateTime|Dynamic|JSON|Object/)).map(({ name }) => name)
  return {
    ...Object.fromEntries(
      Object.entries(WHOLE).map(([name, value]) => [name, { value, loses: 'rows or bytes may be missing' }]),
    ),
    output_format_json_quote_64bit_integers: { value: '1', loses: undefined },
    output_format_json_quote_decimals: { value: '1', loses: undefined },
    [DENORMALS]: { value: '1', loses: floats.length === 0 ? undefined : `NaN in ${floats.join(', ')} would be NULL` },
    [TIMES]: {
      value: 'iso',
      loses: times.length === 0 ? undefined : `times in ${times.join(', ')} would have no zone`,
    },
    [ERRORS_AS_ROWS]: { value: '0', loses: undefined },
    max_execution_time: { value: seconds, loses: undefined },
    // An answer waits where the engine is behind.
    http_send_timeout: { value: seconds, loses: undefined },
    send_timeout: { value: seconds, loses: undefined },
    enable_http_compression: { value: '1', loses: undefined },
  }
}
