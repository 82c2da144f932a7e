/** Reads the body of a request, decompressed, and never holds more than its limits say. */
import type { IncomingMessage } from 'node:http'
import { promisify } from 'node:util'
import { gunzip, zstdDecompress } from 'node:zlib'
import { later, Refusal } from './answer.ts'
import type { Budget } from './limits.ts'
import type { BodyKind } from './records.ts'

/** A body is held as it came, split, and in the journal's frame. */
const COPIES = 3

export interface BodyLimits {
  readonly maxBytes: number
  readonly memory: Budget
}

interface BodyForm {
  readonly kind: BodyKind
  readonly encoding: 'identity' | 'gzip' | 'zstd'
}

const KINDS: Readonly<Record<string, BodyKind>> = {
  'application/json': 'json',
  'application/x-ndjson': 'ndjson',
  'application/ndjson': 'ndjson',
  'application/jsonl': 'ndjson',
  'application/x-jsonlines': 'ndjson',
}
const ENCODINGS: Readonly<Record<string, BodyForm['encoding']>> = {
  '': 'identity',
  identity: 'identity',
  gzip: 'gzip',
  'x-gzip': 'gzip',
  zstd: 'zstd',
}
const INFLATE = { gzip: promisify(gunzip), zstd: promisify(zstdDecompress) } as const

/** By the headers alone. @throws Refusal 415, 413 */
export function bodyForm(request: IncomingMessage, maxBytes: number): BodyForm {
  const [type = '', ...parameters] = (request.headers['content-type'] ?? '').toLowerCase().split(';')
  const kind = KINDS[type.trim()]
  const charset = parameters.map((each) => each.trim()).find((each) => each.startsWith('charset='))
  if (kind === undefined || (charset !== undefined && !/^charset="?utf-?8"?$/.test(charset)))
    throw new Refusal(
      415,
      'unsupported_type',
      'the Content-Type must be application/json (one event or an array) or application/x-ndjson, in UTF-8',
    )
  const encoding = ENCODINGS[(request.headers['content-encoding'] ?? '').trim().toLowerCase()]
  if (encoding === undefined)
    throw new Refusal(415, 'unsupported_encoding', 'the Content-Encoding must be gzip, zstd or none', {
      'accept-encoding': 'gzip, zstd',
    })
  if (Number(request.headers['content-length'] ?? 0) > maxBytes) throw tooLarge(maxBytes)
  return { kind, encoding }
}

/** Reads it, and gives it to `use` decompressed, with the bytes that came; its memory is held until that has ended.
 *  @throws Refusal 400, 413, 429 */
export async function withBody<T>(
  request: IncomingMessage,
  encoding: BodyForm['encoding'],
  { maxBytes, memory }: BodyLimits,
  proceed: (() => void) | undefined,
  use: (body: Buffer, sentBytes: number) => Promise<T>,
): Promise<T> {
  const declared = request.headers['content-length']
  const reserved = (declared === undefined ? maxBytes : Number(declared)) + (encoding === 'identity' ? 0 : maxBytes)
  const held = reserved * COPIES
  if (!memory.take(held)) throw later(429, 'busy', 'too many bytes are under way: send this again', 1000)
  try {
    proceed?.()
    const sent = await read(request, maxBytes)
    return await use(encoding === 'identity' ? sent : await inflate(sent, encoding, maxBytes), sent.length)
  } finally {
    memory.give(held)
  }
}

async function read(request: IncomingMessage, maxBytes: number): Promise<Buffer> {
  const pieces: Buffer[] = []
  let bytes = 0
  try {
    // Not destroyed where it is given up: the client is to read why.
    for await (const piece of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      bytes += piece.length
      if (bytes > maxBytes) throw tooLarge(maxBytes)
      pieces.push(piece)
    }
  } catch (error) {
    if (error instanceof Refusal) throw error
    throw new Refusal(400, 'cut_off', 'the body ended before its end: nothing was taken')
  }
  return Buffer.concat(pieces)
}

async function inflate(bytes: Buffer, encoding: 'gzip' | 'zstd', maxBytes: number): Promise<Buffer> {
  try {
    return await INFLATE[encoding](bytes, { maxOutputLength: maxBytes })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE') throw tooLarge(maxBytes)
    throw new Refusal(400, 'malformed', `the body is no whole ${encoding}: nothing was taken`)
  }
}

function tooLarge(maxBytes: number): Refusal {
  return new Refusal(413, 'too_large', `a body has at most ${maxBytes} bytes, decompressed too: send several`)
}
