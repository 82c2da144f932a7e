/** A progress bar on a terminal, nothing anywhere else. */
import { SingleBar } from 'cli-progress'

export interface SampleProgress {
  update(rows: number): void
  stop(): void
}

export function sampleProgress(enabled: boolean, total: number): SampleProgress {
  if (!enabled || process.stderr.isTTY !== true) return { update: () => undefined, stop: () => undefined }
  const bar = new SingleBar({
    format: '{bar} {percentage}% │ {value} of {total} records │ ETA {eta_formatted}',
    stream: process.stderr,
    hideCursor: true,
    clearOnComplete: true,
  })
  bar.start(total, 0)
  return { update: (rows) => bar.update(rows), stop: () => bar.stop() }
}
