/**
 * Fetches over gRPC: pages of a unary method, or a stream of answers. All that is known from one run to the next is in the
 * cursor: the position up to which everything was read, and within a pass the token of the next page.
 */
import { z } from 'zod'
import type { Dataset } from '../../core/contracts.ts'
import { AdflowError } from '../../core/errors.ts'
import type { Fetcher, FetchLane, FetchTask } from '../staging/fetcher.ts'
import type { GrpcChannel } from './channel.ts'
import { higher, type PositionField, positionOf, valueAt } from './position.ts'
import { filledRequest } from './request.ts'
import { type RetryPolicy, retrying } from './retrying.ts'
import { GrpcMethod, partsOf, rootOf, type SchemaOptions } from './schema.ts'
import { followStream } from './stream.ts'

export interface GrpcFetcherOptions {
  /** `ads.v1.Events/List` */
  readonly method: string
  readonly request: unknown
  /** Where the records stand in an answer; empty: the answer is one. */
  readonly records: readonly string[]
  /** Where the token of the next page stands in an answer. */
  readonly next: readonly string[] | undefined
  readonly position: PositionField | undefined
  readonly schema: SchemaOptions
  readonly retry: RetryPolicy
  readonly maxPages: number
  readonly idleMs: number
  readonly longestMs: number
}

const cursorShape = z.object({
  v: z.literal(1),
  /** Highest value up to which everything was read. */
  position: z.string().optional(),
  /** The pass that was not ended: next page, where it began, highest value so far. */
  pass: z.object({ token: z.string(), position: z.string().optional(), high: z.string().optional() }).optional(),
})
type Cursor = z.infer<typeof cursorShape>

/** Written at once. */
const PIECE = 1 << 18

export class GrpcFetcher implements Fetcher {
  readonly #servers: ReadonlyMap<string, Server>
  readonly #options: GrpcFetcherOptions

  /** `channels`: by the name of their lane. */
  constructor(channels: Readonly<Record<string, GrpcChannel>>, options: GrpcFetcherOptions) {
    this.#servers = new Map(Object.entries(channels).map(([lane, channel]) => [lane, new Server(channel, options)]))
    this.#options = options
  }

