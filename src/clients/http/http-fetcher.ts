/** Fetches a source over HTTP, page by page. All that it knows from one run to the next is in its cursor. */
import { hash } from 'node:crypto'
import type { Dataset } from '../../core/contracts.ts'
import { AdflowError } from '../../core/errors.ts'
import { FoundRecords } from '../../records/found-records.ts'
import type { JsonPath } from '../../records/json-page.ts'
import type { Fetcher, FetchLane, FetchTask } from '../staging/fetcher.ts'
import { KnownKeys } from '../staging/known-keys.ts'
import { compareSince, type SinceKind, sinceText } from '../staging/since.ts'
import { type PageOptions, readPage } from './page-reader.ts'
import { PageTaker } from './page-taker.ts'
import type { PageAt, Paging } from './paging.ts'
import { type PassState, parsePassState } from './pass-state.ts'
import { placeOf, type SourceAnswer, type SourceClient, type SourceRequest } from './source-client.ts'

export interface HttpFetcherOptions {
  /** lane → URL, which may have placeholders. */
  readonly urls: Readonly<Record<string, string>>
  readonly method: 'GET' | 'POST'
  readonly headers: Readonly<Record<string, string>>
  readonly query: Readonly<Record<string, string>>
  readonly body: string | undefined
  readonly page: Omit<PageOptions, 'values' | 'maxRecordBytes'>
  readonly paging: Paging
  /** One answer is everything. */
  readonly single: boolean
  /** By page number: an answer like the one before it means that there are no more. */
  readonly numbered: boolean
  readonly key: readonly JsonPath[]
  readonly incremental:
    | {
        readonly path: JsonPath
        readonly kind: SinceKind
        readonly lagMs: number
        readonly start: string | undefined
        readonly param: string | undefined
      }
    | undefined
  readonly again: 'added' | 'all'
  readonly maxPages: number
  /** Records are asked for twice on purpose: their keys must be known. */
  readonly overlaps: boolean
}

interface Outcome {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly url: string
  readonly values: Readonly<Record<string, string>>
  readonly taker: PageTaker
}

/** A page, the one behind it that is asked for again, and the one between. */
const PAGES_KNOWN = 3

const PLACEHOLDER = /\{(since|until|cursor|offset|page|limit)\}/g

export class HttpFetcher implements Fetcher {
  readonly #client: SourceClient
  readonly #options: HttpFetcherOptions
  /** Memory of passes that have ended. */
  readonly #idle: FoundRecords[] = []

  constructor(client: SourceClient, options: HttpFetcherOptions) {
    this.#client = client
    this.#options = options
  }

