/** Values as the server writes them out, as JSON in which every digit stands as it was. */
import type { RelationColumn, TupleValue } from './messages.ts'

/** JSON of a value that is not NULL. */
export type ValueWriter = (text: string) => string

/** Rows of a statement with its values. */
export type TypeQuery = (
  sql: string,
  values: readonly unknown[],
) => Promise<readonly Readonly<Record<string, unknown>>[]>

const quoted: ValueWriter = (text) => JSON.stringify(text)
const number: ValueWriter = (text) => (/^-?\d/.test(text) ? text : JSON.stringify(text)) // NaN and Infinity are no JSON numbers
const boolean: ValueWriter = (text) => (text === 't' ? 'true' : 'false')
const oneLine: ValueWriter = (text) => text.replace(/[\r\n]/g, ' ') // inside its strings they stand escaped
const bytes: ValueWriter = (text) => JSON.stringify(text.slice(2).replace(/../g, '\\x$&'))
const dated: ValueWriter = (text) => JSON.stringify(text.replace(/^([0-9-]+)(.*) BC$/, '$1 (BC)$2'))

/** By type, as numbered in every server. Others are text: `numeric` too, of which readers of JSON keep no more digits than a double has. */
const WRITERS = new Map<number, ValueWriter>([
  ...[20, 21, 23, 26, 700, 701].map((oid) => [oid, number] as const),
  ...[1082, 1114, 1184].map((oid) => [oid, dated] as const),
  [16, boolean],
  [17, bytes],
  [114, oneLine],
  [3802, oneLine],
])

export class ValueWriters {
  readonly #known = new Map(WRITERS)

  /** Asks the server about types that are not known yet: domains are what they are made of, arrays become arrays. */
  async learn(columns: readonly RelationColumn[], query: TypeQuery): Promise<void> {
    let strange = columns.map(({ type }) => type).filter((type) => !this.#known.has(type))
    if (strange.length === 0) return
    const found = new Map<number, { readonly base: number; readonly item: number }>()
    for (; strange.length > 0; ) {
      const rows = await query(
        `SELECT oid, typbasetype AS base, CASE WHEN typcategory = 'A' THEN typelem ELSE 0 END AS item FROM pg_type WHERE oid = ANY($1::oid[])`,
        [strange],
      )
      for (const { oid, base, item } of rows) found.set(Number(oid), { base: Number(base), item: Number(item) })
      for (const oid of strange) if (!found.has(oid)) found.set(oid, { base: 0, item: 0 }) // it was dropped meanwhile
      const parts = [...found.values()].flatMap(({ base, item }) => [base, item])
      strange = [...new Set(parts)].filter((oid) => oid !== 0 && !found.has(oid) && !this.#known.has(oid))
    }
    const writerOf = (oid: number): ValueWriter => {
      const known = this.#known.get(oid)
      const type = found.get(oid)
      if (known !== undefined || type === undefined) return known ?? quoted
      if (type.base !== 0) return writerOf(type.base)
      return type.item === 0 ? quoted : arrayWriter(writerOf(type.item))
    }
    for (const oid of found.keys()) this.#known.set(oid, writerOf(oid))
  }

  /** `{"id":1,"name":null}`; what is not told is left out. */
  object(columns: readonly RelationColumn[], values: readonly TupleValue[]): string {
    const fields: string[] = []
    for (const [index, { name, type }] of columns.entries()) {
      const value = values[index]
      if (value === undefined) continue
      fields.push(`${JSON.stringify(name)}:${value === null ? 'null' : (this.#known.get(type) ?? quoted)(value)}`)
    }
    return `{${fields.join(',')}}`
  }
}

/** `{1,NULL,"a \"b\""}` and nested; bounds that do not begin at 1 (`[0:1]={…}`) are left out. */
function arrayWriter(item: ValueWriter): ValueWriter {
  return (text) => {
    let at = text.indexOf('{')
    const list = (): string => {
      const items: string[] = []
      for (at += 1; text[at] !== '}'; ) {
        if (text[at] === '{') items.push(list())
        else if (text[at] === '"') items.push(item(inQuotes()))
        else {
          const end = at + text.slice(at).search(/[,}]/)
          const bare = text.slice(at, end)
          items.push(bare === 'NULL' ? 'null' : item(bare))
          at = end
        }
        if (text[at] === ',') at += 1
      }
      at += 1
      return `[${items.join(',')}]`
    }
    const inQuotes = (): string => {
      let value = ''
      for (at += 1; text[at] !== '"'; at += 1) {
        if (text[at] === '\\') at += 1
        value += text[at]
      }
      at += 1
      return value
    }
    return list()
  }
}
