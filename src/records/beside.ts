/** Counts and cuts files in threads of their own: beside the engine's, and without a moment in which the rest of the process waits for the disk. */
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { AdflowError, type ErrorCode } from '../core/errors.ts'
import type { CountRequest, countFile } from './count-file.ts'
import type { cutPiece, PieceRequest } from './cut-piece.ts'

export type Work = { readonly count: CountRequest } | { readonly cut: PieceRequest }

/** An error of ours loses its class between threads. */
export type Answer =
  | { readonly done: unknown }
  | { readonly failed: { readonly code: ErrorCode; readonly message: string; readonly hint: string | undefined } }

type Done<T extends (...args: never) => unknown> = Awaited<ReturnType<T>>

/** Seen from src/records and from dist/chunks. */
const WORKER = new URL('../../dist/records/beside-worker.js', import.meta.url)

/** Threads without work: to start one costs as much as to count 50 MB. They keep no process from ending, but would make its end longer. */
const idle: Worker[] = []
const MOST_IDLE = 2
const IDLE_MS = 1000

/** As countFile(). Rejects with the reason of `signal` once that is aborted. */
export async function countBeside(count: CountRequest, signal: AbortSignal): Promise<Done<typeof countFile>> {
  return (await beside({ count }, count.origin, signal)) as Done<typeof countFile>
}

/** As cutPiece(). Rejects as countBeside(), and may leave a part of the file behind then. */
export async function cutBeside(cut: PieceRequest, signal: AbortSignal): Promise<Done<typeof cutPiece>> {
  return (await beside({ cut }, cut.origin, signal)) as Done<typeof cutPiece>
}

async function beside(work: Work, origin: string, signal: AbortSignal): Promise<unknown> {
  signal.throwIfAborted()
  const worker = idle.pop() ?? new Worker(WORKER)
  worker.ref()
  const over = new AbortController()
  const stop = () => void worker.terminate()
  signal.addEventListener('abort', stop, { signal: over.signal })
  try {
    worker.postMessage(work)
    const [answer] = (await Promise.race([
      once(worker, 'message', { signal: over.signal }),
      once(worker, 'exit', { signal: over.signal }).then(() => {
        throw signal.reason ?? new Error(`the reading of ${origin} ended early`)
      }),
    ])) as [Answer]
    signal.throwIfAborted() // the thread may be at its end
    keep(worker)
    if (!('failed' in answer)) return answer.done
    const { code, message, hint } = answer.failed
    throw new AdflowError(code, message, hint === undefined ? {} : { hint })
  } finally {
    over.abort()
  }
}

function keep(worker: Worker): void {
  worker.unref()
  if (idle.length >= MOST_IDLE) return void worker.terminate()
  idle.push(worker)
  setTimeout(() => {
    const at = idle.indexOf(worker)
    if (at !== -1) void idle.splice(at, 1)[0]?.terminate()
  }, IDLE_MS).unref()
}
