/** The lineage of a job from its job file alone, and with the figures of one run from its ledger. Reads only. */
import { existsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import type { Logger } from 'pino'
import { AdflowError } from '../core/errors.ts'
import type { Job } from '../core/job/job.ts'
import { redact } from '../core/job/secrets.ts'
import { didYouMean } from '../core/job/suggest.ts'
import type { Registry } from '../core/registry.ts'
import { createAnalysis } from '../engine/analysis.ts'
import type { Session } from '../engine/session.ts'
import { literal } from '../engine/sql-text.ts'
import { type LineageColumn, type LineageGraph, type LineageNode, type Origin, Origins } from '../lineage/graph.ts'
import { narrow } from '../lineage/narrow.ts'
import { openBrowser } from './browse.ts'
import { openCheckpoints } from './checkpoints.ts'
import { type GraphConsumer, type GraphParts, lineageGraph } from './lineage-graph.ts'
import { openLintEngine } from './lint.ts'
import { compilePipeline, type Pipeline } from './pipeline.ts'
import { stateDirOf } from './state-dir.ts'

export type { LineageNode } from '../lineage/graph.ts'

export interface JobLineageOptions {
  readonly job: Job
  readonly registry: Registry
  readonly stateDir: string
  readonly log: Logger
  /** Only what this column depends on, and what depends on it: a name, or `node.column`. */
  readonly column?: string
  /** Id of a run, or `last`: its figures. */
  readonly run?: string
}

/** A column of a store or consumer with the fields it is made of. */
export interface LineageEnd extends LineageColumn {
  readonly node: string
  readonly from: readonly Origin[]
}

export interface JobLineage extends LineageGraph {
  readonly schema_version: 1
  readonly column: string | null
  /** Columns of stores and consumers, back to sources and reference data. */
  readonly ends: readonly LineageEnd[]
  /** Of the run that was asked for: node → what it read, took out, or got. */
  readonly run: string | null
  readonly figures: Readonly<Record<string, Readonly<Record<string, number>>>>
}

/** @throws AdflowError USAGE where there is no such column or run; what compiling and the ledger throw. */
export async function jobLineage(options: JobLineageOptions): Promise<JobLineage> {
  const { job, column } = options
  const whole = await graphOf(options)
  const graph = column === undefined ? whole : narrow(whole, column)
  if (graph === undefined) throw noColumn(whole, column ?? '')
  const { run, figures } =
    options.run === undefined ? { run: null, figures: {} } : await figuresOf(options, options.run)
  const origins = new Origins(whole)
  // A count of rows is made of no column: it begins in its step.
  const outside = graph.nodes.filter(({ kind }) => kind === 'source' || kind === 'reference')
  const fields = new Set(outside.flatMap(({ id, columns }) => columns.map(({ name }) => `${id}.${name}`)))
  const ends = graph.nodes
    .filter(({ kind }) => kind === 'store' || kind === 'consumer')
    .flatMap(({ id, columns }) =>
      columns.map((end) => ({
        node: id,
        ...end,
        from: origins
          .of({ node: id, column: end.name })
          .filter((origin) => fields.has(`${origin.node}.${origin.column}`)),
      })),
    )
  return { schema_version: 1, ...graph, job: job.name, column: column ?? null, ends, run, figures }
}

async function graphOf({ job, registry, stateDir, log }: JobLineageOptions): Promise<LineageGraph> {
  const engine = await openLintEngine()
  try {
    const session = await engine.connect()
    const state = stateDirOf(stateDir, job.name)
    const checkpoints = existsSync(state.path) ? await openCheckpoints(state.path, job.name) : undefined
    const evolved = checkpoints?.current.evolved
    const pipeline = await compilePipeline({ job, registry, session, ...(evolved === undefined ? {} : { evolved }) })
    const env = (id: string) => ({ id, job: job.name, baseDir: job.baseDir, log })
    const sources: GraphParts['sources'][number][] = []
    for (const { id, type, options } of job.extract) {
      const definition = await registry.get('extractor', type)
      const extractor = definition.create(options, { ...env(id), chunkDir: state.chunks, stageDir: state.stagedOf(id) })
      sources.push({ id, type, dataset: extractor.dataset() })
      await extractor.close()
    }
    const stores: GraphParts['stores'][number][] = []
    for (const { id, type, options, input } of job.load) {
      const definition = await registry.get('loader', type)
      const loader = definition.create(options, { ...env(id), workDir: tmpdir() })
      stores.push({ id, type, input, dataset: loader.dataset() })
      await loader.close()
    }
    return lineageGraph({ pipeline, sources, stores, consumers: await consumersOf(pipeline, session) })
  } finally {
    engine.close()
  }
}

async function consumersOf({ job, outputs }: Pipeline, session: Session): Promise<GraphConsumer[]> {
  const analysis = await createAnalysis(session)
  const consumers: GraphConsumer[] = []
  for (const { id, type, input, select, where } of job.distribute) {
    const { columns, sql } = outputs.get(input)?.relation ?? { columns: [], sql: '' }
    const alone = {
      sql,
      columns: columns.map((column) => ({ name: column.name, type: column.type, from: [column.name] })),
    }
    const selected: GraphConsumer['columns'][number][] = []
    for (const { name, expression } of select ?? []) {
      const typed = await analysis.row(expression, alone)
      selected.push({ name, ...typed, ...(typed.how === undefined ? {} : { sql: redact(expression.sql) }) })
    }
    consumers.push({
      id,
      type,
      input,
      columns: select === undefined ? alone.columns : selected,
      where: where === undefined ? [] : (await analysis.row(where, alone)).from,
    })
  }
  return consumers
}

function noColumn({ nodes }: LineageGraph, column: string): AdflowError {
  const names = [...new Set(nodes.flatMap(({ columns }) => columns.map(({ name }) => name)))]
  return new AdflowError('USAGE', `--column ${column}: no source, step, store or consumer has such a column`, {
    hint: didYouMean(column, names) ?? `there are: ${names.join(', ')}`,
  })
}

/** What the books of a run say of sources, steps and stores. */
async function figuresOf(
  { job, stateDir, registry, log }: JobLineageOptions,
  wanted: string,
): Promise<{ run: string; figures: Record<string, Record<string, number>> }> {
  const browser = await openBrowser(job, stateDir, registry, log, { stores: false })
  try {
    const { session } = browser
    const which = wanted === 'last' ? 'true' : `run = ${literal(wanted)}`
    const [found] = await session.rows(`SELECT run FROM runs WHERE ${which} ORDER BY started_at DESC LIMIT 1`)
    if (found === undefined)
      throw new AdflowError('USAGE', `--run ${wanted}: the ledger of job ${job.name} has no such run`, {
        hint: '`adflow status` lists the last runs; `--run last` takes the newest',
      })
    const run = String(found['run'])
    const rows = await session.rows(figuresSql(run))
    const figures: Record<string, Record<string, number>> = {}
    for (const { node, what, n } of rows)
      figures[String(node)] = { ...figures[String(node)], [String(what)]: Number(n) }
    return { run, figures }
  } finally {
    browser.close()
  }
}

function figuresSql(run: string): string {
  const counted = (name: string) =>
    `SELECT c."key" AS node, '${name}' AS what, c."value" AS n FROM (SELECT unnest(map_entries(counts.${name})) AS c FROM mine)`
  return `WITH mine AS (
    FROM ledger WHERE type = 'batch_closed' AND run = ${literal(run)}
    QUALIFY row_number() OVER (PARTITION BY token ORDER BY seq DESC) = 1
  ), told AS (
    SELECT source AS node, 'records' AS what, counts."read" AS n FROM mine
    UNION ALL SELECT source, 'bytes', bytes FROM mine
    UNION ALL SELECT 'contract', 'quarantined', list_sum(map_values(counts.quarantined)) FROM mine
    UNION ALL ${counted('quarantined')}
    UNION ALL ${counted('filtered')}
    UNION ALL SELECT s."key", s."value".status, s."value"."rows" FROM (SELECT unnest(map_entries(stores)) AS s FROM mine)
    UNION ALL SELECT loader, 'paid', "rows" FROM ledger WHERE type = 'store_paid' AND run = ${literal(run)}
  )
  SELECT node, what, sum(n)::BIGINT AS n FROM told WHERE n > 0 GROUP BY ALL ORDER BY ALL`
}

export function shownPlace({ dataset }: LineageNode): string {
  return dataset === undefined ? '' : redact(dataset.name)
}
