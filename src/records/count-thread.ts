/** Counts a file in a thread of its own: beside the engine's threads, and without a moment in which the rest of the process waits for the disk. */
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { AdflowError, type ErrorCode } from '../core/errors.ts'
import type { CountRequest, countFile } from './count-file.ts'

type Count = Awaited<ReturnType<typeof countFile>>

/** An error of ours loses its class between threads. */
export type CountAnswer =
  | { readonly counted: Count }
  | { readonly failed: { readonly code: ErrorCode; readonly message: string; readonly hint: string | undefined } }

/** Seen from src/records and from dist/chunks. */
const WORKER = new URL('../../dist/records/count-worker.js', import.meta.url)

/** Threads without work: to start one costs as much as to count 50 MB. They keep no process from ending, but would make its end longer. */
const idle: Worker[] = []
const MOST_IDLE = 2
const IDLE_MS = 500

/** As countFile(). Rejects with the reason of `signal` once that is aborted. */
export async function countBeside(request: CountRequest, signal: AbortSignal): Promise<Count> {
  signal.throwIfAborted()
  const worker = idle.pop() ?? new Worker(WORKER)
  worker.ref()
  const over = new AbortController()
  const stop = () => void worker.terminate()
  signal.addEventListener('abort', stop, { signal: over.signal })
  try {
    worker.postMessage(request)
    const [answer] = (await Promise.race([
      once(worker, 'message', { signal: over.signal }),
      once(worker, 'exit', { signal: over.signal }).then(() => {
        throw signal.reason ?? new Error(`the count of ${request.origin} ended early`)
      }),
    ])) as [CountAnswer]
    signal.throwIfAborted() // the thread may be at its end
    keep(worker)
    if (!('failed' in answer)) return answer.counted
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
