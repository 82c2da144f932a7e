/** A thread that counts one file after the other: see count-thread.ts. */
import { parentPort } from 'node:worker_threads'
import { AdflowError } from '../core/errors.ts'
import { type CountRequest, countFile } from './count-file.ts'
import type { CountAnswer } from './count-thread.ts'

async function answer(request: CountRequest): Promise<CountAnswer> {
  try {
    return { counted: await countFile(request) }
  } catch (error) {
    if (!(error instanceof AdflowError)) throw error
    const { code, message, hint } = error
    return { failed: { code, message, hint } }
  }
}

parentPort?.on('message', async (request: CountRequest) => parentPort?.postMessage(await answer(request)))
