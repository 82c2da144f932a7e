/** A progress bar on a terminal, nothing anywhere else. */

import { sizeText } from '../core/job/units.ts'
import type { RunObserver } from '../runtime/run.ts'
import type { RunSummary } from '../runtime/summary.ts'
import { integer } from './table.ts'

export interface Progress extends RunObserver {
  stop(): void
}

/** What draws the bar is loaded only where there is one. */
export async function runProgress(enabled: boolean): Promise<Progress> {
  if (!enabled || process.stderr.isTTY !== true) return { stop: () => undefined }
  const { Presets, SingleBar } = await import('cli-progress')
  const bar = new SingleBar(
    {
      format: '{bar} {percentage}% │ {done} of {size} │ {rate}/s │ {rows} rows │ ETA {eta_formatted}',
      stream: process.stderr,
      hideCursor: true,
      clearOnComplete: true,
    },
    Presets.shades_classic,
  )
  const started = Date.now()
  let running = false
  const payload = (summary?: RunSummary) => ({
    done: sizeText(summary?.bytes ?? 0),
    rate: sizeText((summary?.bytes ?? 0) / Math.max(0.1, (Date.now() - started) / 1000)),
    rows: integer(summary?.read ?? 0),
  })
  return {
    surveyed: ({ bytesLeft }) => {
      if (bytesLeft === 0) return
      running = true
      bar.start(bytesLeft, 0, { size: sizeText(bytesLeft), ...payload() })
    },
    batchClosed: (summary) => {
      if (running) bar.update(Math.min(summary.bytes, bar.getTotal()), payload(summary))
    },
    stop: () => {
      if (running) bar.stop()
    },
  }
}
