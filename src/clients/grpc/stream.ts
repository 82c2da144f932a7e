/** A stream of answers on its way into the stage: in pages that end where the position changes, so that each can be gone on from. */
import type { ClientReadableStream } from '@grpc/grpc-js'
import { AdflowError } from '../../core/errors.ts'
import type { FetchTask } from '../staging/fetcher.ts'
import { compareSince } from '../staging/since.ts'
import { type PositionField, positionOf } from './position.ts'

export interface StreamOptions {
  /** undefined: the stream is one page, since nobody knows where it goes on. */
  readonly position: PositionField | undefined
  /** Records come after it. */
  readonly after: string | undefined
  /** Nothing for so long is the end. */
  readonly idleMs: number
  /** Of performance.now(): the stream is left then, at a place from which it goes on. */
  readonly untilMs: number
  readonly origin: string
  records(message: Buffer): readonly object[]
  /** What was written is whole; the next record comes after the value. */
  page(position: string | undefined): Promise<void>
}

/** Written at once. */
const PIECE = 1 << 16

/** Resolves at the end of what is there. Rejects with a GrpcStatus where it broke off. */
export async function followStream(
  call: ClientReadableStream<Buffer>,
  { sink, signal }: Pick<FetchTask, 'sink' | 'signal'>,
  options: StreamOptions,
): Promise<void> {
  const { position, untilMs } = options
  const cancel = () => call.cancel()
  signal.addEventListener('abort', cancel, { once: true })
  const messages = call[Symbol.asyncIterator]() as AsyncIterator<Buffer>
  let at = options.after
  let piece = ''
  const flush = async () => {
    if (piece !== '') await sink.write(Buffer.from(piece))
    piece = ''
  }
  try {
    for (;;) {
      const message = await next(call, messages, options.idleMs)
      if (message === undefined) break
      for (const record of options.records(message)) {
        if (position !== undefined) {
          const value = positionIn(record, position, at, options.origin)
          const isFurther = at !== undefined && compareSince(value, at, position.kind) > 0
          const ends = performance.now() > untilMs
          if (isFurther && (piece.length >= PIECE || ends)) {
            await flush()
            await options.page(at)
            if (ends) return
          }
          at = value
        }
        piece += `${JSON.stringify(record)}\n`
        if (piece.length >= PIECE && position === undefined) await flush()
      }
    }
    await flush()
    await options.page(at)
  } finally {
    signal.removeEventListener('abort', cancel)
    call.on('error', () => undefined).cancel()
  }
}

/** undefined: there is none, or none for so long. */
async function next(
  call: ClientReadableStream<Buffer>,
  messages: AsyncIterator<Buffer>,
  idleMs: number,
): Promise<Buffer | undefined> {
  const coming = messages.next()
  if (call.readableLength > 0) return (await coming).value
  const { promise: idle, resolve } = Promise.withResolvers<undefined>()
  const timer = setTimeout(() => resolve(undefined), idleMs)
  try {
    coming.catch(() => undefined) // raced: it may fail when nobody waits for it any more
    const first = await Promise.race([coming, idle])
    return first === undefined || first.done === true ? undefined : first.value
  } finally {
    clearTimeout(timer)
  }
}

/** @throws AdflowError SOURCE_UNSUPPORTED where the record has no position, or one before the last: it could not be gone on from */
function positionIn(record: object, position: PositionField, last: string | undefined, origin: string): string {
  const value = positionOf(record, position)
  const field = position.path.join('.')
  if (value === undefined)
    throw new AdflowError('SOURCE_UNSUPPORTED', `${origin} sends a record whose \`${field}\` is no ${position.kind}`, {
      hint: 'set `position` to a field by which the stream is ordered, and `position.as` to what it is',
    })
  if (last !== undefined && compareSince(value, last, position.kind) < 0)
    throw new AdflowError(
      'SOURCE_UNSUPPORTED',
      `${origin} sends ${value} after ${last}: it is not in the order of \`${field}\``,
      {
        hint: 'a stream goes on after its last position only where it comes in that order: ask for it so in `request`, or leave `position` out',
      },
    )
  return value
}
