/** YAML text → plain values, each with its place in the file. Nothing is interpreted here. */
import { isAlias, isMap, isScalar, isSeq, LineCounter, type Node, parseDocument, type Scalar } from 'yaml'
import { type Path, type Place, Places, START_OF_FILE } from './places.ts'
import type { Problems } from './problems.ts'

export interface YamlDocument {
  /** Maps, lists, strings, numbers, booleans, null; integers beyond 2^53 are bigint, so that no digit is lost. */
  readonly value: unknown
  readonly places: Places
}

const MAX_BYTES = 1_000_000
const MAX_DEPTH = 64
/** Values that aliases may add: a few hundred bytes of nested aliases would otherwise fill the memory. */
const MAX_ALIASED = 10_000

/** Parses the text; mistakes go to `problems`, and then there is no document. */
export function parseYaml(text: string, problems: Problems): YamlDocument | undefined {
  if (Buffer.byteLength(text) > MAX_BYTES) {
    problems.add(START_OF_FILE, 'the file is larger than 1 MB, which no job file needs to be')
    return undefined
  }
  const lines = new LineCounter()
  const toPlace = (offset: number): Place => {
    const { line, col } = lines.linePos(offset)
    return { line: Math.max(line, 1), column: Math.max(col, 1) }
  }
  const parsed = parseDocument(text, {
    lineCounter: lines,
    prettyErrors: false,
    intAsBigInt: true,
    stringKeys: true,
    // Not 'silent': the parser would ignore a second document without a word.
    logLevel: 'error',
  })
  for (const error of [...parsed.errors, ...parsed.warnings])
    problems.add(toPlace(error.pos[0]), yamlMessage(error.code, error.message, text.slice(...error.pos)))
  if (problems.count > 0) return undefined
  if (parsed.contents === null || (isScalar(parsed.contents) && parsed.contents.value === null)) {
    problems.add(START_OF_FILE, 'the file is empty')
    return undefined
  }
  const builder = new Builder(new Places(toPlace), (offset, message) => problems.add(toPlace(offset), message))
  const value = builder.build(parsed.contents, [], undefined)
  return problems.count > 0 ? undefined : { value, places: builder.places }
}

function yamlMessage(code: string, message: string, source: string): string {
  if (code === 'DUPLICATE_KEY') return 'this key is written twice in the same map; keep one of them'
  if (code === 'MULTIPLE_DOCS') return 'a job file holds one YAML document; split it into files at `---`'
  if (code === 'TAG_RESOLVE_FAILED') return `the YAML tag \`${source}\` is not supported; write a plain value`
  return `not valid YAML: ${message.replace(/ at line \d+, column \d+:[\s\S]*$/, '')}`
}

/** Walks the YAML nodes. Aliases are followed here because here they have a budget. */
class Builder {
  readonly places: Places
  readonly #refuse: (offset: number, message: string) => void
  readonly #anchors = new Map<string, Node>()
  #aliased = 0

  constructor(places: Places, refuse: (offset: number, message: string) => void) {
    this.places = places
    this.#refuse = refuse
  }

  /** `alias`: the offset of the alias through which the node is seen. */
  build(node: unknown, path: Path, key: number | undefined, alias?: number): unknown {
    if (isAlias(node)) return this.#follow(node.source, path, key, alias ?? node.range?.[0] ?? 0)
    const own = node as Node
    const offset = own.range?.[0] ?? 0
    if (path.length > MAX_DEPTH) {
      this.#refuse(alias ?? offset, `nested deeper than ${MAX_DEPTH} levels`)
      return null
    }
    if (alias !== undefined && ++this.#aliased > MAX_ALIASED) {
      if (this.#aliased === MAX_ALIASED + 1) this.#refuse(alias, `aliases expand to more than ${MAX_ALIASED} values`)
      return null
    }
    if ('anchor' in own && own.anchor !== undefined) this.#anchors.set(own.anchor, own)
    this.places.set(path, offset, key ?? offset)
    if (isMap(node)) return this.#map(node.items, path, alias)
    if (isSeq(node)) return node.items.map((item, index) => this.build(item, [...path, index], undefined, alias))
    return isScalar(node) ? scalar(node) : null
  }

  #follow(source: string, path: Path, key: number | undefined, alias: number): unknown {
    const target = this.#anchors.get(source)
    if (target !== undefined) return this.build(target, path, key, alias)
    this.#refuse(alias, `there is no anchor \`&${source}\` before this alias`)
    return null
  }

  #map(items: readonly { key: unknown; value: unknown }[], path: Path, alias: number | undefined): object {
    const result: Record<string, unknown> = {}
    for (const { key, value } of items) {
      const offset = (key as Scalar).range?.[0] ?? 0
      const name = String((key as Scalar).value)
      if (name === '__proto__') this.#refuse(offset, 'a key must not be called `__proto__`')
      else if (name === '<<') this.#refuse(offset, 'merge keys (`<<`) are not supported; write the keys out')
      else result[name] = value === null ? null : this.build(value, [...path, name], offset, alias)
    }
    return result
  }
}

/** Integers beyond 2^53 stay bigint; decimals with more digits than a double holds stay text. */
function scalar(node: Scalar): unknown {
  const { value, source } = node
  if (typeof value === 'bigint')
    return value >= Number.MIN_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER ? Number(value) : value
  if (typeof value === 'number' && source !== undefined && significantDigits(source) > 15) return source
  return value
}

function significantDigits(source: string): number {
  return source
    .replace(/e.*$/i, '')
    .replace(/[^0-9]/g, '')
    .replace(/^0+/, '').length
}
