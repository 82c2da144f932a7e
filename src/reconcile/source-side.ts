/**
 * The sources as one side of a comparison: every batch is refined once, and of each row its bucket, id, content and batch are kept,
 * a few bytes in a table that spills. Rows themselves are refined again, only those batches in which some are suspect.
 */
import type { ComparedSide, CompareScope } from '../core/comparison.ts'
import { AdflowError } from '../core/errors.ts'
import { bucketsSql, embeddedSide, entriesSql, partsSql, taggedSql, tagsSql } from '../engine/compare-sql.ts'
import { ROW } from '../engine/relation.ts'
import type { Session } from '../engine/session.ts'
import { ident } from '../engine/sql-text.ts'
import type { RepeatedBatch, Rerun } from '../runtime/rerun.ts'
import type { KnownBatch } from './known-batches.ts'
import { repeatAll, type Unreadable } from './repeat.ts'

const ALL = 'reconcile_source_all'
const KEPT = 'reconcile_source'
const ROWS = 'reconcile_source_rows'

export interface SourceOptions {
  readonly batches: readonly KnownBatch[]
  /** Output that the store reads. */
  readonly input: string
  /** The store keeps the last row of each key. */
  readonly merged: boolean
  readonly signal: AbortSignal
}

export class SourceSide implements ComparedSide {
  readonly unreadable: Unreadable[] = []
  /** Rows that were refined. */
  rowsRead = 0
  readonly #rerun: Rerun
  readonly #options: SourceOptions
  readonly #byToken: ReadonlyMap<string, KnownBatch>

  constructor(rerun: Rerun, options: SourceOptions) {
    this.#rerun = rerun
    this.#options = options
    this.#byToken = new Map(options.batches.map((batch) => [batch.past.token, batch]))
  }

  get input(): string {
    return this.#options.input
  }