  dataset(): Dataset {
    const places = Object.values(this.#options.urls).map((url) => new URL(placeOf(plain(url))))
    const names = places.map(({ pathname }) => pathname)
    return { namespace: places[0]?.origin ?? 'http', name: names.join(',') }
  }

  async lanes(): Promise<readonly FetchLane[]> {
    return Object.entries(this.#options.urls).map(([lane, url]) => ({ lane, origin: placeOf(plain(url)) }))
  }

  async fetch(task: FetchTask): Promise<void> {
    const found = this.#idle.pop() ?? new FoundRecords()
    try {
      await new Pass(task, this.#client, this.#options, found).run()
    } finally {
      this.#idle.push(found)
    }
  }

  async close(): Promise<void> {
    await this.#client.close()
  }
}

/** Without what is filled in. */
function plain(url: string): string {
  return url.replace(PLACEHOLDER, '')
}

class Pass {
  readonly #task: FetchTask
  readonly #client: SourceClient
  readonly #options: HttpFetcherOptions
  readonly #before: PassState
  readonly #asked = new Set<string>()
  #pass: NonNullable<PassState['pass']>
  readonly #known: KnownKeys
  readonly #found: FoundRecords
  /** Keys of the pages before that may be asked for again. */
  #recent: ReadonlySet<string>[] = []
  #validators: PassState['validators']
  #last: PassState['last']
  #lastDigest: string | undefined
  /** The page before is written and ended while the next is asked for. */
  #ending: Promise<void> = Promise.resolve()

  constructor(task: FetchTask, client: SourceClient, options: HttpFetcherOptions, found: FoundRecords) {
    this.#found = found
    this.#task = task
    this.#client = client
    this.#options = options
    this.#before = parsePassState(task.cursor, task.origin)
    this.#pass = this.#before.pass ?? this.#beginning()
    this.#known = new KnownKeys(this.#before.known, this.#before.pass?.known)
    this.#validators = this.#before.validators
    this.#last = this.#before.last
  }

  async run(): Promise<void> {
    try {
      await this.#pages()
    } finally {
      await this.#ending // also where the next page cannot be had
    }
  }

  async #pages(): Promise<void> {
    const { paging, single, numbered, maxPages } = this.#options
    const { sink, origin } = this.#task
    for (;;) {
      const { at } = this.#pass
      this.#refuseEndless(at, maxPages)
      const { taker, ...seen } = await this.#page(at)
      if (seen.status === 304) return
      const { records, fresh, digest } = taker
      if (single && this.#before.answer === digest && this.#options.incremental === undefined) {
        await this.#ending
        await sink.drop()
        return await sink.page(this.#ended(digest))
      }
      if (numbered && at.behind === undefined) {
        if (records > 0 && digest === this.#lastDigest) throw endless(origin, 'two pages in a row are the same')
        this.#lastDigest = digest
      }
      taker.remember()
      if (this.#addsToLast && (!numbered || (records > 0 && at.behind === undefined)))
        this.#last = { at, records, digest }
      const next = paging.next(at, { ...seen, records, fresh })
      this.#pass = {
        ...this.#pass,
        pages: this.#pass.pages + 1,
        ...(taker.high === undefined ? {} : { high: taker.high }),
      }
      this.#recent = [taker.keys, ...this.#recent].slice(0, PAGES_KNOWN)
      this.#known.prune(new Set(this.#recent.flatMap((keys) => [...keys])), (value) => this.#isLate(value))
      if (next === undefined) return await this.#end(this.#ended(digest))
      this.#pass = { ...this.#pass, at: this.#withoutSecrets(next) }
      const ending = this.#end(this.#goingOn())
      // It may take as long as whoever reads is behind: no answer should wait for that.
      if (sink.isFullBy(taker.bytes)) await ending
    }
  }

  #end(cursor: string): Promise<void> {
    return this.#meanwhile(this.#ending.then(() => this.#task.sink.page(cursor)))
  }

  #meanwhile(ending: Promise<void>): Promise<void> {
    ending.catch(() => undefined) // awaited before the next page is taken, and at the end
    this.#ending = ending
    return ending
  }

  /** A list to whose end records are added: the next pass begins in its last page, which must be known again. */
  get #addsToLast(): boolean {
    return this.#options.again === 'added' && this.#options.incremental === undefined
  }

  #beginning(): NonNullable<PassState['pass']> {
    const { incremental, paging } = this.#options
    const { last, high } = this.#before
    const until = new Date().toISOString()
    if (incremental === undefined)
      return { at: this.#addsToLast && last !== undefined ? last.at : paging.first, pages: 0, until }
    const since = high === undefined ? incremental.start : sinceText(high, incremental.kind, incremental.lagMs)
    return {
      at: paging.first,
      pages: 0,
      until,
      ...(since === undefined ? {} : { since }),
      ...(high === undefined ? {} : { high }),
    }
  }

  async #page(at: PageAt): Promise<Outcome> {
    const { sink, signal } = this.#task
    const request = this.#request(at)
    const asked = hash('sha256', JSON.stringify([request.url, request.body])).slice(0, 16)
    // The first of several pages may be what it was while the last is not.
    const first = this.#options.single && this.#pass.pages === 0
    const known = first && this.#validators?.request === asked ? this.#validators : undefined
    const conditions = {
      ...(known?.etag === undefined ? {} : { 'if-none-match': known.etag }),
      ...(known?.modified === undefined ? {} : { 'if-modified-since': known.modified }),
    }
    const outcome = await this.#client.ask(
      { ...request, headers: { ...request.headers, ...conditions } },
      signal,
      async (answer) => {
        await answer.pause(() => this.#ending)
        await sink.drop()
        return this.#taken(answer)
      },
    )
    if (first && outcome.status !== 304) {
      const { etag, 'last-modified': modified } = outcome.headers
      this.#validators =
        etag === undefined && modified === undefined
          ? undefined
          : { request: asked, ...(etag === undefined ? {} : { etag }), ...(modified === undefined ? {} : { modified }) }
    }
    return outcome
  }

