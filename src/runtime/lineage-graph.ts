/** The lineage of a compiled job: sources and reference data → contract → steps → stores, column by column. */
import type { Column, Dataset } from '../core/contracts.ts'
import { redact } from '../core/job/secrets.ts'
import type { How, LineageColumn, LineageDecision, LineageEdge, LineageGraph, LineageNode } from '../lineage/graph.ts'
import { personalFlow } from './personal.ts'
import { MAIN, type Pipeline, type Stage } from './pipeline.ts'

const CONTRACT = 'contract'

export interface GraphParts {
  readonly pipeline: Pipeline
  readonly sources: readonly { readonly id: string; readonly type: string; readonly dataset: Dataset }[]
  readonly stores: readonly {
    readonly id: string
    readonly type: string
    readonly input: string | undefined
    readonly dataset: Dataset
  }[]
  readonly consumers?: readonly GraphConsumer[]
}

/** `from` of a column names columns of the output that the consumer reads. */
export interface GraphConsumer {
  readonly id: string
  readonly type: string
  readonly input: string
  readonly columns: readonly (Column & { readonly sql?: string })[]
  /** Columns that its `where` looks at. */
  readonly where: readonly string[]
}

export function lineageGraph({ pipeline, sources, stores, consumers = [] }: GraphParts): LineageGraph {
  const { job, plan, stages, outputs } = pipeline
  const nodes: LineageNode[] = []
  const flows: { from: string; to: string }[] = []
  const edges: LineageEdge[] = []
  const decisions: LineageDecision[] = []
  const described = new Map(job.columns.map(({ name, personal, description }) => [name, { personal, description }]))
  const contract = plan.columns.map(({ name, type, from }) => {
    const { personal = true, description } = described.get(name) ?? {}
    return { name, field: from, type: type.sql, personal, ...(description === undefined ? {} : { description }) }
  })
  for (const { id, type, dataset } of sources) {
    const columns = contract.map(({ field, name: _, ...column }) => ({ ...column, name: field }))
    nodes.push({ id, kind: 'source', type, dataset, columns: once(columns) })
    flows.push({ from: id, to: CONTRACT })
    for (const { name, field } of contract)
      edges.push({
        from: { node: id, column: field },
        to: { node: CONTRACT, column: name },
        how: 'same',
        masked: false,
      })
  }
  for (const { name, place, source, columns } of pipeline.references) {
    if (nodes.some(({ id }) => id === name)) continue
    const dataset = source.kind === 'query' ? source.dataset : { namespace: 'file', name: place }
    const type = source.kind === 'query' ? dataset.namespace.replace(/:.*/, '') : 'files'
    const plain = columns.map((column) => ({ ...column, personal: false }))
    nodes.push({ id: name, kind: 'reference', type, dataset, columns: plain })
  }
  nodes.push({
    id: CONTRACT,
    kind: 'contract',
    type: CONTRACT,
    columns: contract.map(({ field: _, ...column }) => column),
  })
  const personal = personalFlow(pipeline)
  const shown = (id: string, columns: readonly Column[]): LineageColumn[] => {
    const by = id === MAIN ? personal.main : personal.steps.get(id)
    return columns.map(({ name, type }) => ({ name, type, personal: by?.has(name) ?? false }))
  }
  const taking = new Set(job.rowRules.filter(({ onFail }) => onFail !== 'warn').map(({ id }) => id))
  for (const { id, columns } of pipeline.ruleColumns)
    if (taking.has(id) && columns.length > 0)
      decisions.push({ node: CONTRACT, by: 'filter', columns: columns.map((column) => ({ node: CONTRACT, column })) })
  let input = CONTRACT
  /** Output → the step at which it ends. */
  const ends = new Map<string, string>()
  for (const stage of stages) {
    nodes.push({ id: stage.id, kind: 'step', type: stage.verb, columns: shown(stage.id, stage.step.output.columns) })
    flows.push({ from: input, to: stage.id }, ...referencesOf(stage).map((from) => ({ from, to: stage.id })))
    edges.push(...stepEdges(stage.id, stage.guarded.output.columns, stage, input))
    for (const { name, relation } of stage.guarded.branches ?? []) {
      nodes.push({ id: name, kind: 'step', type: stage.verb, columns: shown(name, relation.columns) })
      flows.push({ from: input, to: name })
      edges.push(...stepEdges(name, relation.columns, stage, input))
      ends.set(name, name)
    }
    const { decides } = stage.guarded.lineage ?? {}
    if (decides !== undefined && decides.columns.length > 0)
      decisions.push({
        node: stage.id,
        by: decides.by,
        columns: decides.columns.map((column) => ({ node: input, column })),
      })
    if (outputs.get(stage.id)?.kind === 'set') ends.set(stage.id, stage.id)
    else input = stage.id
  }
  ends.set(MAIN, input)
  for (const { id, type, input: wanted = MAIN, dataset } of stores) {
    const columns = outputs.get(wanted)?.relation.columns ?? []
    nodes.push({ id, kind: 'store', type, dataset, input: wanted, columns: shown(wanted, columns) })
    const end = ends.get(wanted) ?? input
    flows.push({ from: end, to: id })
    for (const { name } of columns)
      edges.push({ from: { node: end, column: name }, to: { node: id, column: name }, how: 'same', masked: false })
  }
  for (const { id, type, input: wanted, columns, where } of consumers) {
    const end = ends.get(wanted) ?? input
    const personalHere = wanted === MAIN ? personal.main : personal.steps.get(wanted)
    nodes.push({
      id,
      kind: 'consumer',
      type,
      input: wanted,
      columns: columns.map(({ name, type: columnType, from }) => ({
        name,
        type: columnType,
        personal: from.some((column) => personalHere?.has(column)),
      })),
    })
    flows.push({ from: end, to: id })
    for (const { name, from, how = 'same', sql } of columns)
      for (const column of from) {
        const edge: LineageEdge = { from: { node: end, column }, to: { node: id, column: name }, how, masked: false }
        edges.push(sql === undefined ? edge : { ...edge, sql })
      }
    if (where.length > 0)
      decisions.push({ node: id, by: 'filter', columns: where.map((column) => ({ node: end, column })) })
  }
  return { job: job.name, nodes, flows, edges, decisions }
}

/** The guarded form of a step tells the lineage of this step alone. */
function stepEdges(id: string, columns: readonly Column[], { guarded }: Stage, input: string): LineageEdge[] {
  const hidden = new Set(guarded.hides ?? [])
  const sqlOf = new Map(guarded.expressions.map(({ field, sql }) => [field, redact(sql)]))
  const { finds = {} } = guarded.lineage ?? {}
  return columns.flatMap(({ name, from, how = 'same' }) => {
    const to = { node: id, column: name }
    const masked = hidden.has(name)
    const sql = how === 'computed' ? sqlOf.get(name) : undefined
    const about = { to, masked, ...(sql === undefined ? {} : { sql }) }
    const edges = from.map((column) => ({ ...about, from: { node: input, column }, how: how as How }))
    const found = finds[name]
    return found === undefined
      ? edges
      : [...edges, { ...about, from: { node: found.reference, column: found.column }, how: 'same' as const }]
  })
}

function referencesOf({ guarded }: Stage): string[] {
  return [...new Set(Object.values(guarded.lineage?.finds ?? {}).map(({ reference }) => reference))]
}

/** Several columns of a contract may be made of one field. */
function once(columns: readonly LineageColumn[]): LineageColumn[] {
  return columns.filter(({ name }, index) => columns.findIndex((other) => other.name === name) === index)
}
