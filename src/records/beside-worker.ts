/** A thread that counts or cuts one file after the other: see beside.ts. */
import { parentPort } from 'node:worker_threads'
import { AdflowError } from '../core/errors.ts'
import type { Answer, Work } from './beside.ts'
import { countFile } from './count-file.ts'
import { cutPiece } from './cut-piece.ts'

async function answer(work: Work): Promise<Answer> {
  try {
    return { done: 'count' in work ? await countFile(work.count) : await cutPiece(work.cut) }
  } catch (error) {
    if (!(error instanceof AdflowError)) throw error
    const { code, message, hint } = error
    return { failed: { code, message, hint } }
  }
}

parentPort?.on('message', async (work: Work) => parentPort?.postMessage(await answer(work)))
