/** Run events of OpenLineage 2-0-2, from the lineage of a job and the figures of a run. Pure: a transport sends them. */
import type { LineageGraph, LineageNode } from './graph.ts'
import { columnLineage, datasetFacets, type Facet, type Facets, facet } from './openlineage-facets.ts'
import type { RunTally } from './run-tally.ts'

const SCHEMA_URL = 'https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent'

export type RunEventType = 'START' | 'RUNNING' | 'COMPLETE' | 'ABORT' | 'FAIL'

/** A rule of the job, as an assertion on the data sets that it reads. */
export interface Assertion {
  readonly id: string
  /** `not_null`, `unique`, `row_count` …, or `custom_sql`. */
  readonly assertion: string
  /** Where it is about one column. */
  readonly column?: string
  readonly severity: 'error' | 'warn'
  readonly description?: string
  readonly expected?: string
  readonly sql?: string
}

/** A run that adflow was started by. */
export interface ParentRun {
  readonly run: { readonly runId: string }
  readonly job: { readonly namespace: string; readonly name: string }
  readonly root?: { readonly run: { readonly runId: string }; readonly job: ParentRun['job'] }
}

/** What does not change during a run. */
export interface RunIdentity {
  readonly run: string
  readonly namespace: string
  readonly job: string
  readonly description: string | undefined
  /** Of adflow. */
  readonly version: string
  readonly parent: ParentRun | undefined
  /** The chain of steps, for people. */
  readonly sql: string
  readonly assertions: readonly Assertion[]
}

export interface RunMoment {
  readonly type: RunEventType
  /** ISO 8601 UTC. */
  readonly at: string
  /** What was read and written so far; undefined before anything was. */
  readonly tally?: RunTally
  /** Bytes written by store, where they are known. */
  readonly sizes?: ReadonlyMap<string, number>
  readonly error?: string
}

export function runEvent(identity: RunIdentity, graph: LineageGraph, moment: RunMoment): Facet {
  const producer = producerOf(identity.version)
  const of = (...kinds: readonly LineageNode['kind'][]) => graph.nodes.filter(({ kind }) => kinds.includes(kind))
  return {
    eventTime: moment.at,
    eventType: moment.type,
    producer,
    schemaURL: SCHEMA_URL,
    run: { runId: identity.run, facets: runFacets(identity, moment, producer) },
    job: { namespace: identity.namespace, name: identity.job, facets: jobFacets(identity, producer) },
    inputs: of('source', 'reference').map((node) => ({
      ...node.dataset,
      facets: datasetFacets(node, producer),
      inputFacets: inputFacets(node, identity, moment, producer),
    })),
    outputs: merged(of('store')).map(([node, ids]) => ({
      ...node.dataset,
      facets: { ...datasetFacets(node, producer), ...columnLineage(graph, node, producer) },
      outputFacets: outputFacets(ids, moment, producer),
    })),
  }
}

/** A package URL: which adflow made the event. */
function producerOf(version: string): string {
  return `pkg:npm/adflow@${version}`
}

function runFacets({ version, parent }: RunIdentity, { error }: RunMoment, producer: string): Facets {
  return {
    ...facet('processing_engine', producer, { name: 'adflow', version, openlineageAdapterVersion: version }),
    ...(parent === undefined ? {} : facet('parent', producer, { ...parent })),
    ...(error === undefined
      ? {}
      : facet('errorMessage', producer, { message: error, programmingLanguage: 'TypeScript' })),
  }
}

function jobFacets({ description, sql }: RunIdentity, producer: string): Facets {
  return {
    ...facet('jobType', producer, { processingType: 'BATCH', integration: 'ADFLOW', jobType: 'JOB' }),
    ...facet('sql', producer, { query: sql, dialect: 'duckdb' }),
    ...(description === undefined ? {} : facet('documentation', producer, { description })),
  }
}

function inputFacets({ id }: LineageNode, identity: RunIdentity, { tally }: RunMoment, producer: string): Facets {
  const source = tally?.sources.get(id)
  if (tally === undefined || source === undefined) return {}
  const figures = { rowCount: source.rows, fileCount: source.lanes.size }
  return {
    ...facet('inputStatistics', producer, { ...figures, size: source.bytes }),
    ...facet('dataQualityMetrics', producer, { ...figures, bytes: source.bytes, columnMetrics: {} }),
    ...facet('dataQualityAssertions', producer, {
      assertions: identity.assertions.map(({ id: name, assertion, sql, ...about }) => {
        const broken = source.broken.get(name) ?? 0
        const failed = source.failed.get(name)
        return {
          assertion,
          success: broken === 0 && failed === undefined,
          name,
          ...about,
          actual: failed ?? `${broken} of ${source.rows} records`,
          ...(sql === undefined ? {} : { content: sql, contentType: 'sql' }),
        }
      }),
    }),
  }
}

function outputFacets(stores: readonly string[], { tally, sizes }: RunMoment, producer: string): Facets {
  const known = stores.flatMap((id) => tally?.stores.get(id) ?? [])
  if (known.length === 0) return {}
  const bytes = stores.flatMap((id) => sizes?.get(id) ?? [])
  const complete = bytes.length === known.length
  return facet('outputStatistics', producer, {
    rowCount: known.reduce((sum, { rows }) => sum + rows, 0),
    ...(complete
      ? {
          size: bytes.reduce((sum, size) => sum + size, 0),
          fileCount: known.reduce((sum, { outputs }) => sum + outputs.size, 0),
        }
      : {}),
  })
}

/** Two loaders on one data set are one output of the run. */
function merged(stores: readonly LineageNode[]): [LineageNode, string[]][] {
  const datasets = new Map<string, [LineageNode, string[]]>()
  for (const node of stores) {
    const key = JSON.stringify([node.dataset?.namespace, node.dataset?.name])
    const known = datasets.get(key)
    if (known === undefined) datasets.set(key, [node, [node.id]])
    else known[1].push(node.id)
  }
  return [...datasets.values()]
}
