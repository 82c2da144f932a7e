/** Fetches documents in the order of a field, from points in time. All that it knows from one run to the next is in its cursor. */
import type { Dataset } from '../../core/contracts.ts'
import { AdflowError } from '../../core/errors.ts'
import type { HostGate } from '../../core/source-watch.ts'
import { HostGates } from '../http/host-gate.ts'
import { persistently, type RetryOptions } from '../staging/attempts.ts'
import type { Fetcher, FetchLane, FetchTask } from '../staging/fetcher.ts'
import { KnownKeys } from '../staging/known-keys.ts'
import { OrderedPass } from '../staging/ordered-pass.ts'
import { countMissing, type FoundIndex, findIndexes, refuseDeleted } from './found-index.ts'
import type { Hit, Metadata } from './hit.ts'
import { PointInTime } from './point-in-time.ts'
import type { ElasticReader } from './reader.ts'
import { Slice } from './slice.ts'
import { viewIsGone } from './source-errors.ts'
import { compareValues, findField, mayLag, rangeJson, SEQUENCE, type SourceField, valueBefore } from './source-field.ts'

export interface IndexFetcherOptions {
  /** `host:port`. */
  readonly server: string
  readonly hosts?: HostGate | undefined
  readonly index: string
  /** A query in the DSL. */
  readonly query: object | undefined
  /** `_source` of a search. */
  readonly source: object | undefined
  readonly metadata: readonly Metadata[]
  /** undefined: everything, in no order. */
  readonly field: string | undefined
  readonly start: string | number | undefined
  /** Milliseconds; of integers a number of their own. */
  readonly lag: number
  readonly leaveOut: boolean
  readonly settleMs: number
  readonly missing: 'gap' | 'skip'
  readonly again: 'newer' | 'all'
  readonly lanes: 'one' | 'index'
  readonly slices: number
  readonly size: number
  readonly keepAliveMs: number
  readonly concurrency: number
  readonly perSecond: number | undefined
  readonly retry: RetryOptions
}

/** Pages of a segment: what a kill costs, at most. */
const PAGES = 8
const LEAST_PAGE_BYTES = 256
const OUTPUT_CHARACTERS = 1 << 18

export class IndexFetcher implements Fetcher {
  readonly #reader: ElasticReader
  readonly #options: IndexFetcherOptions
  readonly #gate: HostGate
  /** Orders what the field leaves open. It holds within one view; another one begins behind a whole group. */
  #tiebreak = '{"_shard_doc":"asc"}'

  constructor(reader: ElasticReader, options: IndexFetcherOptions) {
    this.#reader = reader
    this.#options = options
    this.#gate = options.hosts ?? new HostGates()
  }