  get #session(): Session {
    return this.#rerun.session
  }

  /** Refines everything once. Before any question. */
  async read(scope: CompareScope): Promise<void> {
    const { batches, merged, signal } = this.#options
    const sums = sumColumns(scope)
    await this.#session.run(
      `CREATE OR REPLACE TEMP TABLE ${ALL} (bucket BIGINT, id UBIGINT, content UBIGINT, batch BIGINT${sums}, __nth BIGINT, __at BIGINT)`,
    )
    // Whether a row is in the range is decided by the last version of it.
    const { range, ...rest } = scope
    const asked = merged ? rest : scope
    const at = merged && range !== undefined ? `epoch_us(${ident(range.column)})` : 'NULL::BIGINT'
    for await (const item of repeatAll(
      this.#rerun,
      batches.map(({ past }) => past),
      signal,
    )) {
      if ('unreadable' in item) {
        this.unreadable.push(item.unreadable)
        continue
      }
      const { order } = this.#byToken.get(item.past.token) as KnownBatch
      const relation = `(SELECT *, ${merged ? 'row_number() OVER ()' : '0'} AS __nth, ${at} AS __at FROM ${this.relation(item)} AS output)`
      const tags = tagsSql({ relation, batch: `${order}::BIGINT` }, asked, ['__nth', '__at'])
      await this.#session.run(`INSERT INTO ${ALL} ${tags}`)
    }
    if (!merged)
      await this.#session.run(`CREATE OR REPLACE TEMP VIEW ${KEPT} AS SELECT * EXCLUDE (__nth, __at) FROM ${ALL}`)
    else await this.#keepLast(range)
    this.rowsRead = Number(await this.#session.value(`SELECT count(*) FROM ${KEPT}`))
  }

  async buckets(scope: CompareScope): Promise<string> {
    return bucketsSql(`SELECT * FROM ${KEPT}`, scope)
  }

  async parts(scope: CompareScope, within: string, parts: number): Promise<string> {
    return partsSql(`SELECT * FROM ${KEPT}`, scope, within, parts)
  }

  async entries(scope: CompareScope, within: string, parts: number): Promise<string> {
    return entriesSql(`SELECT * FROM ${KEPT}`, scope, within, parts)
  }

  /** Also all other rows of their keys, so that two keys with one id, should there ever be such, are told apart. */
  async rows(scope: CompareScope, ids: string): Promise<string> {
    const { batches, merged } = this.#options
    const found = await this.#session.rows(`SELECT DISTINCT batch FROM ${ALL} WHERE id IN (SELECT id FROM ${ids})`)
    const orders = new Set(found.map((row) => Number(row['batch'])))
    const wanted = batches.filter(({ order }) => orders.has(order))
    const items = scope.columns.map(({ name, type }) => `NULL::${type} AS ${ident(name)}`)
    await this.#session.run(
      `CREATE OR REPLACE TEMP TABLE ${ROWS} AS SELECT ${items.join(', ')}, 0::BIGINT AS __nth, 0::BIGINT AS __order, 0::BIGINT AS __batch WHERE false`,
    )
    const { range: _, without: __, buckets: ____, ...own } = scope
    const columns = scope.columns.map(({ name }) => ident(name)).join(', ')
    await this.again(wanted, async (item, { order, number }) => {
      const numbered = `(SELECT *, row_number() OVER () AS __nth FROM ${this.relation(item)} AS output)`
      const tagged = taggedSql({ relation: numbered, batch: '0' }, own, ['__nth'])
      await this.#session.run(
        `INSERT INTO ${ROWS} SELECT ${columns}, __nth, ${order} AS __order, (${number})::BIGINT AS __batch FROM (${tagged}) WHERE __id IN (SELECT id FROM ${ids})`,
      )
    })
    const keys = scope.key.map(ident).join(', ')
    const last = `QUALIFY row_number() OVER (PARTITION BY ${keys} ORDER BY __order DESC, __nth DESC) = 1`
    const relation = `(SELECT * FROM ${ROWS}${merged ? ` ${last}` : ''})`
    const { without: ___, ...asked } = scope
    return embeddedSide({ relation, batch: '__batch' }).rows(asked, ids)
  }

  /** Some batches once more. Where steps remember, everything before them is refined too, from an empty memory.
   *  @throws AdflowError SOURCE_CHANGED where one cannot be read any more */
  async again(
    wanted: readonly KnownBatch[],
    visit: (item: RepeatedBatch, known: KnownBatch) => Promise<void>,
  ): Promise<void> {
    const { batches, signal } = this.#options
    const tokens = new Set(wanted.map(({ past }) => past.token))
    const last = batches.findLastIndex(({ past }) => tokens.has(past.token))
    const { stateful } = this.#rerun.pipeline
    if (stateful) await this.#forget()
    const needed = stateful ? batches.slice(0, last + 1) : wanted
    for await (const item of repeatAll(
      this.#rerun,
      needed.map(({ past }) => past),
      signal,
    )) {
      if ('unreadable' in item)
        throw new AdflowError('SOURCE_CHANGED', item.unreadable.message, {
          hint: 'a source has changed while it was compared: reconcile again',
        })
      if (tokens.has(item.past.token)) await visit(item, this.#byToken.get(item.past.token) as KnownBatch)
    }
  }

  /** SQL of the rows that the store reads, in their order. Where they stand for records, they are in a table already. */
  relation({ refined, rows }: RepeatedBatch): string {
    const { input } = this.#options
    const { outputs, reorders } = this.#rerun.pipeline
    if (outputs.get(input)?.kind === 'row')
      return `(SELECT * EXCLUDE (${ROW}) FROM (${rows})${reorders ? ` ORDER BY ${ROW}` : ''})`
    const output = refined.outputs.get(input)
    if (output === undefined) throw new AdflowError('UNEXPECTED', `there is no output ${input}`)
    return output.relation
  }

  async #forget(): Promise<void> {
    const tables = await this.#session.rows(`SELECT table_name AS t FROM duckdb_tables() WHERE database_name = 'state'`)
    for (const { t } of tables) await this.#session.run(`DELETE FROM state.main.${ident(String(t))}`)
  }

  async #keepLast(range: CompareScope['range']): Promise<void> {
    const conditions = [
      ...(range?.from === undefined ? [] : [`__at >= ${range.from}`]),
      ...(range?.to === undefined ? [] : [`__at < ${range.to}`]),
    ]
    const where = conditions.length === 0 ? '' : ` WHERE ${conditions.join(' AND ')}`
    const last = `SELECT id, max(batch) AS batch, max_by(__nth, (batch, __nth)) AS __nth FROM ${ALL} GROUP BY id`
    await this.#session.run(
      `CREATE OR REPLACE TEMP TABLE ${KEPT} AS SELECT * EXCLUDE (__nth, __at) FROM (SELECT a.* FROM ${ALL} a JOIN (${last}) l ON a.id = l.id AND a.batch = l.batch AND a.__nth = l.__nth)${where}`,
    )
  }
}

function sumColumns({ sums, columns }: CompareScope): string {
  const types = new Map(columns.map(({ name, type }) => [name, type]))
  return sums.map((name, index) => `, sum_${index} ${types.get(name)}`).join('')
}
