/** Documents on their way: requests of bounded size, a few at a time, and the outcome of each document. */
import { open } from 'node:fs/promises'
import pRetry from 'p-retry'
import { AdflowError } from '../../core/errors.ts'
import { DOCUMENT_START } from './documents.ts'
import { type Complaint, complaintError, complaintOf, describe } from './errors.ts'
import type { Elastic } from './http.ts'

export interface BulkOptions {
  /** Index, alias or data stream. */
  readonly target: string
  readonly query: Readonly<Record<string, string>>
  readonly bytes: number
  readonly parallel: number
  /** For messages: "write a batch to events". */
  readonly doing: string
  readonly signal: AbortSignal
}

export interface BulkOutcome {
  /** Documents that were there before, or of a higher version. */
  readonly conflicts: number
  /** Some outcome was unknown before it was asked for again. */
  readonly doubtful: boolean
}

/** As each action of a bulk request has it, under the name of the action. */
interface Item {
  readonly status: number
  readonly error?: unknown
}

/** What a busy server says of single documents: 429, and what 5xx says of a shard. */
const ATTEMPTS = 8
const FIRST_PAUSE_MS = 100
const LONGEST_PAUSE_MS = 5000
/** A server that holds each answer back for a minute is not asked eight times. */
const LONGEST_RETRY_MS = 60_000
/** What is named in an error: the first refusal, and how many there are. */
const FILTER = 'errors,items.*.status,items.*.error.type,items.*.error.reason,items.*.error.caused_by.reason'

/** Resolves when every document was taken, or was in conflict. @throws AdflowError where one was refused, or an outcome is unknown */
export async function sendDocuments(
  elastic: Elastic,
  file: string,
  count: number,
  options: BulkOptions,
): Promise<BulkOutcome> {
  const stop = new AbortController()
  const signal = AbortSignal.any([options.signal, stop.signal])
  const pieces = piecesOf(file, options.bytes)
  let [answered, conflicts, doubtful] = [0, 0, false]
  const worker = async (): Promise<void> => {
    for (;;) {
      signal.throwIfAborted()
      const { done, value } = await pieces.next()
      if (done === true) return
      const outcome = await new Piece(elastic, value, { ...options, signal }).send()
      answered += outcome.answered
      conflicts += outcome.conflicts
      doubtful ||= outcome.doubtful
    }
  }
  const workers = Array.from({ length: options.parallel }, () =>
    worker().catch((error: unknown) => {
      // Whoever failed first says why; nothing is on its way any more when this rejects.
      if (!stop.signal.aborted) stop.abort(error)
    }),
  )
  await Promise.all(workers)
  await pieces.return(undefined)
  if (stop.signal.aborted) throw stop.signal.reason
  if (answered !== count)
    throw new AdflowError(
      'STORE_UNAVAILABLE',
      `cannot ${options.doing}: the server answered for ${answered} of ${count} documents`,
      {
        hint: 'the batch is tried again; what is there of it is not doubled',
      },
    )
  return { conflicts, doubtful }
}

class Piece {
  readonly #elastic: Elastic
  readonly #options: BulkOptions
  #body: Buffer
  #answered = 0
  #conflicts = 0
  #doubtful = false
  /** Why some of it is to be sent again. */
  #busy: Complaint | undefined

  constructor(elastic: Elastic, body: Buffer, options: BulkOptions) {
    this.#elastic = elastic
    this.#body = body
    this.#options = options
  }

