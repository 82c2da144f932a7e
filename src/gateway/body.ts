/** Reads the body of a request, decompressed, and never holds more than its limits say. */
import type { IncomingMessage } from 'node:http'
import { promisify } from 'node:util'
import { constants, gunzip, zstdDecompress } from 'node:zlib'
import { later, Refusal } from './answer.ts'
import type { Budget, Hold } from './limits.ts'
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
/** RFC 9659: what is sent over HTTP needs no larger window. */
const ZSTD_WINDOW_LOG = 23
const unzip = promisify(gunzip)
const unzstd = promisify(zstdDecompress)
const INFLATE = {
  gzip: (bytes: Buffer, most: number) => unzip(bytes, { maxOutputLength: most }),
  zstd: (bytes: Buffer, most: number) =>
    unzstd(bytes, { maxOutputLength: most, params: { [constants.ZSTD_d_windowLogMax]: ZSTD_WINDOW_LOG } }),
} as const

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
  const hold = memory.hold()
  try {
    const declared = request.headers['content-length']
    if (declared !== undefined) grow(hold, Number(declared))
    proceed?.()
    const sent = await read(request, maxBytes, declared === undefined ? hold : undefined)
    return await use(encoding === 'identity' ? sent : await inflate(sent, encoding, maxBytes, hold), sent.length)
  } finally {
    hold.release()
  }
}

/** `hold`: of a body whose size is not known before it is there. */
async function read(request: IncomingMessage, maxBytes: number, hold: Hold | undefined): Promise<Buffer> {
  const pieces: Buffer[] = []
  let bytes = 0
  try {
    // Not destroyed where it is given up: the client is to read why.
    for await (const piece of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      bytes += piece.length
      if (bytes > maxBytes) throw tooLarge(maxBytes)
      if (hold !== undefined) grow(hold, piece.length)
      pieces.push(piece)
    }
  } catch (error) {
    if (error instanceof Refusal) throw error
    throw new Refusal(400, 'cut_off', 'the body ended before its end: nothing was taken')
  }
  return Buffer.concat(pieces)
}

/** Most bodies are not much smaller compressed than this says: what it takes is not held for those that are. */
const USUAL_RATIO = 20
const LEAST_BYTES = 64 << 10

async function inflate(bytes: Buffer, encoding: 'gzip' | 'zstd', maxBytes: number, hold: Hold): Promise<Buffer> {
  const usual = Math.min(maxBytes, Math.max(LEAST_BYTES, bytes.length * USUAL_RATIO))
  for (const most of new Set([usual, maxBytes])) {
    grow(hold, most)
    try {
      return await INFLATE[encoding](bytes, most)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ERR_BUFFER_TOO_LARGE')
        throw new Refusal(400, 'malformed', `the body is no whole ${encoding}: nothing was taken`)
    }
  }
  throw tooLarge(maxBytes)
}

function grow(hold: Hold, bytes: number): void {
  if (!hold.grow(bytes * COPIES)) throw later(429, 'busy', 'too many bytes are under way: send this again', 1000)
}

function tooLarge(maxBytes: number): Refusal {
  return new Refusal(413, 'too_large', `a body has at most ${maxBytes} bytes, decompressed too: send several`)
}