  dataset(): Dataset {
    return { namespace: `elasticsearch://${this.#options.server}`, name: this.#options.index }
  }

  async lanes(signal: AbortSignal): Promise<readonly FetchLane[]> {
    const { index, lanes } = this.#options
    if (lanes === 'one') return [{ lane: index, origin: this.#originOf(index) }]
    const found = await this.#once(signal, () =>
      findIndexes(this.#reader, index, { origin: this.#originOf(index), signal }),
    )
    return (found ?? [{ name: index }]).map(({ name }) => ({ lane: name, origin: this.#originOf(name) }))
  }

  async fetch(task: FetchTask): Promise<void> {
    const { again, field: name, lag, lanes, retry } = this.#options
    const { origin, signal } = task
    const index = lanes === 'index' ? task.lane : this.#options.index
    const at = { origin, signal }
    const found = await this.#once(signal, () => findIndexes(this.#reader, index, at))
    const field =
      name === undefined ? undefined : await this.#once(signal, () => findField(this.#reader, index, name, at))
    if (field !== undefined) this.#refuse(field, found, origin)
    const overlap =
      field === undefined || lag === 0
        ? undefined
        : {
            compare: (a: string, b: string) => compareValues(field, a, b),
            from: (high: string) => valueBefore(field, high, lag),
          }
    const pass = new OrderedPass(task, { by: field === undefined ? [] : [field.name], again, overlap })
    let lost = 0
    for (;;) {
      try {
        await this.#view(task, pass, { index, field, progressed: () => (lost = 0) })
        break
      } catch (error) {
        signal.throwIfAborted()
        if (this.#fallsBack(error)) continue
        lost += 1
        if (!viewIsGone(error) || lost >= retry.attempts) throw error
        refuseDeleted(found, await this.#once(signal, () => findIndexes(this.#reader, index, at)), origin)
      }
    }
    if (field !== undefined && field.name !== SEQUENCE && this.#options.missing === 'gap')
      await this.#once(signal, () =>
        countMissing(this.#reader, index, { ...at, query: this.#options.query, field: field.name }),
      )
  }

  close(): Promise<void> {
    return this.#reader.close()
  }

  /** From where the pass stands to the end of what is there now. */
  async #view(
    task: FetchTask,
    pass: OrderedPass,
    {
      index,
      field,
      progressed,
    }: { readonly index: string; readonly field: SourceField | undefined; readonly progressed: () => void },
  ): Promise<void> {
    const { origin, segmentBytes, signal, sink } = task
    const { keepAliveMs, lag, leaveOut } = this.#options
    await pass.forget()
    const keepAlive = `${Math.ceil(keepAliveMs / 1000)}s`
    const pit = await this.#once(signal, () => PointInTime.open(this.#reader, index, { keepAlive, origin, signal }))
    const pageBytes = Math.max(LEAST_PAGE_BYTES, Math.floor(segmentBytes / PAGES))
    let lines = ''
    let value: string | undefined
    const write = async () => {
      if (lines !== '') await sink.write(Buffer.from(lines))
      lines = ''
    }
    try {
      const slices = this.#slices(pit, { task, pass, field, keepAlive })
      for (;;) {
        for (const slice of slices) if (slice.waits) await slice.fill()
        const hit = leastOf(slices, field)
        if (hit === undefined) break
        const { record, sort, key } = hit
        if (record === undefined) throw withoutSource(origin)
        if (field !== undefined && sort[0] !== value) {
          if (value !== undefined && sink.pageBytes + lines.length >= pageBytes) {
            await write()
            await pass.cut([value])
            progressed()
          }
          value = sort[0]
        }
        if (lag > 0 && leaveOut && pass.isKnown(KnownKeys.of(key), value ?? '')) continue
        lines += `${record}\n`
        if (lines.length >= OUTPUT_CHARACTERS) await write()
      }
      await write()
      await pass.end(value === undefined ? undefined : [value])
    } finally {
      await pit.close(signal)
    }
  }

  #slices(
    pit: PointInTime,
    {
      task: { origin, signal },
      pass,
      field,
      keepAlive,
    }: {
      readonly task: FetchTask
      readonly pass: OrderedPass
      readonly field: SourceField | undefined
      readonly keepAlive: string
    },
  ): Slice[] {
    const { metadata, size, slices, source } = this.#options
    const sort = [...(field === undefined ? [] : [JSON.stringify(field.sort)]), this.#tiebreak].join(',')
    const search = [
      `"query":${this.#query(field, pass)}`,
      `"sort":[${sort}]`,
      '"seq_no_primary_term":true',
      `"version":${metadata.includes('_version')}`,
      ...(source === undefined ? [] : [`"_source":${JSON.stringify(source)}`]),
    ].join(',')
    return Array.from(
      { length: slices },
      (_, id) =>
        new Slice(this.#reader, {
          ...{ origin, size, metadata, signal },
          body: () =>
            `"pit":${JSON.stringify({ id: pit.id, keep_alive: keepAlive })},${search}${slices === 1 ? '' : `,"slice":{"id":${id},"max":${slices}}`}`,
          once: (request) => this.#once(signal, request),
          renamed: (name) => {
            pit.id = name
          },
        }),
    )
  }

  /** JSON of what the pass has not had. */
  #query(field: SourceField | undefined, { after, since }: OrderedPass): string {
    const { lag, query, settleMs, start } = this.#options
    const filters = query === undefined ? [] : [JSON.stringify(query)]
    if (field !== undefined) {
      const { name } = field
      const [place] = after ?? []
      filters.push(JSON.stringify({ exists: { field: name } }))
      if (place !== undefined) filters.push(rangeJson(field, 'gt', place))
      else if (since !== undefined) filters.push(rangeJson(field, 'gte', valueBefore(field, since, lag)))
      else if (start !== undefined) filters.push(JSON.stringify({ range: { [name]: { gte: start } } }))
      if (settleMs > 0)
        filters.push(JSON.stringify({ range: { [name]: { lte: `now-${Math.ceil(settleMs / 1000)}s` } } }))
    }
    return filters.length === 0 ? '{"match_all":{}}' : `{"bool":{"filter":[${filters.join(',')}]}}`
  }

  #refuse(field: SourceField, found: readonly FoundIndex[] | undefined, origin: string): void {
    const { lag, settleMs } = this.#options
    const shards = (found ?? []).reduce((sum, { shards: own }) => sum + own, 0)
    if (field.name === SEQUENCE && shards !== 1)
      throw new AdflowError(
        'SOURCE_UNSUPPORTED',
        `${origin} has ${shards} shards, each with a ${SEQUENCE} of its own`,
        {
          hint: 'read it on by a field of its documents; `_seq_no` fits one index of one shard',
        },
      )
    const dates = field.kind === 'millis' || field.kind === 'nanos'
    if ((lag === 0 || mayLag(field)) && (settleMs === 0 || dates)) return
    throw new AdflowError(
      'SOURCE_UNSUPPORTED',
      `\`lag\` and \`settle\` have no meaning for ${field.name} of ${origin}`,
      {
        hint: '`lag` needs a date or an integer, `settle` a date',
      },
    )
  }

  /** OpenSearch before 3.3 has no order of its own in a point in time. */
  #fallsBack(error: unknown): boolean {
    if (!(error instanceof AdflowError) || !error.message.includes('_shard_doc')) return false
    if (this.#tiebreak.includes('"_id"')) return false
    this.#tiebreak = '{"_id":"asc"}'
    return true
  }

  #once<T>(signal: AbortSignal, request: () => Promise<T>): Promise<T> {
    return persistently(this.#options.retry, signal, () =>
      this.#gate.pass(this.#options.server, this.#options, signal, request),
    )
  }

  #originOf(index: string): string {
    return `${this.#options.server}/${index}`
  }
}

/** The least of what the slices have. */
function leastOf(slices: readonly Slice[], field: SourceField | undefined): Hit | undefined {
  let least: { readonly slice: Slice; readonly hit: Hit } | undefined
  for (const slice of slices) {
    const { hit } = slice
    if (hit === undefined) continue
    const isLess =
      field !== undefined && least !== undefined && compareValues(field, hit.sort[0] ?? '', least.hit.sort[0] ?? '') < 0
    if (least === undefined || isLess) least = { slice, hit }
  }
  least?.slice.take()
  return least?.hit
}

function withoutSource(origin: string): AdflowError {
  return new AdflowError('SOURCE_UNSUPPORTED', `documents of ${origin} have no _source`, {
    hint: 'the mapping has it disabled: their content is not there to be read',
  })
}
