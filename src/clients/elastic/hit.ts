/** One hit as a record: the bytes of its `_source`, before which stand the columns that tell where it came from. */
import { jsonField } from '../../records/json-field.ts'
import { INCOMPLETE, isJsonSpace, JsonScanner } from '../../records/json-scanner.ts'

export const METADATA = ['_id', '_index', '_version', '_seq_no', '_primary_term', '_routing'] as const
export type Metadata = (typeof METADATA)[number]

export interface Hit {
  /** JSON of the record, without line end; undefined: the index keeps no source. */
  readonly record: string | undefined
  /** JSON of each value. */
  readonly sort: readonly string[]
  /** What tells it, and its state, from all others. */
  readonly key: readonly (string | undefined)[]
}

export function hitOf(bytes: Buffer, from: number, to: number, metadata: readonly Metadata[]): Hit {
  const field = (name: string) => jsonField(bytes, from, to, [name])
  const source = field('_source')
  const sort = field('sort')
  return {
    record: source === undefined ? undefined : recordOf(source, metadata, field),
    sort: sort === undefined ? [] : elementsOf(sort),
    key: [field('_index'), field('_id'), field('_seq_no')],
  }
}

function recordOf(source: string, metadata: readonly Metadata[], field: (name: string) => string | undefined): string {
  const own = metadata.map((name) => `"${name}":${field(name) ?? 'null'}`)
  // A source keeps its line ends: between its tokens, the only place where JSON has any.
  const members = source.slice(1).replace(/[\r\n]/g, ' ')
  if (own.length === 0) return `{${members}`
  return `{${own.join(',')}${/^\s*\}/.test(members) ? '' : ','}${members}`
}

/** JSON texts of the elements of an array. */
function elementsOf(json: string): string[] {
  const bytes = Buffer.from(json)
  const scanner = new JsonScanner()
  const elements: string[] = []
  let at = 1
  for (;;) {
    while (isJsonSpace(bytes[at]) || bytes[at] === COMMA) at += 1
    if (at >= bytes.length - 1) return elements
    scanner.reset()
    const end = scanner.scan(bytes, at, bytes.length)
    if (end < 0) throw new Error(`${end === INCOMPLETE ? 'incomplete' : 'broken'} sort values`)
    elements.push(bytes.toString('utf8', at, end))
    at = end
  }
}

const COMMA = 44
