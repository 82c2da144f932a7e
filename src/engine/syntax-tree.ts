/** The engine's own parse of SQL, as the tree that json_serialize_sql gives: what a part of it mentions. */

export interface Node {
  readonly class?: string
  readonly type?: string
  readonly function_name?: string
  readonly column_names?: readonly string[]
  readonly table_name?: string
  readonly [key: string]: unknown
}

/** What an expression or statement mentions. */
export interface Mentions {
  readonly columns: string[][]
  readonly functions: string[]
  readonly tables: string[]
  readonly subqueries: number
  readonly windows: number
  /** `*`, COLUMNS(…): any number of columns. */
  readonly stars: number
}

export function collect(root: unknown): Mentions {
  const columns: string[][] = []
  const functions: string[] = []
  const tables: string[] = []
  let subqueries = 0
  let windows = 0
  let stars = 0
  const lambdas = new Set<string>()
  visit(root, (node) => {
    if (node.class === 'LAMBDA') for (const name of lambdaParameters(node)) lambdas.add(name)
    if (node.class === 'COLUMN_REF' && node.column_names !== undefined) columns.push([...node.column_names])
    if (node.class === 'FUNCTION' && node.function_name !== undefined) functions.push(nameOf(node.function_name, node))
    if (node.class === 'SUBQUERY') subqueries += 1
    if (node.class === 'WINDOW') windows += 1
    if (node.class === 'STAR') stars += 1
    if (node.type === 'BASE_TABLE') tables.push(String(node.table_name))
    if (node.type === 'TABLE_FUNCTION') tables.push(String((node['function'] as Node | undefined)?.function_name))
  })
  return {
    columns: columns.filter(([name]) => !lambdas.has(name ?? '')),
    functions,
    tables,
    subqueries,
    windows,
    stars,
  }
}

/** Lower case; age() with one argument is another function than age() with two: it reads the clock. */
function nameOf(name: string, node: Node): string {
  const lower = name.toLowerCase()
  return lower === 'age' && (node['children'] as unknown[]).length === 1 ? 'age/1' : lower
}

function lambdaParameters(node: Node): string[] {
  const names: string[] = []
  visit(node['lhs'], (child) => {
    if (child.class === 'COLUMN_REF') names.push(...(child.column_names ?? []))
  })
  return names
}

export function visit(value: unknown, see: (node: Node) => void): void {
  if (Array.isArray(value)) for (const item of value) visit(item, see)
  else if (value !== null && typeof value === 'object') {
    see(value as Node)
    for (const child of Object.values(value)) visit(child, see)
  }
}
