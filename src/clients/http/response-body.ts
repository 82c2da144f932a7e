/** The body of a response as plain bytes: decompressed, as often as it was compressed, within limits. */
import { finished, pipeline, type Readable, Transform } from 'node:stream'
import { createBrotliDecompress, createGunzip, createInflate, createZstdDecompress } from 'node:zlib'
import { AdflowError } from '../../core/errors.ts'
import { compressionOf } from '../../records/compression.ts'
import type { ByteSource } from '../../records/window.ts'
import type { OpenResponse } from './client.ts'

export interface BodyLimits {
  /** Decompressed over compressed size, looked at once `BOMB_FLOOR_BYTES` have come out. */
  readonly maxRatio: number
  /** Decompressed bytes. */
  readonly maxBytes: number
}

/** Less than this is no harm, whatever its ratio. */
const BOMB_FLOOR_BYTES = 16 << 20

const DECODERS: Readonly<Record<string, () => Transform>> = {
  gzip: createGunzip,
  'x-gzip': createGunzip,
  deflate: createInflate,
  br: createBrotliDecompress,
  zstd: createZstdDecompress,
}

/** What a request may say that it takes. */
export const ACCEPT_ENCODING = 'gzip, zstd, br'

/** `taken` is told of each piece of `body` that was copied. @throws AdflowError SOURCE_UNSUPPORTED where the encoding is not known. Reading throws
 *  SOURCE_BOMB, or why the body broke off. */
export async function plainBody(
  { body, taken }: Pick<OpenResponse, 'body'> & Partial<Pick<OpenResponse, 'taken'>>,
  encoding: string | undefined,
  origin: string,
  limits: BodyLimits,
): Promise<ByteSource> {
  const codings = (encoding ?? '').split(',').map((name) => name.trim().toLowerCase())
  const decoders = codings
    .filter((name) => name !== '' && name !== 'identity')
    .reverse()
    .map((coding) => {
      const create = DECODERS[coding]
      if (create !== undefined) return create
      body.destroy()
      throw new AdflowError('SOURCE_UNSUPPORTED', `${origin} answers in the encoding ${coding}`, {
        hint: `it was asked for ${ACCEPT_ENCODING}: set \`headers: { accept-encoding: identity }\``,
      })
    })
  body.on('error', () => undefined) // whoever reads is told
  const raw = { bytes: 0 }
  let stream: Readable = body
  if (decoders.length > 0) stream = counted(stream, raw)
  for (const create of decoders) stream = through(stream, create())
  // A compressed file is sent as it is by many servers: its first bytes tell.
  const kind = compressionOf(await head(stream))
  if (kind !== 'none') {
    if (decoders.length === 0) stream = counted(stream, raw)
    stream = through(stream, kind === 'gzip' ? createGunzip() : createZstdDecompress())
  }
  // As they are sent, bytes are taken without a stream between.
  return stream === body ? bounded(stream, origin, limits, { taken }) : bounded(stream, origin, limits, { raw })
}

function counted(from: Readable, raw: { bytes: number }): Transform {
  const counter = new Transform({
    transform: (piece: Buffer, _, done) => {
      raw.bytes += piece.length
      done(null, piece)
    },
  })
  return through(from, counter)
}

function through(from: Readable, to: Transform): Transform {
  pipeline(from, to, () => undefined) // an error comes out of `to`
  return to
}

/** The first bytes, which stay where they are. What has failed already fails when it is read. */
async function head(stream: Readable): Promise<Buffer> {
  if (stream.readableLength === 0 && !stream.readableEnded && !stream.destroyed) {
    const { promise, resolve } = Promise.withResolvers<void>()
    const wake = () => resolve()
    for (const event of ['readable', 'end', 'close', 'error']) stream.once(event, wake)
    await promise
    for (const event of ['readable', 'end', 'close', 'error']) stream.off(event, wake)
  }
  const piece = stream.destroyed ? null : (stream.read() as Buffer | null)
  if (piece !== null) stream.unshift(piece)
  return (piece ?? Buffer.alloc(0)).subarray(0, 4)
}

/** Pieces as they come, one at a time. By its iterator several would be put together, in new memory. */
class Pieces {
  readonly #stream: Readable
  #piece: Buffer | undefined
  #over: { readonly error: unknown } | undefined
  #wake = (): void => undefined

  constructor(stream: Readable) {
    this.#stream = stream.pause()
    stream.on('data', (piece: Buffer) => {
      stream.pause()
      this.#piece = piece
      this.#wake()
    })
    finished(stream, { writable: false }, (error) => {
      this.#over = { error }
      this.#wake()
    })
  }

  /** undefined at the end. @throws what the stream failed with */
  async next(): Promise<Buffer | undefined> {
    if (this.#piece === undefined && this.#over === undefined) {
      const { promise, resolve } = Promise.withResolvers<void>()
      this.#wake = resolve
      this.#stream.resume()
      await promise
    }
    const piece = this.#piece
    this.#piece = undefined
    if (piece === undefined && this.#over?.error) throw this.#over.error
    return piece
  }
}

interface Source {
  /** Before they were decompressed, where they were. */
  readonly raw?: { readonly bytes: number }
  readonly taken?: ((piece: Buffer) => void) | undefined
}

function bounded(
  stream: Readable,
  origin: string,
  { maxRatio, maxBytes }: BodyLimits,
  { raw, taken }: Source,
): ByteSource {
  const pieces = new Pieces(stream)
  let piece: Buffer = Buffer.alloc(0)
  let copied = 0
  let produced = 0
  const refuse = (): void => {
    if (raw !== undefined && produced > BOMB_FLOOR_BYTES && produced > maxRatio * raw.bytes)
      throw new AdflowError(
        'SOURCE_BOMB',
        `${origin} expands to more than ${maxRatio} times its size: ${produced} bytes out of ${raw.bytes}`,
        { hint: 'raise `max_ratio` if the source is trusted' },
      )
    if (produced > maxBytes)
      throw new AdflowError('SOURCE_BOMB', `a page of ${origin} has more than ${maxBytes} bytes`, {
        hint: 'ask for smaller pages, or raise `max_page`',
      })
  }
  return {
    read: async (target, offset, length) => {
      while (copied === piece.length) {
        const next = await pieces.next()
        if (next === undefined) return 0
        ;[piece, copied] = [next, 0]
        produced += piece.length
        refuse()
      }
      const count = piece.copy(target, offset, copied, copied + length)
      copied += count
      if (copied === piece.length) taken?.(piece)
      return count
    },
    close: async () => {
      stream.destroy()
    },
  }
}
