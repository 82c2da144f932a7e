/** The HTTP API of Prometheus, and of what speaks it too (Thanos, Mimir, VictoriaMetrics): one question, one whole answer. */
import { AdflowError } from '../../core/errors.ts'
import type { ByteSource } from '../../records/window.ts'
import { placeOf, type SourceAnswer, type SourceClient, TryAgain } from '../http/source-client.ts'

/** `[seconds, text]`, of one point of one series. */
export type Point = readonly [seconds: number, value: string]
/** A native histogram: counts and bounds as texts. */
export type HistogramPoint = readonly [seconds: number, histogram: unknown]

export interface Series {
  readonly metric: Readonly<Record<string, string>>
  readonly value?: Point
  readonly values?: readonly Point[]
  readonly histogram?: HistogramPoint
  readonly histograms?: readonly HistogramPoint[]
}

export interface Answer {
  readonly series: readonly Series[]
  /** That a part is missing: a store behind it does not answer, a limit cut it off. */
  readonly warnings: readonly string[]
  /** About the query itself. */
  readonly remarks: readonly string[]
}

export interface ScrapeAnswer {
  readonly text: string
  readonly contentType: string
}

/** More than the server, or `max_page`, allows for one answer: fewer points may go well. */
export class TooMuch extends AdflowError {}

/** What PromQL says of a query rather than of its data; Prometheus 3 sends it along with warnings. */
const REMARK = /^PromQL (?:info|warning)/
const TOO_MUCH =
  /too many (?:samples|points)|exceeded maximum resolution|too many bytes|max-samples|limit exceeded|exceeds the limit/i
const FIRST_BYTES = 1 << 16

export class PrometheusApi {
  readonly #client: SourceClient
  readonly #params: Readonly<Record<string, string>>
  readonly #headers: Readonly<Record<string, string>>
  readonly #timeoutMs: number

  constructor(
    client: SourceClient,
    options: {
      readonly params: Readonly<Record<string, string>>
      readonly headers: Readonly<Record<string, string>>
      readonly timeoutMs: number
    },
  ) {
    this.#client = client
    this.#params = options.params
    this.#headers = options.headers
    this.#timeoutMs = options.timeoutMs
  }

  /** @throws TooMuch; AdflowError SOURCE_… */
  query(server: string, query: string, atMs: number, signal: AbortSignal): Promise<Answer> {
    return this.#ask(server, 'query', { query, time: seconds(atMs) }, signal)
  }

  /** Both ends count. @throws TooMuch; AdflowError SOURCE_… */
  range(
    server: string,
    query: string,
    range: { readonly fromMs: number; readonly toMs: number; readonly stepMs: number },
    signal: AbortSignal,
  ): Promise<Answer> {
    const { fromMs, toMs, stepMs } = range
    const asked = { query, start: seconds(fromMs), end: seconds(toMs), step: seconds(stepMs) }
    return this.#ask(server, 'query_range', asked, signal)
  }

  /** What its clock says, in milliseconds since 1970. */
  async clock(server: string, signal: AbortSignal): Promise<number> {
    const { series } = await this.#ask(server, 'query', { query: 'time()' }, signal)
    return Number(series[0]?.value?.[1]) * 1000
  }

