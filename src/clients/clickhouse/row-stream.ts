/**
 * Rows of one answer, a line of JSON each. An answer that has begun with 200 may still fail: what the server writes then is never taken for a row,
 * and an answer that was cut off never for a whole one.
 */
import type { Readable } from 'node:stream'
import { AdflowError } from '../../core/errors.ts'
import { newlineIn } from '../../records/splitter.ts'
import { PIECE_BYTES, Window } from '../../records/window.ts'
import type { OpenAnswer } from './connect.ts'
import { explainSource, toldIn } from './source-errors.ts'

export interface RowStreamOptions {
  readonly origin: string
  /** Name of the first column: each row begins with it. */
  readonly first: string
  readonly idleMs: number
  readonly maxRowBytes: number
  /** The server has kept the answer back until it was whole: an error would have been its status. */
  readonly keptBack: boolean
  readonly signal: AbortSignal
}

const TAIL_BYTES = 16 << 10
const CLOSING_BRACE = 125
const TAG = 'x-clickhouse-exception-tag'

/** Calls `take` with runs of whole rows. @throws AdflowError SOURCE_… where the answer is not whole */
export async function readRows(
  { body, headers }: OpenAnswer,
  options: RowStreamOptions,
  take: (bytes: Buffer, from: number, to: number) => Promise<void>,
): Promise<void> {
  const { origin, signal, maxRowBytes, keptBack } = options
  const plain = Buffer.from(`{${JSON.stringify(options.first)}:`)
  const start = Buffer.from(`{${JSON.stringify(options.first).replaceAll('/', '\\/')}:`)
  const isRow = (bytes: Buffer, from: number, to: number) =>
    bytes[to - 1] === CLOSING_BRACE && (begins(bytes, from, to, plain) || begins(bytes, from, to, start))
  const abort = () => body.destroy()
  signal.addEventListener('abort', abort, { once: true })
  body.on('error', () => undefined) // it is told by whoever reads
  const window = new Window(piecesOf(body, options), 0, signal)
  let tail: Buffer = Buffer.alloc(0)
  try {
    for (;;) {
      let at = window.start
      for (
        let end = newlineIn(window.bytes, at, window.end);
        end !== -1;
        end = newlineIn(window.bytes, at, window.end)
      ) {
        if (!isRow(window.bytes, at, end)) throw await instead(window, at, origin)
        at = end + 1
      }
      if (at > window.start) {
        tail = Buffer.from(window.bytes.subarray(Math.max(window.start, at - TAIL_BYTES), at))
        await take(window.bytes, window.start, at)
        window.consume(at - window.start)
      }
      if (window.length > maxRowBytes) throw tooLong(origin, maxRowBytes)
      if ((await window.fill(PIECE_BYTES)) > 0) continue
      if (window.failure !== undefined) throw explainSource(window.failure, `read ${origin} to its end`)
      if (window.length > 0) throw await instead(window, window.start, origin)
      if (!keptBack && headers[TAG] === undefined && toldIn(tail.toString('utf8')) !== undefined)
        throw new Doubtful(origin)
      return
    }
  } finally {
    signal.removeEventListener('abort', abort)
    body.destroy()
  }
}

/** Servers before 25.11 may write an error into the last row; so may a log that holds errors. An answer that is kept back until it is whole tells. */
export class Doubtful extends Error {
  constructor(origin: string) {
    super(`the end of ${origin} reads like an error`)
  }
}

/** What stands where a row should begin. */
async function instead(window: Window, at: number, origin: string): Promise<AdflowError> {
  while (window.end - at < TAIL_BYTES) {
    const before = window.start
    if ((await window.fill(TAIL_BYTES)) === 0) break
    at -= before - window.start
  }
  const text = window.bytes.toString('utf8', at, Math.min(window.end, at + TAIL_BYTES))
  const told = toldIn(text)
  if (told !== undefined) return explainSource(told, `read ${origin} to its end`)
  if (/^\s*</.test(text))
    return new AdflowError('SOURCE_UNREADABLE', `${origin} answers with an HTML page in the place of rows`, {
      hint: 'a proxy answers in the place of the server: check `url`',
    })
  if (window.failure !== undefined) return explainSource(window.failure, `read ${origin} to its end`)
  return new AdflowError(
    'SOURCE_DAMAGED',
    `an answer of ${origin} ends in the middle of a row, or has something else in its place`,
    {
      hint: 'the server, or a proxy before it, is broken; nothing of the page was taken',
    },
  )
}

function begins(bytes: Buffer, from: number, to: number, start: Buffer): boolean {
  return to - from > start.length && bytes.compare(start, 0, start.length, from, from + start.length) === 0
}

function piecesOf(body: Readable, { idleMs, origin }: RowStreamOptions) {
  const iterator = body[Symbol.asyncIterator]() as AsyncIterator<Buffer>
  let ready: Buffer = Buffer.alloc(0)
  const next = async () => {
    const timer = setTimeout(() => body.destroy(silent(origin, idleMs)), idleMs)
    try {
      return await iterator.next()
    } finally {
      clearTimeout(timer)
    }
  }
  return {
    read: async (target: Buffer, offset: number, length: number) => {
      while (ready.length === 0) {
        const { done, value } = await next()
        if (done === true) return 0
        ready = value
      }
      const count = ready.copy(target, offset, 0, length)
      ready = ready.subarray(count)
      return count
    },
    close: async () => {
      body.destroy()
    },
  }
}

function silent(origin: string, idleMs: number): AdflowError {
  return new AdflowError(
    'SOURCE_UNREADABLE',
    `${origin} was silent for ${idleMs / 1000} s in the middle of an answer`,
    {
      hint: 'raise `idle_timeout` where the server searches for so long; the next run goes on where this one stopped',
    },
  )
}

function tooLong(origin: string, maxRowBytes: number): AdflowError {
  return new AdflowError('SOURCE_UNSUPPORTED', `a row of ${origin} has more than ${maxRowBytes} bytes`, {
    hint: 'leave the column out by `columns`, or raise `resources.max_record`',
  })
}
