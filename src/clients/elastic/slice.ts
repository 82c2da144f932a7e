/** The hits of one slice of a point in time, page by page; the next page is fetched while one is taken. Their number must be what the server says. */
import { AdflowError } from '../../core/errors.ts'
import { type Hit, hitOf, type Metadata } from './hit.ts'
import type { Around, ElasticReader } from './reader.ts'

export interface SliceQuery {
  readonly origin: string
  readonly size: number
  /** JSON of the members of a search that stay the same. */
  body(): string
  readonly metadata: readonly Metadata[]
  readonly signal: AbortSignal
  /** One request, tried again where that may help. */
  once<T>(request: () => Promise<T>): Promise<T>
  /** Points in time may get another id with each answer. */
  renamed(pit: string): void
}

export class Slice {
  readonly #reader: ElasticReader
  readonly #query: SliceQuery
  #hits: readonly Hit[] = []
  #at = 0
  #received = 0
  #total: number | undefined
  #after: string | undefined
  #next: Promise<Hit[]> | undefined

  constructor(reader: ElasticReader, query: SliceQuery) {
    this.#reader = reader
    this.#query = query
  }

  /** The first hit that was not taken; undefined: none, or none before fill(). */
  get hit(): Hit | undefined {
    return this.#hits[this.#at]
  }

  /** There are more hits than are here. */
  get waits(): boolean {
    return this.#at >= this.#hits.length && this.#received !== this.#total
  }

  /** @throws AdflowError SOURCE_… */
  async fill(): Promise<void> {
    this.#hits = await (this.#next ?? this.#page())
    this.#next = undefined
    this.#at = 0
    this.#received += this.#hits.length
    this.#after = this.#hits.at(-1)?.sort.join(',')
    const total = this.#total ?? 0
    if (this.#hits.length === 0 ? this.#received !== total : this.#received > total) throw this.#miscounted(total)
    if (this.#received === total) return
    this.#next = this.#page()
    this.#next.catch(() => undefined) // asked for by the next fill()
  }

  take(): void {
    this.#at += 1
  }

  async #page(): Promise<Hit[]> {
    const { once, body, metadata, origin, renamed, signal, size } = this.#query
    const first = this.#total === undefined
    const after = this.#after === undefined ? '' : `,"search_after":[${this.#after}]`
    return once(async () => {
      const hits: Hit[] = []
      const around = await this.#reader.hits(
        {
          method: 'POST',
          path: ['_search'],
          query: { allow_partial_search_results: 'false' },
          body: `{"size":${size},"track_total_hits":${first},${body()}${after}}`,
          signal,
          doing: `read ${origin}`,
        },
        (bytes, from, to) => hits.push(hitOf(bytes, from, to, metadata)),
      )
      refusePartial(around, origin)
      if (around.pit !== undefined) renamed(JSON.parse(around.pit) as string)
      if (first) this.#total = totalOf(around, origin)
      return hits
    })
  }

  #miscounted(total: number): AdflowError {
    return new AdflowError(
      'SOURCE_DAMAGED',
      `${this.#query.origin} gave ${this.#received} documents of the ${total} that it has found`,
      { hint: 'look at the health of the cluster; nothing of this page was taken' },
    )
  }
}

/** @throws AdflowError SOURCE_UNREADABLE where not all shards have answered */
function refusePartial({ shards, timedOut, ended, clusters }: Around, origin: string): void {
  const told = (json: string | undefined) => (json === undefined ? {} : (JSON.parse(json) as Told))
  const { failed = 0, total, failures = [] } = told(shards)
  const elsewhere = told(clusters)
  const others = (elsewhere.skipped ?? 0) + (elsewhere.partial ?? 0) + (elsewhere.failed ?? 0)
  const found =
    failed > 0
      ? `${failed} of ${total} shards failed${failures[0]?.reason?.reason === undefined ? '' : `: ${failures[0].reason.type}, ${failures[0].reason.reason}`}`
      : timedOut === 'true'
        ? 'the search has timed out'
        : ended === 'true'
          ? 'the search was ended early'
          : others > 0
            ? `${others} clusters did not answer`
            : undefined
  if (found === undefined) return
  const gone = /search_context_missing/.test(found)
  throw new AdflowError(gone ? 'SOURCE_CHANGED' : 'SOURCE_UNREADABLE', `cannot read ${origin} whole: ${found}`, {
    hint: 'look at the health of the cluster; nothing of this page was taken',
  })
}

interface Told {
  readonly failed?: number
  readonly total?: number
  readonly skipped?: number
  readonly partial?: number
  readonly failures?: readonly { readonly reason?: { readonly type?: string; readonly reason?: string } }[]
}

function totalOf({ total }: Around, origin: string): number {
  const { value, relation } = (total === undefined ? {} : JSON.parse(total)) as { value?: number; relation?: string }
  if (value !== undefined && relation === 'eq') return value
  throw new AdflowError('SOURCE_UNSUPPORTED', `${origin} does not say how many documents it has found`, {
    hint: 'the server is older than 7.10, or something before it changes its answers',
  })
}