  async #taken(answer: SourceAnswer): Promise<Outcome> {
    const { key, incremental, page, paging, single, numbered } = this.#options
    const { sink, origin, maxRecordBytes } = this.#task
    const { last, pass } = this.#before
    const resumed = this.#addsToLast && pass === undefined && this.#pass.pages === 0
    const taker = new PageTaker(sink, this.#known, this.#pass.high, {
      key,
      field: incremental,
      origin,
      expected: resumed && last !== undefined && last.records > 0 ? last : undefined,
      pause: answer.pause,
      buffers: this.#found.buffers,
      maxRecordBytes,
      digests: single || numbered || this.#addsToLast,
    })
    const { status, headers, url } = answer
    if (status === 304) return { status, headers, url, values: {}, taker }
    try {
      const values = await readPage(answer, { ...page, values: paging.values, maxRecordBytes }, taker, this.#found)
      taker.end()
      this.#meanwhile(taker.settled())
      return { status, headers, url, values, taker }
    } catch (error) {
      await taker.settled().catch(() => undefined) // whoever drops the page must not meet a write of it
      taker.discard()
      throw error
    }
  }

  #request(at: PageAt): SourceRequest {
    const { urls, method, headers, query, body, paging, incremental } = this.#options
    const params = paging.params(at)
    const values: Record<string, string | undefined> = {
      since: this.#pass.since,
      until: this.#pass.until,
      cursor: at.cursor,
      offset: at.offset === undefined ? undefined : Object.values(params)[0],
      page: at.page === undefined ? undefined : String(at.page),
      limit: Object.values(params)[1],
    }
    const used = new Set<string>()
    const fill = (text: string, encode: (value: string) => string) =>
      text.replace(PLACEHOLDER, (_, name: string) => {
        used.add(name)
        return encode(values[name] ?? '')
      })
    const home = urls[this.#task.lane] ?? ''
    const filledBody = body === undefined ? undefined : fill(body, (value) => JSON.stringify(value).slice(1, -1))
    if (at.url !== undefined)
      return {
        method,
        url: this.#same(home, at.url),
        headers,
        ...(filledBody === undefined ? {} : { body: filledBody }),
      }
    const url = new URL(fill(home, encodeURIComponent))
    for (const [name, template] of Object.entries(query)) {
      const names = [...template.matchAll(PLACEHOLDER)].map(([, own = '']) => own)
      const value = fill(template, (text) => text)
      if (names.every((own) => values[own] !== undefined)) url.searchParams.set(name, value)
    }
    const placed = { cursor: used.has('cursor'), offset: used.has('offset'), page: used.has('page') }
    if (!placed.cursor && !placed.offset && !placed.page)
      for (const [name, value] of Object.entries(params)) url.searchParams.set(name, value)
    if (incremental?.param !== undefined && values['since'] !== undefined && !used.has('since'))
      url.searchParams.set(incremental.param, values['since'])
    return { method, url: url.href, headers, ...(filledBody === undefined ? {} : { body: filledBody }) }
  }

  /** Credentials go to the host of `url` only, so the next page must be there. */
  #same(home: string, next: string): string {
    const { origin } = new URL(plain(home))
    if (new URL(next).origin === origin) return next
    throw new AdflowError('SOURCE_UNSUPPORTED', `the next page of ${origin} is at ${new URL(next).origin}`, {
      hint: 'set `url` to that host, if it is to be trusted with the credentials',
    })
  }

  #refuseEndless(at: PageAt, maxPages: number): void {
    const { origin } = this.#task
    const page = JSON.stringify(at)
    if (this.#asked.has(page)) throw endless(origin, 'it leads to a page that was read already')
    this.#asked.add(page)
    if (this.#pass.pages >= maxPages) throw endless(origin, `there are more than ${maxPages} pages`)
  }

  /** It may come again in the next pass. */
  #isLate(value: string): boolean {
    const { incremental } = this.#options
    const { high } = this.#pass
    if (incremental === undefined || high === undefined) return false
    return compareSince(value, sinceText(high, incremental.kind, incremental.lagMs), incremental.kind) >= 0
  }

  #goingOn(): string {
    const { high, answer } = this.#before
    const { earlier, thisPass } = this.#known.listed(this.#task.origin, this.#options.overlaps)
    return encoded({
      v: 1,
      pass: { ...this.#pass, ...(thisPass.length === 0 ? {} : { known: thisPass }) },
      high,
      validators: this.#validators,
      answer,
      last: this.#last,
      known: earlier,
    })
  }

  #ended(digest: string): string {
    const { incremental, single } = this.#options
    this.#known.end((value) => this.#isLate(value))
    const { thisPass } = this.#known.listed(this.#task.origin, this.#options.overlaps)
    return encoded({
      v: 1,
      high: incremental === undefined ? undefined : (this.#pass.high ?? this.#before.high),
      validators: this.#validators,
      answer: single ? digest : undefined,
      last: this.#addsToLast ? this.#last : undefined,
      known: thisPass,
    })
  }

  #withoutSecrets(at: PageAt): PageAt {
    if (at.url === undefined) return at
    const url = new URL(at.url)
    for (const name of this.#client.secretParams) url.searchParams.delete(name)
    return { ...at, url: url.href }
  }
}

type Optional<T> = { [K in keyof T]: T[K] | undefined }

/** JSON leaves out what is undefined. */
function encoded({ known, ...state }: Optional<PassState>): string {
  return JSON.stringify({ ...state, ...(known === undefined || known.length === 0 ? {} : { known }) })
}

function endless(origin: string, found: string): AdflowError {
  return new AdflowError('SOURCE_UNSUPPORTED', `the pages of ${origin} have no end: ${found}`, {
    hint: 'check `paginate`, or raise `max_pages`; what was read is kept, and is not asked for again',
  })
}
