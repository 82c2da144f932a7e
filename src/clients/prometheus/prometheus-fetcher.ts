/**
 * Fetches metrics. Points lie on the grid of the step, counted from 1970, so that whoever asks again asks for the same points.
 * All that is known from one run to the next is the time of the last point that was asked for.
 */
import { z } from 'zod'
import type { Dataset } from '../../core/contracts.ts'
import { AdflowError } from '../../core/errors.ts'
import { placeOf } from '../http/source-client.ts'
import type { Fetcher, FetchLane, FetchTask } from '../staging/fetcher.ts'
import { type Answer, type PrometheusApi, TooMuch } from './api.ts'
import { exposed } from './exposition.ts'
import { exposedLines, seriesLines } from './sample-lines.ts'

export interface PrometheusFetcherOptions {
  /** Name → URL. */
  readonly servers: Readonly<Record<string, string>>
  readonly mode: 'range' | 'instant' | 'scrape'
  /** Name → PromQL. */
  readonly queries: Readonly<Record<string, string>>
  readonly stepMs: number
  /** So much before now is not asked for yet. */
  readonly lagMs: number
  /** Where the first run begins: a time, or so long before it. */
  readonly start: { readonly atMs: number } | { readonly agoMs: number }
  readonly maxPoints: number
  readonly partial: 'gap' | 'keep'
  warn(place: string, text: string): void
}

interface Asked {
  readonly server: string
  readonly url: string
  /** undefined: it is scraped. */
  readonly query: string | undefined
}

/** How much of the first answer is asked for; then it is seen how large they are. */
const FIRST_POINTS = 60
/** An answer should become this part of a segment. */
const PAGES = 4

const cursorShape = z.object({ v: z.literal(1), at: z.int() })

export class PrometheusFetcher implements Fetcher {
  readonly #api: PrometheusApi
  readonly #options: PrometheusFetcherOptions
  readonly #lanes: ReadonlyMap<string, Asked>