  /** `data` of an endpoint that only tells, such as `status/buildinfo`. */
  tell<T>(server: string, endpoint: string, signal: AbortSignal): Promise<T> {
    const request = { method: 'GET', url: endpointOf(server, endpoint), headers: this.#headers } as const
    return this.#client.ask(request, signal, async (answer) => (await parsed(answer)).data as T)
  }

  /** What an exporter shows. */
  scrape(url: string, signal: AbortSignal): Promise<ScrapeAnswer> {
    const headers = { accept: 'text/plain;version=0.0.4', ...this.#headers }
    return this.#client.ask({ method: 'GET', url, headers }, signal, async ({ body, headers }) => ({
      text: (await wholeOf(body)).toString('utf8'),
      contentType: headers['content-type'] ?? '',
    }))
  }

  async close(): Promise<void> {
    await this.#client.close()
  }

  async #ask(
    server: string,
    endpoint: 'query' | 'query_range',
    asked: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): Promise<Answer> {
    const url = endpointOf(server, endpoint)
    // By POST, so that a query may be longer than a URL.
    const request = {
      method: 'POST',
      url,
      headers: { 'content-type': 'application/x-www-form-urlencoded', ...this.#headers },
      body: new URLSearchParams({ timeout: seconds(this.#timeoutMs), ...this.#params, ...asked }).toString(),
      explain: (status: number, said: string) => explained(placeOf(url), status, said),
    } as const
    try {
      return await this.#client.ask(request, signal, async (answer) => {
        const { data, warnings = [], infos = [] } = await parsed(answer)
        return {
          series: seriesOf(data, placeOf(url)),
          warnings: warnings.filter((text) => !REMARK.test(text)),
          remarks: [...warnings.filter((text) => REMARK.test(text)), ...infos],
        }
      })
    } catch (error) {
      if (error instanceof AdflowError && error.code === 'SOURCE_BOMB')
        throw new TooMuch(error.code, error.message, {
          cause: error,
          ...(error.hint === undefined ? {} : { hint: error.hint }),
        })
      throw error
    }
  }
}

interface Envelope {
  readonly status: string
  readonly data?: unknown
  readonly errorType?: string
  readonly error?: string
  readonly warnings?: readonly string[]
  readonly infos?: readonly string[]
}

async function parsed({ body, url }: SourceAnswer): Promise<Envelope> {
  const bytes = await wholeOf(body)
  const answer = enveloped(bytes.toString('utf8'))
  if (answer?.status === 'success' && answer.data !== undefined) return answer
  const place = placeOf(url)
  if (answer?.status === 'error') throw explained(place, 200, bytes.toString('utf8')) ?? notPrometheus(place, bytes)
  throw notPrometheus(place, bytes)
}

function enveloped(text: string): Envelope | undefined {
  try {
    const answer: unknown = JSON.parse(text)
    return typeof answer === 'object' && answer !== null && 'status' in answer ? (answer as Envelope) : undefined
  } catch {
    return undefined
  }
}

function notPrometheus(place: string, bytes: Buffer): AdflowError {
  const html = /^\s*</.test(bytes.toString('latin1', 0, 100))
  return new AdflowError('SOURCE_DAMAGED', `${place} sends ${html ? 'HTML' : 'no answer of the Prometheus API'}`, {
    hint: 'most likely it asks to log in, a proxy answers in its place, or a path is missing: check `url` and `auth`',
  })
}

/** What Prometheus says in the body of an error. undefined: it is none of Prometheus. */
function explained(place: string, status: number, said: string): Error | undefined {
  const { errorType = '', error = '' } = enveloped(said) ?? {}
  if (error === '') return undefined
  const found = `${place} answers ${status}: ${error}`
  if (errorType === 'bad_data' && !TOO_MUCH.test(error))
    return new AdflowError('SOURCE_UNREADABLE', found, { hint: 'correct the query in `queries`' })
  const tooMuch = errorType === 'timeout' || TOO_MUCH.test(error)
  if (tooMuch)
    return new TooMuch('SOURCE_UNREADABLE', found, {
      hint: 'ask for less: a narrower query, a longer `step`; or raise `timeout`, or the limits of the server',
    })
  if (errorType === 'execution')
    return new AdflowError('SOURCE_UNREADABLE', found, { hint: 'the query fails on what the server has: correct it' })
  if (status < 500) return undefined
  return new TryAgain(
    new AdflowError('SOURCE_UNREADABLE', found, { hint: 'the next run goes on where this one stopped' }),
  )
}

function seriesOf(data: unknown, place: string): readonly Series[] {
  const { resultType, result } = data as { readonly resultType?: string; readonly result?: unknown }
  if ((resultType === 'matrix' || resultType === 'vector') && Array.isArray(result)) return result as Series[]
  if ((resultType === 'scalar' || resultType === 'string') && Array.isArray(result))
    return [{ metric: {}, value: result as unknown as Point }]
  throw new AdflowError('SOURCE_UNSUPPORTED', `${place} answers with a result of type ${resultType ?? 'unknown'}`, {
    hint: 'ask for a vector, a matrix or a scalar',
  })
}

/** Bounded by the limits of the client. */
async function wholeOf(body: ByteSource): Promise<Buffer> {
  let bytes = Buffer.allocUnsafe(FIRST_BYTES)
  let length = 0
  for (;;) {
    if (length === bytes.length) bytes = Buffer.concat([bytes], length * 2)
    const read = await body.read(bytes, length, bytes.length - length)
    if (read === 0) return bytes.subarray(0, length)
    length += read
  }
}

/** `https://host/prefix/` → `https://host/prefix/api/v1/query` */
function endpointOf(server: string, endpoint: string): string {
  return `${server.replace(/\/+$/, '')}/api/v1/${endpoint}`
}

/** Exact: milliseconds are the resolution of Prometheus. */
function seconds(ms: number): string {
  return (ms / 1000).toFixed(3)
}
