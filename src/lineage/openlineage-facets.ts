/** Facets of OpenLineage 2-0-2: each names the version of its published schema. */
import type { LineageGraph, LineageNode, Origin } from './graph.ts'
import { Origins, upstream } from './graph.ts'

export type Facet = Readonly<Record<string, unknown>>
export type Facets = Readonly<Record<string, Facet>>

/** Name in `facets` → file of the schema and its version. */
const SCHEMAS = {
  columnLineage: ['ColumnLineageDatasetFacet', '1-2-0'],
  dataQualityAssertions: ['DataQualityAssertionsDatasetFacet', '1-1-0'],
  dataQualityMetrics: ['DataQualityMetricsInputDatasetFacet', '1-0-3'],
  dataSource: ['DatasourceDatasetFacet', '1-0-1'],
  documentation: ['DocumentationJobFacet', '1-1-0'],
  errorMessage: ['ErrorMessageRunFacet', '1-0-1'],
  inputStatistics: ['InputStatisticsInputDatasetFacet', '1-0-0'],
  jobType: ['JobTypeJobFacet', '2-0-4'],
  outputStatistics: ['OutputStatisticsOutputDatasetFacet', '1-0-2'],
  parent: ['ParentRunFacet', '1-2-0'],
  processing_engine: ['ProcessingEngineRunFacet', '1-1-1'],
  schema: ['SchemaDatasetFacet', '1-2-0'],
  sql: ['SQLJobFacet', '1-1-0'],
  tags: ['TagsDatasetFacet', '1-0-0'],
} as const

/** A facet with the two fields that each must have. */
export function facet(name: keyof typeof SCHEMAS, producer: string, content: Facet): Facets {
  const [schema, version] = SCHEMAS[name]
  const _schemaURL = `https://openlineage.io/spec/facets/${version}/${schema}.json#/$defs/${schema}`
  return { [name]: { _producer: producer, _schemaURL, ...content } }
}

/** What every data set says of itself: columns, where it is, which columns are personal. */
export function datasetFacets({ id, dataset, columns }: LineageNode, producer: string): Facets {
  if (dataset === undefined) return {}
  const personal = columns.filter((column) => column.personal)
  return {
    ...facet('schema', producer, {
      fields: columns.map(({ name, type, description }, index) => ({
        name,
        type,
        ...(description === undefined ? {} : { description }),
        ordinal_position: index + 1,
      })),
    }),
    ...facet('dataSource', producer, { name: id, uri: uriOf(dataset) }),
    ...(personal.length === 0
      ? {}
      : facet('tags', producer, {
          tags: personal.map(({ name }) => ({ key: 'personal', value: 'true', source: 'ADFLOW', field: name })),
        })),
  }
}

/** `file` is a namespace of its own; all others are URIs already. */
function uriOf({ namespace, name }: { readonly namespace: string; readonly name: string }): string {
  const path = name.split('/').map(encodeURIComponent).join('/')
  if (namespace === 'file') return `file://${path}`
  return `${namespace}${path.startsWith('/') ? '' : '/'}${path}`
}

const DIRECT = { same: 'IDENTITY', computed: 'TRANSFORMATION', aggregated: 'AGGREGATION' } as const
const INDIRECT = { filter: 'FILTER', group: 'GROUP_BY', join: 'JOIN' } as const

/** Which fields of inputs each column of a store is made of, and which decided what rows there are. */
export function columnLineage(graph: LineageGraph, store: LineageNode, producer: string): Facets {
  const origins = new Origins(graph)
  const datasets = new Map(graph.nodes.map((node) => [node.id, node.dataset]))
  const sql = new Map(graph.edges.map((edge) => [JSON.stringify([edge.to.node, edge.to.column]), edge.sql]))
  const field = (origin: Origin, transformations: readonly Facet[]) => {
    const dataset = datasets.get(origin.node)
    return dataset === undefined ? [] : [{ ...dataset, field: origin.column, transformations }]
  }
  const above = upstream(graph, store.id)
  const end = graph.flows.find(({ to }) => to === store.id)?.from ?? ''
  return facet('columnLineage', producer, {
    fields: Object.fromEntries(
      store.columns.map(({ name }) => {
        const description = sql.get(JSON.stringify([end, name]))
        const found = byField(origins.of({ node: store.id, column: name }))
        const inputFields = found.flatMap(([first, ways]) =>
          field(
            first,
            ways.map(({ how, masked }) => ({
              ...(how === 'found' ? { type: 'INDIRECT', subtype: 'JOIN' } : { type: 'DIRECT', subtype: DIRECT[how] }),
              ...(description === undefined || how === 'found' ? {} : { description }),
              masking: masked,
            })),
          ),
        )
        return [name, { inputFields }]
      }),
    ),
    dataset: deciding(graph, above, origins).flatMap(([origin, ways]) =>
      field(
        origin,
        ways.map((by) => ({ type: 'INDIRECT', subtype: INDIRECT[by] })),
      ),
    ),
  })
}

/** What decided on the rows of a store, field by field. */
function deciding(graph: LineageGraph, above: ReadonlySet<string>, origins: Origins) {
  const fields = new Map<string, [Origin, (keyof typeof INDIRECT)[]]>()
  for (const { node, by, columns } of graph.decisions) {
    if (!above.has(node)) continue
    for (const origin of columns.flatMap((column) => origins.of(column))) {
      const key = JSON.stringify([origin.node, origin.column])
      const known = fields.get(key)
      if (known === undefined) fields.set(key, [origin, [by]])
      else if (!known[1].includes(by)) known[1].push(by)
    }
  }
  return [...fields.values()]
}

/** Origins of one field stand together: it may come here in several ways. */
function byField(origins: readonly Origin[]): [Origin, Origin[]][] {
  const fields = new Map<string, [Origin, Origin[]]>()
  for (const origin of origins) {
    const key = JSON.stringify([origin.node, origin.column])
    const known = fields.get(key)
    if (known === undefined) fields.set(key, [origin, [origin]])
    else known[1].push(origin)
  }
  return [...fields.values()]
}
