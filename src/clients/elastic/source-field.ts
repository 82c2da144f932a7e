/** The field by which documents are ordered and read on, and how its values are asked for. Values are JSON, as they stand in the `sort` of a hit. */
import { AdflowError } from '../../core/errors.ts'
import type { ElasticReader } from './reader.ts'

type Kind = 'millis' | 'nanos' | 'integer' | 'number' | 'text'

export interface SourceField {
  readonly name: string
  readonly kind: Kind
  /** What is to be sorted by. */
  readonly sort: object
}

const KINDS: Readonly<Record<string, Kind>> = {
  date: 'millis',
  date_nanos: 'nanos',
  ...Object.fromEntries(
    ['long', 'integer', 'short', 'byte', 'unsigned_long', '_seq_no'].map((type) => [type, 'integer']),
  ),
  ...Object.fromEntries(['double', 'float', 'half_float', 'scaled_float'].map((type) => [type, 'number'])),
  ...Object.fromEntries(['keyword', 'constant_keyword', 'wildcard', 'version', 'ip'].map((type) => [type, 'text'])),
} as const

export const SEQUENCE = '_seq_no'

/** @throws AdflowError SOURCE_MISSING, SOURCE_UNSUPPORTED */
export async function findField(
  reader: ElasticReader,
  index: string,
  name: string,
  { origin, signal }: { readonly origin: string; readonly signal: AbortSignal },
): Promise<SourceField> {
  if (name === SEQUENCE) return { name, kind: 'integer', sort: { [name]: { order: 'asc' } } }
  const { body } = await reader.json({
    method: 'GET',
    path: [index, '_field_caps'],
    query: { fields: name, allow_no_indices: 'false' },
    signal,
    doing: `look at the field ${name} of ${origin}`,
  })
  const { fields = {} } = (body ?? {}) as { fields?: Readonly<Record<string, Readonly<Record<string, unknown>>>> }
  const types = Object.keys(fields[name] ?? {}).filter((type) => type !== 'unmapped')
  if (types.length === 0)
    throw new AdflowError('SOURCE_MISSING', `${origin} has no field ${name}`, {
      hint: 'check `incremental.field`; a field of text has a keyword beside it, most often `…keyword`',
    })
  const kinds = new Set(types.map((type) => KINDS[type]))
  const dates = types.every((type) => type === 'date' || type === 'date_nanos')
  const [kind] = kinds
  if (kind === undefined || (kinds.size > 1 && !dates))
    throw new AdflowError('SOURCE_UNSUPPORTED', `${origin} cannot be read on by ${name}, a ${types.join(' and a ')}`, {
      hint: 'name a date, a number or a keyword, which has one type in all indices, in `incremental.field`',
    })
  const mixed = kinds.size > 1
  return {
    name,
    kind: mixed ? 'nanos' : kind,
    // An index whose mapping does not know the field has no document with it.
    sort: { [name]: { order: 'asc', unmapped_type: types[0], ...(mixed ? { numeric_type: 'date_nanos' } : {}) } },
  }
}

/** Negative: a before b, in the order of the server. */
export function compareValues({ kind }: SourceField, a: string, b: string): number {
  if (kind === 'text') return Buffer.compare(Buffer.from(JSON.parse(a) as string), Buffer.from(JSON.parse(b) as string))
  if (kind === 'number') return Number(a) - Number(b)
  const [first, second] = [BigInt(a), BigInt(b)]
  return first < second ? -1 : first > second ? 1 : 0
}

/** So much before a value. `lag`: milliseconds of dates; of integers a number of their own. */
export function valueBefore({ kind }: SourceField, value: string, lag: number): string {
  return String(BigInt(value) - BigInt(lag) * (kind === 'nanos' ? 1_000_000n : 1n))
}

export function mayLag({ kind }: SourceField): boolean {
  return kind !== 'text' && kind !== 'number'
}

/** JSON of a condition. `bound`: `gt` or `gte`. */
export function rangeJson({ name, kind }: SourceField, bound: 'gt' | 'gte', value: string): string {
  const format =
    kind === 'millis'
      ? ',"format":"epoch_millis"'
      : kind === 'nanos'
        ? ',"format":"strict_date_optional_time_nanos"'
        : ''
  const text = kind === 'nanos' ? `"${isoNanos(BigInt(value))}"` : value
  return `{"range":{${JSON.stringify(name)}:{"${bound}":${text}${format}}}}`
}

function isoNanos(nanos: bigint): string {
  const second = 1_000_000_000n
  const rest = ((nanos % second) + second) % second
  const date = new Date(Number((nanos - rest) / 1_000_000n))
  return `${date.toISOString().slice(0, 19)}.${String(rest).padStart(9, '0')}Z`
}
