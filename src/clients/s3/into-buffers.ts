/**
 * Requests for ranges of objects whose bodies go straight into memory that is kept: Node's sockets make a new buffer outside of the heap for
 * each piece, and its parser of HTTP another one, which cost more to collect than to fill. All else takes the ordinary way of the client.
 */
import { Readable, Writable } from 'node:stream'
import type { S3Client } from '@aws-sdk/client-s3'
import type { Agent, buildConnector, Dispatcher } from 'undici'
import { keptReads } from '../http/kept-reads.ts'

/** Given to `send()` beside `abortSignal`. */
export interface IntoBuffer {
  /** Is filled, and is the body then. Where there were more bytes one more follows. */
  readonly target: Buffer
  /** Bytes have come. */
  heard(bytes: number): void
}

export interface IntoBuffersOptions {
  readonly connectMs: number
  readonly silenceMs: number
  readonly connections: number
  readonly ca?: Buffer
}

/** What of the interface between client and handler is used here. */
interface Handler {
  handle(request: SignedRequest, chosen?: Chosen): Promise<{ readonly response: Answer }>
  destroy?(): void
}

interface SignedRequest {
  readonly protocol: string
  readonly hostname: string
  readonly port?: number
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  readonly query?: Readonly<Record<string, string | readonly string[] | null>>
}

interface Chosen {
  readonly abortSignal?: AbortSignal
  readonly into?: IntoBuffer
}

interface Answer {
  readonly statusCode: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: Readable
}

/** Of an answer that refuses. */
const MOST_SAID_BYTES = 64 << 10
/** A writer that is done with each piece at once asks for no pause. */
const NO_PAUSE_BYTES = 1 << 30

/** From now on `send()` takes `{ into }`, for a GetObject. */
export function readIntoBuffers(client: S3Client, options: IntoBuffersOptions): void {
  const { config } = client as unknown as { config: { requestHandler: Handler } }
  const ordinary = config.requestHandler
  let agent: Promise<Agent> | undefined
  const destroy = () => {
    agent?.then((one) => one.destroy()).catch(() => undefined) // nobody asks any more
    ordinary.destroy?.()
  }
  const handle: Handler['handle'] = async (request, chosen) => {
    if (chosen?.into === undefined) return ordinary.handle(request, chosen)
    agent ??= keepingAgent(options)
    return { response: await fetched(await agent, request, chosen.into, chosen.abortSignal) }
  }
  config.requestHandler = Object.assign(Object.create(ordinary) as Handler, { handle, destroy })
}

async function keepingAgent({ connectMs, silenceMs, connections, ca }: IntoBuffersOptions): Promise<Agent> {
  const { Agent, buildConnector: connector } = await import('undici')
  const secured = connector({ timeout: connectMs, ...(ca === undefined ? {} : { ca }) })
  const connect: buildConnector.connector = (place, done) => {
    // What TLS decrypts goes another way; there the usual sockets must do.
    if (place.protocol === 'https:') secured(place, done)
    else connector({ timeout: connectMs, onread: keptReads() } as buildConnector.BuildOptions)(place, done)
  }
  return new Agent({ connections, headersTimeout: silenceMs, bodyTimeout: silenceMs, connect })
}

async function fetched(
  agent: Agent,
  { protocol, hostname, port, path, query, headers }: SignedRequest,
  { target, heard }: IntoBuffer,
  signal: AbortSignal | undefined,
): Promise<Answer> {
  const origin = `${protocol}//${hostname}${port === undefined ? '' : `:${port}`}`
  const memory = { bytes: target, filled: 0, more: false }
  let answer: Omit<Answer, 'body'> = { statusCode: 0, headers: {} }
  const take = ({ statusCode, headers: said }: Dispatcher.StreamFactoryData) => {
    answer = { statusCode, headers: oneEach(said) }
    if (statusCode > 299) memory.bytes = Buffer.alloc(MOST_SAID_BYTES)
    return new Writable({
      highWaterMark: NO_PAUSE_BYTES,
      write: (piece: Buffer, _encoding, done) => {
        heard(piece.length)
        const count = piece.copy(memory.bytes, memory.filled)
        memory.filled += count
        memory.more ||= count < piece.length
        done()
      },
    })
  }
  try {
    await agent.stream(
      { origin, path: `${path}${queryOf(query)}`, method: 'GET', headers, ...(signal === undefined ? {} : { signal }) },
      take,
    )
  } catch (error) {
    signal?.throwIfAborted()
    throw asOfNode(error)
  }
  const { bytes, filled, more } = memory
  const pieces = [...(filled === 0 ? [] : [bytes.subarray(0, filled)]), ...(more ? [Buffer.alloc(1)] : [])]
  return { ...answer, body: Readable.from(pieces) }
}

function queryOf(query: SignedRequest['query'] = {}): string {
  const parts = Object.entries(query).flatMap(([name, values]) =>
    [values].flat().map((value) => `${encoded(name)}${value === null ? '' : `=${encoded(value ?? '')}`}`),
  )
  return parts.length === 0 ? '' : `?${parts.join('&')}`
}

/** As it was signed. */
function encoded(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`)
}

function oneEach(headers: Dispatcher.StreamFactoryData['headers']): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, [value ?? ''].flat().join(', ')]))
}

/** By these the client knows what may be tried again. */
function asOfNode(error: unknown): unknown {
  const { code = '', message } = error as NodeJS.ErrnoException
  if (!code.startsWith('UND_ERR_')) return error
  const name = code.endsWith('_TIMEOUT') ? 'TimeoutError' : 'Error'
  return Object.assign(new Error(message, { cause: error }), {
    name,
    code: name === 'Error' ? 'ECONNRESET' : 'ETIMEDOUT',
  })
}
