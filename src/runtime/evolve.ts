/** `unknown: evolve`: fields that the contract does not name become columns, with the type of what they hold. */
import type { Chunk } from '../core/contracts.ts'
import type { Job } from '../core/job/job.ts'
import type { Registry } from '../core/registry.ts'
import { unknownFields } from '../engine/admit.ts'
import type { Session } from '../engine/session.ts'
import { literal } from '../engine/sql-text.ts'
import type { GroupSaver } from './group-saver.ts'
import { compilePipeline, type Pipeline } from './pipeline.ts'
import type { Store } from './store.ts'
import type { Workshop } from './workshop.ts'

interface EvolutionOptions {
  readonly job: Job
  readonly registry: Registry
  readonly workshop: Workshop
  readonly saver: Pick<GroupSaver, 'state' | 'update'>
  readonly state: { readonly chunks: string }
  warn(text: string): void
}

export class Evolution {
  pipeline: Pipeline
  readonly #options: EvolutionOptions

  constructor(options: EvolutionOptions) {
    this.#options = options
    this.pipeline = options.workshop.pipeline
  }

  get active(): boolean {
    return this.#options.job.unknown === 'evolve'
  }

  /** The new columns are in the checkpoint before a store sees them, so that a repeated batch has the same ones. */
  async takeUp(chunk: Chunk, session: Session, stores: readonly Store[]): Promise<void> {
    if (!this.active) return
    const { job, registry, saver, state, warn, workshop } = this.#options
    const fields = await unknownFields(chunk, {
      session,
      plan: this.pipeline.plan,
      folder: state.chunks,
      expectDamage: false,
    })
    if (fields.length === 0) return
    const types = await inferTypes(chunk, fields, session, this.pipeline.plan.maxRecordBytes)
    await saver.update((draft) => {
      draft.evolved = { ...draft.evolved, ...types }
    })
    warn(
      `new columns from ${chunk.origin}: ${Object.entries(types)
        .map(([name, type]) => `${name} ${type}`)
        .join(', ')}`,
    )
    this.pipeline = await compilePipeline({
      job,
      registry,
      session,
      evolved: saver.state.evolved ?? {},
      references: workshop.pipeline.references,
    })
    for (const store of stores)
      if (store.down === undefined)
        await store.open(session, this.pipeline.outputs.get(store.input)?.relation.columns ?? [])
  }
}

async function inferTypes(
  chunk: Chunk,
  fields: readonly string[],
  session: Session,
  maxRecordBytes: number,
): Promise<Record<string, string>> {
  if (chunk.format.type === 'csv') return Object.fromEntries(fields.map((field) => [field, 'VARCHAR']))
  if (chunk.format.type === 'parquet') {
    const columns = await session.describe(`SELECT * FROM read_parquet(${literal(chunk.file)})`)
    return Object.fromEntries(
      fields.map((field) => [field, columns.find(({ name }) => name === field)?.type ?? 'VARCHAR']),
    )
  }
  const rows = await session.rows(
    `SELECT k, list(DISTINCT t) AS types FROM (SELECT k, json_type(json -> k) AS t FROM (SELECT json, unnest(json_keys(json)) AS k FROM read_ndjson_objects(${literal(chunk.file)}, ignore_errors = true, maximum_object_size = ${maxRecordBytes})) WHERE k IN (${fields.map(literal).join(', ')})) GROUP BY k`,
  )
  return Object.fromEntries(rows.map((row) => [String(row['k']), engineType((row['types'] ?? []) as string[])]))
}

/** One type that holds everything seen; JSON where the kinds are mixed. */
function engineType(seen: readonly string[]): string {
  const types = new Set(seen.filter((type) => type !== 'NULL'))
  const only = (...allowed: string[]) => [...types].every((type) => allowed.includes(type))
  if (types.size === 0 || only('VARCHAR')) return 'VARCHAR'
  if (only('BOOLEAN')) return 'BOOLEAN'
  if (only('BIGINT', 'UBIGINT')) return 'BIGINT'
  return only('BIGINT', 'UBIGINT', 'DOUBLE') ? 'DOUBLE' : 'JSON'
}