  constructor(api: PrometheusApi, options: PrometheusFetcherOptions) {
    this.#api = api
    this.#options = options
    const queries = options.mode === 'scrape' ? [undefined] : Object.keys(options.queries)
    this.#lanes = new Map(
      Object.entries(options.servers).flatMap(([server, url]) =>
        queries.map((query) => [query === undefined ? server : `${server}/${query}`, { server, url, query }] as const),
      ),
    )
  }

  dataset(): Dataset {
    const { servers, queries, mode } = this.#options
    const [first = 'http://prometheus'] = Object.values(servers)
    const names = mode === 'scrape' ? Object.values(servers).map((url) => new URL(url).pathname) : Object.keys(queries)
    return { namespace: `prometheus://${new URL(first).host}`, name: names.join(',') }
  }

  async lanes(): Promise<readonly FetchLane[]> {
    return [...this.#lanes].map(([lane, { url, query }]) => ({
      lane,
      origin: query === undefined ? placeOf(url) : `${placeOf(url)} (${query})`,
    }))
  }

  async fetch(task: FetchTask): Promise<void> {
    const asked = this.#lanes.get(task.lane)
    if (asked === undefined) return
    const before = cursorOf(task)
    if (this.#options.mode === 'range') await this.#range(task, asked, before)
    else await this.#once(task, asked, before)
  }

  async close(): Promise<void> {
    await this.#api.close()
  }

  async #range(task: FetchTask, asked: Asked, before: number | undefined): Promise<void> {
    const { stepMs, lagMs, start, maxPoints } = this.#options
    const last = floor(Date.now() - lagMs, stepMs)
    const first = 'atMs' in start ? start.atMs : Date.now() - start.agoMs
    let from = before === undefined ? ceil(first, stepMs) : floor(before, stepMs) + stepMs
    let points = Math.min(FIRST_POINTS, maxPoints)
    while (from <= last) {
      const to = Math.min(last, from + (points - 1) * stepMs)
      const taken = (to - from) / stepMs + 1
      const answer = await this.#answer(task, asked, { fromMs: from, toMs: to, stepMs })
      if (answer === undefined) {
        points = Math.max(1, Math.floor(taken / 2))
        continue
      }
      for (const piece of seriesLines(answer.series, originOf(asked))) await task.sink.write(piece)
      const bytes = Math.max(1, task.sink.pageBytes)
      await task.sink.page(JSON.stringify({ v: 1, at: to }))
      from = to + stepMs
      const fitting = Math.floor((taken * task.segmentBytes) / PAGES / bytes)
      points = Math.max(1, Math.min(maxPoints, fitting, points * 4))
    }
  }

  /** undefined: it is too much at once. */
  async #answer(
    { signal, origin }: FetchTask,
    { url, query = '' }: Asked,
    range: { readonly fromMs: number; readonly toMs: number; readonly stepMs: number },
  ): Promise<Answer | undefined> {
    try {
      const answer = await this.#api.range(url, this.#options.queries[query] ?? '', range, signal)
      this.#notice(origin, answer)
      return answer
    } catch (error) {
      if (error instanceof TooMuch && range.toMs > range.fromMs) return undefined
      throw error
    }
  }

  /** The newest point alone. */
  async #once(task: FetchTask, asked: Asked, before: number | undefined): Promise<void> {
    const { mode, stepMs, lagMs, queries } = this.#options
    const { url, query } = asked
    const now = Date.now()
    const point = floor(mode === 'scrape' ? now : now - lagMs, stepMs)
    if (before !== undefined && point <= floor(before, stepMs)) return
    if (query === undefined) {
      const { text, contentType } = await this.#api.scrape(url, task.signal)
      const samples = exposed(text, contentType, placeOf(url))
      try {
        for (const piece of exposedLines(samples, originOf(asked), now)) await task.sink.write(piece)
      } catch (error) {
        await task.sink.drop()
        throw error
      }
    } else {
      const answer = await this.#api.query(url, queries[query] ?? '', point, task.signal)
      this.#notice(task.origin, answer)
      for (const piece of seriesLines(answer.series, originOf(asked))) await task.sink.write(piece)
    }
    await task.sink.page(JSON.stringify({ v: 1, at: query === undefined ? now : point }))
  }

  /** @throws AdflowError SOURCE_UNREADABLE where a part is missing and may not be */
  #notice(origin: string, { warnings, remarks }: Answer): void {
    for (const remark of remarks) this.#options.warn(origin, remark)
    if (warnings.length === 0) return
    const found = `${origin} answers with ${warnings.length === 1 ? 'a warning' : `${warnings.length} warnings`}: ${warnings.join('; ')}`
    if (this.#options.partial === 'keep') this.#options.warn(origin, found)
    else
      throw new AdflowError('SOURCE_UNREADABLE', found, {
        hint: 'a part of the answer may be missing, so nothing of it was taken; `partial: keep` takes what there is',
      })
  }
}

function originOf({ server, query }: Asked): { server: string; query?: string } {
  return { server, ...(query === undefined ? {} : { query }) }
}

/** @throws AdflowError SOURCE_CHANGED where the cursor is of another kind of source */
function cursorOf({ cursor, origin }: FetchTask): number | undefined {
  if (cursor === undefined) return undefined
  try {
    return cursorShape.parse(JSON.parse(cursor)).at
  } catch (error) {
    throw new AdflowError('SOURCE_CHANGED', `the checkpoint has a cursor for ${origin} that this version cannot read`, {
      cause: error,
      hint: 'the lane was read by another version, or its source had another type; `adflow state rewind --reload` reads it anew',
    })
  }
}

function floor(ms: number, stepMs: number): number {
  return Math.floor(ms / stepMs) * stepMs
}

function ceil(ms: number, stepMs: number): number {
  return Math.ceil(ms / stepMs) * stepMs
}
