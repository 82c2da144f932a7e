/** The text by which the engine names a type, as a tree: for components, which see columns as names and texts. */

export type TypeText =
  | { readonly kind: 'plain'; readonly name: string }
  | { readonly kind: 'list'; readonly item: TypeText }
  | { readonly kind: 'struct'; readonly fields: readonly { readonly name: string; readonly type: TypeText }[] }
  | { readonly kind: 'map'; readonly key: TypeText; readonly value: TypeText }

/** Arrays of a fixed length are lists; `DECIMAL(9,2)`, `ENUM('a')` and `UNION(a INTEGER)` are plain. */
export function parseType(text: string): TypeText {
  const item = /^(.*)\[\d*\]$/s.exec(text)?.[1]
  if (item !== undefined) return { kind: 'list', item: parseType(item) }
  const [, kind, inside = ''] = /^(STRUCT|MAP)\((.*)\)$/s.exec(text) ?? []
  if (kind === 'STRUCT') return { kind: 'struct', fields: parts(inside).map(field) }
  if (kind === 'MAP') {
    const [key = '', value = ''] = parts(inside)
    return { kind: 'map', key: parseType(key), value: parseType(value) }
  }
  return { kind: 'plain', name: text }
}

function field(text: string): { name: string; type: TypeText } {
  const [, quoted, bare = '', type = ''] = /^(?:"((?:[^"]|"")*)"|(\S+)) (.*)$/s.exec(text) ?? []
  return { name: quoted?.replaceAll('""', '"') ?? bare, type: parseType(type) }
}

/** What stands between commas that are in no bracket and in no quotes. */
function parts(text: string): string[] {
  const found: string[] = []
  let depth = 0
  let from = 0
  for (const { 0: sign, index } of text.matchAll(/"(?:[^"]|"")*"|'(?:[^']|'')*'|[(),]/g)) {
    if (sign === '(') depth += 1
    if (sign === ')') depth -= 1
    if (sign !== ',' || depth > 0) continue
    found.push(text.slice(from, index).trim())
    from = index + 1
  }
  return [...found, text.slice(from).trim()]
}
