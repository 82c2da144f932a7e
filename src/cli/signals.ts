/** First signal: drain. Second: out, now. The state is consistent at every instant, so "now" loses nothing. */
import { AdflowError, EXIT } from '../core/errors.ts'
import { endAtOnce } from './at-once.ts'

export interface Signals {
  readonly drain: AbortSignal
  /** Exit code that the first signal asks for, once it has come. */
  readonly exit: number | undefined
  release(): void
}

/** `atOnce` says that the second signal has come; the process ends when it returns. */
export function catchSignals(atOnce?: (error: AdflowError) => void): Signals {
  const controller = new AbortController()
  let exit: number | undefined
  const handler = (signal: NodeJS.Signals) => {
    if (exit !== undefined) {
      atOnce?.(
        new AdflowError('INTERRUPTED', `the second ${signal} gave up what was under way`, {
          hint: 'run again: nothing is lost, and nothing will be loaded twice',
        }),
      )
      endAtOnce(EXIT.tryAgain)
    }
    exit = signal === 'SIGINT' ? EXIT.interrupted : EXIT.terminated
    process.stderr.write(`${signal}: finishing what is under way; once more to stop at once\n`)
    controller.abort()
  }
  process.on('SIGINT', handler)
  process.on('SIGTERM', handler)
  return {
    drain: controller.signal,
    get exit() {
      return exit
    },
    release: () => {
      process.off('SIGINT', handler)
      process.off('SIGTERM', handler)
    },
  }
}
