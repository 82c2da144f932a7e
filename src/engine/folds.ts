/**
 * Takes an aggregate expression apart, so that what is known of a part of a group can be kept in the place of its rows, and merged with what is
 * known of others. The engine's own parser decides what is an aggregate.
 */
import type { Fold } from '../core/step-contract.ts'
import type { Session } from './session.ts'
import { literal } from './sql-text.ts'
import { type Node, visit } from './syntax-tree.ts'

type Part = Omit<Fold['parts'][number], 'type'>

/** `sql` is known to be an aggregate expression. Its parts are called by `nameOf`. undefined: it cannot be merged. */
export async function foldOf(
  session: Session,
  sql: string,
  { aggregates, nameOf }: { readonly aggregates: ReadonlySet<string>; readonly nameOf: (part: number) => string },
): Promise<{ readonly parts: readonly Part[]; readonly finish: string } | undefined> {
  const select = await parse(session, `SELECT (${sql}\n)`)
  const [item] = (select?.['select_list'] ?? []) as Node[]
  if (select === undefined || item === undefined) return undefined
  const text = async (expression: Node) => {
    const tree = { error: false, statements: [{ node: { ...select, select_list: [expression] }, named_param_map: [] }] }
    const written = await session.value(`SELECT json_deserialize_sql(${literal(JSON.stringify(tree))}::JSON)`)
    return String(written).replace(/^SELECT /, '')
  }
  const parts: Part[] = []
  const taken = new Set<string>()
  const takeApart = async (value: unknown): Promise<unknown> => {
    if (Array.isArray(value)) {
      const items: unknown[] = []
      for (const each of value) items.push(await takeApart(each))
      return items
    }
    if (value === null || typeof value !== 'object') return value
    const node = value as Node
    if (node.class === 'FUNCTION' && aggregates.has(String(node.function_name).toLowerCase())) {
      const part = await partOf(node, text)
      if (part === undefined) throw new Unmergeable()
      const name = nameOf(parts.length)
      parts.push(part)
      taken.add(name)
      return column(name, node)
    }
    const entries: [string, unknown][] = []
    for (const [key, child] of Object.entries(node)) entries.push([key, await takeApart(child)])
    return Object.fromEntries(entries)
  }
  try {
    const finish = (await takeApart(item)) as Node
    visit(finish, ({ class: kind, column_names: names }) => {
      if (kind === 'COLUMN_REF' && !taken.has(names?.[0] ?? '')) throw new Unmergeable()
    })
    return { parts, finish: await text(finish) }
  } catch (error) {
    if (error instanceof Unmergeable) return undefined
    throw error
  }
}

class Unmergeable extends Error {}

/** A tree with numbers that JavaScript does not hold exactly is left alone. */
async function parse(session: Session, sql: string): Promise<Node | undefined> {
  const json = String(await session.value(`SELECT json_serialize_sql(${literal(sql)})`))
  // Places in the text: the one that means "nowhere" is 2^64 - 1.
  const plain = json.replace(/"query_location":\d+/g, '"query_location":0')
  if (/\d{16}/.test(plain)) return undefined
  const { statements } = JSON.parse(plain) as { statements?: { node: Node }[] }
  return statements?.[0]?.node
}

async function partOf(node: Node, text: (expression: Node) => Promise<string>): Promise<Part | undefined> {
  const name = String(node.function_name).toLowerCase()
  const children = node['children'] as Node[]
  const orders = (node['order_bys'] as { readonly orders?: readonly unknown[] } | null)?.orders ?? []
  if (orders.length > 0 || node['export_state'] === true || children.length > 1) return undefined
  const [value] = children
  if (node['distinct'] === true) {
    if (name !== 'count' || value === undefined) return undefined
    const filter = node['filter'] as Node | null
    const make = filter === null ? await text(value) : `CASE WHEN ${await text(filter)} THEN ${await text(value)} END`
    return { kind: 'value', make: `(${make})`, merge: (column) => `count(DISTINCT ${column})` }
  }
  const merge = MERGES[name]
  return merge === undefined ? undefined : { kind: 'measure', make: await text(node), merge }
}

const count: Part['merge'] = (column) => `sum(${column})::BIGINT`

const MERGES: Readonly<Record<string, Part['merge']>> = {
  count,
  count_star: count,
  sum: (column) => `sum(${column})`,
  min: (column) => `min(${column})`,
  max: (column) => `max(${column})`,
  bool_and: (column) => `bool_and(${column})`,
  bool_or: (column) => `bool_or(${column})`,
}

function column(name: string, { alias }: Node): Node {
  return { class: 'COLUMN_REF', type: 'COLUMN_REF', alias, query_location: 0, column_names: [name] }
}
