/** What `run` and `gaps --collect` share: progress, signals, summary, exit code. */
import { AdflowError, EXIT } from '../core/errors.ts'
import { distribution } from '../distribute/distributor.ts'
import { watchEngine } from '../runtime/hang-watch.ts'
import { type RunOptions, runJob } from '../runtime/run.ts'
import type { RunSummary } from '../runtime/summary.ts'
import { endAtOnce } from './at-once.ts'
import { errorText } from './base-command.ts'
import { runProgress } from './progress.ts'
import { catchSignals } from './signals.ts'

export interface RunOutput {
  readonly quiet: boolean
  readonly json: boolean
  readonly strict?: boolean
  log(text: string): void
  /** Says why the process ends at once: a second signal, an engine that hangs. */
  fail(error: Error): void
}

export async function runForPeople(
  options: Omit<RunOptions, 'drain' | 'observer' | 'distribution'>,
  { quiet, json, strict = false, log, fail }: RunOutput,
): Promise<RunSummary> {
  const shown = !quiet && !json
  const progress = await runProgress(shown)
  const signals = catchSignals(fail)
  // A signal is how a run ends that goes on for ever.
  const forever = (options.until ?? (options.job.stream.forever ? 'forever' : 'now')) === 'forever'
  const hung = (error: AdflowError) => {
    fail(error)
    endAtOnce(EXIT.tryAgain)
  }
  const unwatch = forever ? watchEngine(options.job.stream.stalledMs, hung) : undefined
  const run = runJob({ ...options, drain: signals.drain, observer: progress, distribution: distribution() })
  const summary = await run.finally(() => {
    unwatch?.()
    progress.stop()
    signals.release()
  })
  if (summary.exit === EXIT.done && strict && (summary.quarantined > 0 || summary.warnings.length > 0))
    summary.exit = EXIT.warnings
  if (signals.exit !== undefined && summary.exit === EXIT.done && !forever) summary.exit = signals.exit
  process.exitCode = summary.exit
  if (shown) log((await import('./summary-text.ts')).summaryText(summary))
  if (summary.error !== undefined && !json) {
    const { code, message, hint } = summary.error
    process.stderr.write(`${errorText(new AdflowError(code, message, hint === undefined ? {} : { hint }))}\n`)
  }
  return summary
}
