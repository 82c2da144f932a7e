/**
 * Watches the engine of a run that goes on for ever: a statement that does not return holds its batch, and in time all of them, and what waits for
 * them to end never does. Nothing inside the process can end it, so the process must end.
 */
import { AdflowError } from '../core/errors.ts'
import { longestStatementMs } from '../engine/statements.ts'

/** Times `stream.stalled_after`: a statement over a large chunk, or a large memory, may take its minutes. */
const TIMES = 10

/** Until the function that is returned is called. `hung` must end the process. */
export function watchEngine(stalledMs: number, hung: (error: AdflowError) => void): () => void {
  const limitMs = stalledMs * TIMES
  const timer = setInterval(() => {
    if (longestStatementMs() < limitMs) return
    clearInterval(timer)
    hung(
      new AdflowError('ENGINE_STALLED', `a statement of the embedded engine has not returned for ${limitMs / 1000} s`, {
        hint: 'start the job again: nothing is lost, and nothing will be loaded twice. Where statements may take so long raise `stream.stalled_after`: this is ten times that',
      }),
    )
  }, stalledMs)
  timer.unref()
  return () => clearInterval(timer)
}
