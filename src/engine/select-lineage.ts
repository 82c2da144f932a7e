/**
 * Follows the columns of a SELECT over `input` through sub-queries, CTEs, joins and set operations. What it does not know it
 * gives up as a whole: lineage that says too little would hide where personal data goes.
 */
import type { Column } from '../core/contracts.ts'
import type { ColumnOrigin } from '../core/step-lineage.ts'
import { collect, type Node } from './syntax-tree.ts'

export interface Followed {
  /** Sources of the input's columns. */
  readonly from: readonly string[]
  readonly how?: ColumnOrigin
}

interface Out extends Followed {
  /** Undefined where only the engine knows how it names the column. */
  readonly name: string | undefined
}

interface Table {
  readonly alias: string
  readonly columns: readonly Out[]
}

type Tables = ReadonlyMap<string, readonly Out[]>

/** In the order of the statement's columns; undefined where it cannot be followed. */
export function selectLineage(
  statement: Node,
  input: readonly Column[],
  aggregates: ReadonlySet<string>,
): readonly Followed[] | undefined {
  const columns = input.map(({ name, from }) => ({ name: name.toLowerCase(), from }))
  try {
    return new Follower(aggregates).query(statement, new Map([['input', columns]]))
  } catch (error) {
    if (error instanceof Lost) return undefined
    throw error
  }
}

/** Something that this does not follow. */
class Lost extends Error {}

const STRENGTH: readonly (ColumnOrigin | undefined)[] = [undefined, 'computed', 'aggregated', 'found']

class Follower {
  readonly #aggregates: ReadonlySet<string>

  constructor(aggregates: ReadonlySet<string>) {
    this.#aggregates = aggregates
  }

  query(node: Node, outer: Tables): readonly Out[] {
    const tables = new Map(outer)
    const ctes = (node['cte_map'] as { map?: { key: string; value: Node }[] } | undefined)?.map ?? []
    for (const { key, value } of ctes) {
      if (filled(value['aliases'])) throw new Lost()
      tables.set(key.toLowerCase(), this.query((value['query'] as { node: Node }).node, tables))
    }
    if (node.type === 'SELECT_NODE') return this.#select(node, tables)
    if (node.type !== 'SET_OPERATION_NODE' || node['setop_type'] === 'UNION_BY_NAME') throw new Lost()
    const [left, right] = [node['left'], node['right']] as (Node | undefined)[]
    if (left === undefined || right === undefined) throw new Lost()
    const [first, second] = [this.query(left, tables), this.query(right, tables)]
    if (first.length !== second.length) throw new Lost()
    // EXCEPT and INTERSECT compare whole rows: the values are those of the left side, and depend on the right one.
    return first.map((out, index) => joined(out.name, [out, second[index] as Out]))
  }

  #select(node: Node, tables: Tables): readonly Out[] {
    const from = this.#from(node['from_table'] as Node | null, tables)
    const outs: Out[] = []
    for (const item of (node['select_list'] ?? []) as Node[])
      if (item.class === 'STAR') outs.push(...star(item, from))
      else outs.push(this.#item(item, from, outs))
    return outs
  }

  #from(node: Node | null, tables: Tables): readonly Table[] {
    if (node === null || node.type === 'EMPTY') return []
    if (filled(node['column_name_alias'])) throw new Lost()
    const alias = String(node['alias'] ?? '').toLowerCase()
    if (node.type === 'BASE_TABLE') {
      const name = String(node.table_name).toLowerCase()
      const columns = tables.get(name)
      if (columns === undefined) throw new Lost()
      return [{ alias: alias === '' ? name : alias, columns }]
    }
    if (node.type === 'SUBQUERY')
      return [{ alias, columns: this.query((node['subquery'] as { node: Node }).node, tables) }]
    // NATURAL and USING make one column of two.
    if (
      node.type !== 'JOIN' ||
      !['REGULAR', 'CROSS', 'ASOF'].includes(String(node['ref_type'])) ||
      filled(node['using_columns'])
    )
      throw new Lost()
    // SEMI and ANTI joins give the left side alone.
    if (!['INNER', 'LEFT', 'RIGHT', 'OUTER'].includes(String(node['join_type']))) throw new Lost()
    return [...this.#from(node['left'] as Node, tables), ...this.#from(node['right'] as Node, tables)]
  }

  #item(item: Node, from: readonly Table[], before: readonly Out[]): Out {
    const mentions = collect([item])
    if (mentions.subqueries > 0 || mentions.stars > 0) throw new Lost()
    const read = mentions.columns.map((names) => resolve(names, from, before))
    const alias = String(item['alias'] ?? '').toLowerCase()
    if (item.class === 'COLUMN_REF' && read.length === 1 && read[0] !== undefined) {
      const [{ path, out }] = read as [Resolved]
      const name = alias === '' ? item.column_names?.at(-1)?.toLowerCase() : alias
      return path ? { ...joined(name, [out], 'computed') } : { ...out, name }
    }
    const aggregated = mentions.windows === 0 && mentions.functions.some((name) => this.#aggregates.has(name))
    return joined(
      alias === '' ? undefined : alias,
      read.map(({ out }) => out),
      aggregated ? 'aggregated' : 'computed',
    )
  }
}

interface Resolved {
  readonly out: Out
  /** A field of a struct is meant. */
  readonly path: boolean
}

/** As the engine does: a table's column, then a column of a struct, then a column made earlier in the same SELECT. */
function resolve(names: readonly string[], from: readonly Table[], before: readonly Out[]): Resolved {
  const [first = '', second = ''] = names.map((name) => name.toLowerCase())
  const table = names.length > 1 ? from.find(({ alias }) => alias === first) : undefined
  const qualified = table?.columns.filter(({ name }) => name === second) ?? []
  if (qualified.length === 1 && qualified[0] !== undefined) return { out: qualified[0], path: names.length > 2 }
  const plain = from.flatMap(({ columns }) => columns.filter(({ name }) => name === first))
  if (plain.length === 1 && plain[0] !== undefined && qualified.length === 0)
    return { out: plain[0], path: names.length > 1 }
  const earlier = before.filter(({ name }) => name === first)
  if (plain.length === 0 && earlier.length === 1 && earlier[0] !== undefined)
    return { out: earlier[0], path: names.length > 1 }
  throw new Lost()
}

function star(item: Node, from: readonly Table[]): readonly Out[] {
  if (item['columns'] === true || (item['expr'] ?? null) !== null) throw new Lost()
  if (filled(item['replace_list']) || filled(item['rename_list']) || filled(item['qualified_exclude_list']))
    throw new Lost()
  const relation = String(item['relation_name'] ?? '').toLowerCase()
  const excluded = new Set(((item['exclude_list'] ?? []) as unknown[]).map((name) => String(name).toLowerCase()))
  const chosen = relation === '' ? from : from.filter(({ alias }) => alias === relation)
  const columns = chosen.flatMap((table) => table.columns)
  if (chosen.length === 0 || columns.some(({ name }) => name === undefined && excluded.size > 0)) throw new Lost()
  return columns.filter(({ name }) => name === undefined || !excluded.has(name))
}

function joined(name: string | undefined, outs: readonly Out[], least?: ColumnOrigin): Out {
  const strongest = Math.max(...[least, ...outs.map(({ how }) => how)].map((how) => STRENGTH.indexOf(how)))
  const how = STRENGTH[strongest]
  return { name, from: [...new Set(outs.flatMap(({ from }) => from))], ...(how === undefined ? {} : { how }) }
}

function filled(value: unknown): boolean {
  return Array.isArray(value) && value.length > 0
}