  dataset(): Dataset {
    const [first] = this.#servers.values()
    return { namespace: `grpc://${first?.channel.address ?? ''}`, name: this.#options.method }
  }

  async lanes(): Promise<readonly FetchLane[]> {
    return [...this.#servers].map(([lane, { what }]) => ({ lane, origin: what }))
  }

  async fetch(task: FetchTask): Promise<void> {
    await this.#servers.get(task.lane)?.fetch(task)
  }

  async close(): Promise<void> {
    await Promise.all([...this.#servers.values()].map(({ channel }) => channel.close()))
  }
}

/** One of the servers: a lane. */
class Server {
  readonly channel: GrpcChannel
  /** Address and method. */
  readonly what: string
  readonly #options: GrpcFetcherOptions
  #method: GrpcMethod | undefined

  constructor(channel: GrpcChannel, options: GrpcFetcherOptions) {
    this.channel = channel
    this.#options = options
    this.what = `${channel.address}/${options.method}`
  }

  async fetch(task: FetchTask): Promise<void> {
    const { retry } = this.#options
    this.#method ??= await retrying(retry, task.signal, this.what, () =>
      methodOf(this.channel, this.#options, task.signal),
    )
    const method = this.#method
    const cursor = cursorOf(task)
    if (!method.streams) return this.#pages(task, method, cursor)
    const { position, records, request, idleMs, longestMs } = this.#options
    let at = cursor.position
    const begunMs = performance.now()
    await retrying(this.#options.retry, task.signal, this.what, async (progress) => {
      // What came after the last whole page comes again.
      await task.sink.drop()
      const asked = filledRequest(request, { position: at ?? position?.start, token: undefined })
      const call = await this.channel.stream(method.path, method.encode(asked))
      await followStream(call, task, {
        ...{ position, idleMs, after: at, untilMs: begunMs + longestMs, origin: this.what },
        records: (bytes) => recordsIn(method.decode(bytes), records, this.what),
        page: async (value) => {
          await task.sink.page(JSON.stringify({ v: 1, position: value }))
          at = value
          progress()
        },
      })
    })
  }

  async #pages({ sink, signal }: FetchTask, method: GrpcMethod, cursor: Cursor): Promise<void> {
    const { request, records, next, position, maxPages, retry } = this.#options
    const begun = cursor.pass === undefined ? (cursor.position ?? position?.start) : cursor.pass.position
    let high = cursor.pass === undefined ? cursor.position : cursor.pass.high
    let token = cursor.pass?.token
    const seen = new Set(token === undefined ? [] : [token])
    for (let page = 1; ; page += 1) {
      const asked = method.encode(filledRequest(request, { position: begun, token }))
      const bytes = await retrying(retry, signal, this.what, () => this.channel.unary(method.path, asked, signal))
      const answer = method.decode(bytes)
      let piece = ''
      for (const record of recordsIn(answer, records, this.what)) {
        if (position !== undefined) high = higher(high, positionOf(record, position), position.kind)
        piece += `${JSON.stringify(record)}\n`
        if (piece.length < PIECE) continue
        await sink.write(Buffer.from(piece))
        piece = ''
      }
      if (piece !== '') await sink.write(Buffer.from(piece))
      const found = next === undefined ? undefined : valueAt(answer, next)
      token = found === undefined || found === null || found === '' ? undefined : String(found)
      const goesOn = token !== undefined && !seen.has(token) && page < maxPages
      if (token !== undefined && !goesOn) throw this.#endless(page, seen.has(token))
      await sink.page(
        JSON.stringify(
          token === undefined
            ? { v: 1, position: high }
            : { v: 1, position: cursor.position, pass: { token, position: begun, high } },
        ),
      )
      if (token === undefined) return
      seen.add(token)
    }
  }

  #endless(page: number, repeated: boolean): AdflowError {
    const found = repeated
      ? `gives the same token for the next page again, on page ${page}`
      : `has more than ${page} pages`
    return new AdflowError('SOURCE_UNREADABLE', `${this.what} ${found}`, {
      hint: 'check that `request` takes the token (`page_token: "{token}"`) and that `next` names it; or raise `max_pages`',
    })
  }
}

/** Asked of the server, or read from files. @throws AdflowError SOURCE_…; GrpcStatus */
export async function methodOf(
  channel: GrpcChannel,
  { method: name, schema, records, next, position }: GrpcFetcherOptions,
  signal: AbortSignal,
): Promise<GrpcMethod> {
  const method = await GrpcMethod.find(await rootOf(schema, partsOf(name)[0], channel, signal), name)
  method.requireField(records, 'records')
  if (next !== undefined) method.requireField(next, 'next')
  if (position !== undefined) method.requireField([...records, ...position.path], 'position.field')
  return method
}

/** @throws AdflowError SOURCE_UNSUPPORTED where there is no message */
function recordsIn(answer: unknown, path: readonly string[], what: string): readonly object[] {
  const found = valueAt(answer, path)
  const list = found === undefined || found === null ? [] : Array.isArray(found) ? found : [found]
  for (const one of list)
    if (typeof one !== 'object' || one === null)
      throw new AdflowError('SOURCE_UNSUPPORTED', `${what} has no messages at \`${path.join('.')}\``, {
        hint: 'set `records` to a field that holds messages; without it each answer is a record',
      })
  return list as readonly object[]
}

/** @throws AdflowError SOURCE_CHANGED where the cursor is of another kind of source */
function cursorOf({ cursor, origin }: FetchTask): Cursor {
  if (cursor === undefined) return { v: 1 }
  try {
    return cursorShape.parse(JSON.parse(cursor))
  } catch (error) {
    throw new AdflowError('SOURCE_CHANGED', `the checkpoint has a cursor for ${origin} that this version cannot read`, {
      cause: error,
      hint: 'the lane was read by another version, or its source had another type; `adflow state rewind --reload` reads it anew',
    })
  }
}
