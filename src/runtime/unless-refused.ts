/** Work of the engine that ends early once it is known to be in vain. */
import type { Session } from '../engine/session.ts'

/** Until the work is at its end: the engine forgets an interrupt that comes before a statement is under way. */
const AGAIN_MS = 5

/** What `work` gives, a statement of `session`. It is interrupted, and rejects, as soon as `counting` finds that nothing can come of it. */
export async function unlessRefused<T>(
  counting: Promise<boolean> | undefined,
  session: Pick<Session, 'interrupt'>,
  work: () => Promise<T>,
): Promise<T> {
  let working = true
  let again: NodeJS.Timeout | undefined
  const refused = () => {
    session.interrupt()
    again = setInterval(() => session.interrupt(), AGAIN_MS)
  }
  counting?.then((clean) => !clean && working && refused()).catch(() => undefined) // told to who awaits it
  try {
    return await work()
  } finally {
    working = false
    clearInterval(again)
  }
}
