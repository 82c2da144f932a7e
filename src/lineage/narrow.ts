/** The part of a lineage graph that belongs to one column. */
import { type ColumnPlace, keyOf, type LineageEdge, type LineageGraph } from './graph.ts'

/** The part of the graph that the columns of this name depend on, or that depends on them: what is not on the way is left out.
 *  `column` is a name, or `node.column`. Undefined where there is none. */
export function narrow(graph: LineageGraph, column: string): LineageGraph | undefined {
  const wanted = graph.nodes.flatMap(({ id, columns }) =>
    columns
      .filter(({ name }) => same(name, column) || same(`${id}.${name}`, column))
      .map(({ name }) => ({ node: id, column: name })),
  )
  if (wanted.length === 0) return undefined
  const up = reach(
    wanted,
    graph.edges,
    ({ to }) => to,
    ({ from }) => from,
  )
  const down = reach(
    wanted,
    graph.edges,
    ({ from }) => from,
    ({ to }) => to,
  )
  const kept = (place: ColumnPlace) => up.has(keyOf(place)) || down.has(keyOf(place))
  const both = (edge: LineageEdge) =>
    (up.has(keyOf(edge.to)) && up.has(keyOf(edge.from))) || (down.has(keyOf(edge.to)) && down.has(keyOf(edge.from)))
  const nodes = graph.nodes
    .map((node) => ({ ...node, columns: node.columns.filter(({ name }) => kept({ node: node.id, column: name })) }))
    .filter(({ columns }) => columns.length > 0)
  const left = new Set(nodes.map(({ id }) => id))
  return {
    job: graph.job,
    nodes,
    flows: graph.flows.filter(({ from, to }) => left.has(from) && left.has(to)),
    edges: graph.edges.filter(both),
    decisions: graph.decisions
      .map((decision) => ({ ...decision, columns: decision.columns.filter(kept) }))
      .filter(({ columns }) => columns.length > 0),
  }
}

function reach(
  start: readonly ColumnPlace[],
  edges: readonly LineageEdge[],
  at: (edge: LineageEdge) => ColumnPlace,
  next: (edge: LineageEdge) => ColumnPlace,
): ReadonlySet<string> {
  const onward = new Map<string, ColumnPlace[]>()
  for (const edge of edges) onward.set(keyOf(at(edge)), [...(onward.get(keyOf(at(edge))) ?? []), next(edge)])
  const seen = new Set<string>()
  const open = [...start]
  for (let place = open.pop(); place !== undefined; place = open.pop()) {
    if (seen.has(keyOf(place))) continue
    seen.add(keyOf(place))
    open.push(...(onward.get(keyOf(place)) ?? []))
  }
  return seen
}

function same(a: string, b: string): boolean {
  return a.toLowerCase() === b.toLowerCase()
}