  async send() {
    const { doing, signal } = this.#options
    await pRetry(() => this.#attempt(), {
      retries: ATTEMPTS - 1,
      minTimeout: FIRST_PAUSE_MS,
      maxTimeout: LONGEST_PAUSE_MS,
      maxRetryTime: LONGEST_RETRY_MS,
      factor: 2,
      randomize: true,
      signal,
      shouldRetry: ({ error }) => error instanceof Busy,
    }).catch((error: unknown) => {
      if (error instanceof Busy && this.#busy !== undefined) throw complaintError(this.#busy, doing)
      throw error
    })
    return { answered: this.#answered, conflicts: this.#conflicts, doubtful: this.#doubtful }
  }

  async #attempt(): Promise<void> {
    const { target, query, doing, signal } = this.#options
    const { status, body } = await this.#elastic.request({
      method: 'POST',
      path: [target, '_bulk'],
      query: { ...query, filter_path: FILTER },
      body: this.#body,
      expect: [429],
      signal,
      doing,
    })
    if (status === 429) {
      this.#wait(complaintOf(status, (body as { error?: unknown } | undefined)?.error))
      throw new Busy()
    }
    const { errors, items = [] } = body as { errors: boolean; items?: readonly Readonly<Record<string, Item>>[] }
    if (!errors) {
      this.#answered += items.length
      return
    }
    const again = this.#sort(items)
    if (again.length === 0) return
    this.#body = onlyDocuments(this.#body, again)
    throw new Busy()
  }

  /** Books what is settled; returns the places of the documents to be sent again. */
  #sort(items: readonly Readonly<Record<string, Item>>[]): number[] {
    const again: number[] = []
    const refused: { place: number; complaint: Complaint }[] = []
    for (const [place, item] of items.entries()) {
      const { status, error } = Object.values(item)[0] ?? { status: 500 }
      if (status === 409) this.#conflicts += 1
      else if (status === 429 || status >= 500) {
        this.#wait(complaintOf(status, error))
        again.push(place)
        continue
      } else if (status >= 300) refused.push({ place, complaint: complaintOf(status, error) })
      this.#answered += 1
    }
    if (refused[0] !== undefined) throw this.#refusal(refused[0], refused.length)
    return again
  }

  #wait(complaint: Complaint): void {
    // A block does not go by itself within seconds; for shards the server has waited already.
    if (/^(?:cluster_block|unavailable_shards)_exception$/.test(complaint.type))
      throw complaintError(complaint, this.#options.doing)
    this.#busy = complaint
    if (complaint.status !== 429) this.#doubtful = true
  }

  #refusal({ place, complaint }: { place: number; complaint: Complaint }, count: number): AdflowError {
    const { doing } = this.#options
    if (complaint.type === 'cluster_block_exception' || complaint.status !== 400)
      return complaintError(complaint, doing)
    const more = count === 1 ? '' : `, and ${count - 1} more of this request`
    return new AdflowError(
      'STORE_MISMATCH',
      `cannot ${doing}: the document ${idAt(this.#body, place)} was refused (${describe(complaint)})${more}`,
      {
        hint: 'quarantine such rows by a rule, or give the field another mapping by `fields`; other documents of the batch may be there under their ids, and a repetition does not double them',
      },
    )
  }
}

class Busy extends Error {}

/** The file in parts that end where a document ends. */
async function* piecesOf(file: string, bytes: number): AsyncGenerator<Buffer, void> {
  const handle = await open(file)
  try {
    const { size: whole } = await handle.stat()
    let size = Math.max(1, bytes)
    for (let at = 0; at < whole; ) {
      const { buffer, bytesRead } = await handle.read(Buffer.allocUnsafe(size), 0, size, at)
      const read = buffer.subarray(0, bytesRead)
      const cut = at + bytesRead >= whole ? bytesRead : read.lastIndexOf(DOCUMENT_START) + 1
      if (cut > 0) {
        yield read.subarray(0, cut)
        at += cut
      }
      // Where no document ends in it, one is longer than that.
      size = cut > 0 ? Math.max(1, bytes) : size * 2
    }
  } finally {
    await handle.close()
  }
}

/** Where documents begin. */
function* starts(body: Buffer): Generator<number> {
  for (let at = 0; at >= 0; ) {
    yield at
    const next = body.indexOf(DOCUMENT_START, at)
    at = next < 0 ? -1 : next + 1
  }
}

function onlyDocuments(body: Buffer, places: readonly number[]): Buffer {
  const from = [...starts(body), body.length]
  return Buffer.concat(places.map((place) => body.subarray(from[place], from[place + 1])))
}

function idAt(body: Buffer, place: number): string {
  const from = [...starts(body)][place] ?? 0
  const line = body.toString('utf8', from, body.indexOf('\n', from))
  return /"_id":("(?:[^"\\]|\\.)*")/.exec(line)?.[1] ?? `number ${place + 1}`
}
