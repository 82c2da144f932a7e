/** Requests of whoever reads. Hits come as they stand in the answer: no number of a document becomes a number of JavaScript. */
import { AdflowError } from '../../core/errors.ts'
import { JsonPageError, readJsonPage, type TakeRecord } from '../../records/json-page.ts'
import { type ByteSource, PIECE_BYTES, Window } from '../../records/window.ts'
import type { Elastic } from './http.ts'
import { brokenOff, htmlError, refusalError } from './source-errors.ts'

export interface ReadRequest {
  readonly method: 'GET' | 'POST' | 'DELETE'
  readonly path: readonly string[]
  readonly query?: Readonly<Record<string, string>>
  /** JSON. */
  readonly body?: string
  readonly signal: AbortSignal
  /** Statuses beside 2xx that are answers. */
  readonly expect?: readonly number[]
  /** "read events" */
  readonly doing: string
}

/** What stands around the hits, as JSON. */
export type Around = Readonly<Partial<Record<keyof typeof VALUES, string>>>

const VALUES = {
  pit: ['pit_id'],
  timedOut: ['timed_out'],
  ended: ['terminated_early'],
  shards: ['_shards'],
  clusters: ['_clusters'],
  total: ['hits', 'total'],
} as const

const LONGEST_ANSWER = 32 << 20
const MOST_RATIO = 1000

export class ElasticReader {
  readonly #elastic: Elastic
  readonly #maxBytes: number

  constructor(elastic: Elastic, maxBytes: number) {
    this.#elastic = elastic
    this.#maxBytes = maxBytes
  }

  /** An answer that is no page of hits. @throws AdflowError SOURCE_… */
  async json(request: ReadRequest): Promise<{ readonly status: number; readonly body: unknown }> {
    const { doing, expect = [] } = request
    return this.#with(request, LONGEST_ANSWER, async (status, body) => {
      const text = await textOf(body)
      if ((status < 200 || status > 299) && !expect.includes(status)) throw refusalError(status, text, doing)
      try {
        return { status, body: text === '' ? undefined : (JSON.parse(text) as unknown) }
      } catch (error) {
        if (expect.includes(status)) return { status, body: undefined }
        throw /^\s*</.test(text) ? htmlError(doing, status) : cutOff(doing, error)
      }
    })
  }

  /** @throws AdflowError SOURCE_… where not all that was asked for came */
  async hits(request: ReadRequest, take: TakeRecord): Promise<Around> {
    const { doing } = request
    return this.#with(request, this.#maxBytes, async (status, body) => {
      if (status < 200 || status > 299) throw refusalError(status, await textOf(body), doing)
      const window = new Window(body, 0)
      await window.fill(PIECE_BYTES)
      if (/^\s*</.test(window.bytes.toString('latin1', window.start, Math.min(window.end, window.start + 64))))
        throw htmlError(doing, status)
      return readJsonPage(window, {
        records: ['hits', 'hits'],
        values: VALUES,
        maxRecordBytes: this.#maxBytes,
        take,
        rest: async () => undefined,
      }).catch((error: unknown) => {
        throw error instanceof JsonPageError ? cutOff(doing, error) : error
      })
    })
  }

  close(): Promise<void> {
    return this.#elastic.close()
  }

  async #with<T>(
    request: ReadRequest,
    maxBytes: number,
    work: (status: number, body: ByteSource) => Promise<T>,
  ): Promise<T> {
    try {
      const { status, body } = await this.#elastic.open(request, { maxBytes, maxRatio: MOST_RATIO })
      try {
        return await work(status, body)
      } finally {
        await body.close()
      }
    } catch (error) {
      request.signal.throwIfAborted()
      throw brokenOff(error, request.doing)
    }
  }
}

async function textOf(body: ByteSource): Promise<string> {
  const window = new Window(body, 0)
  while ((await window.fill(PIECE_BYTES)) > 0);
  if (window.failure !== undefined) throw window.failure
  return window.bytes.toString('utf8', window.start, window.end)
}

function cutOff(doing: string, cause: unknown): AdflowError {
  return new AdflowError(
    'SOURCE_DAMAGED',
    `cannot ${doing}: the answer is no whole JSON (${(cause as Error).message})`,
    {
      cause,
      hint: 'the server, or a proxy before it, is broken; nothing of the page was taken',
    },
  )
}
