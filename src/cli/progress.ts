/** How a run goes on, while it goes on: a line per source that is redrawn on a terminal, lines of the log at intervals elsewhere. */
import type { MultiBar, SingleBar } from 'cli-progress'
import { sizeText } from '../core/job/units.ts'
import type { RunObserver } from '../runtime/run.ts'
import type { RunSummary, SourceSummary } from '../runtime/summary.ts'
import { integer } from './table.ts'

export interface Progress extends RunObserver {
  stop(): void
}

const REDRAW_MS = 250
/** A run that takes longer says how it goes on. */
const LINES_MS = 30_000

export async function runProgress(enabled: boolean): Promise<Progress> {
  if (!enabled) return { stop: () => undefined }
  return process.stderr.isTTY === true ? bars() : lines()
}

/** What draws the bars is loaded only where there are some. */
async function bars(): Promise<Progress> {
  const { MultiBar, Presets } = await import('cli-progress')
  let drawn: Drawing | undefined
  return {
    survey: true,
    began: (summary) => {
      const multi = new MultiBar(
        { format: '{source} {state} {bar} {text}', stream: process.stderr, hideCursor: true, clearOnComplete: true },
        Presets.shades_classic,
      )
      drawn = new Drawing(multi, summary)
    },
    stop: () => drawn?.stop(),
  }
}

class Drawing {
  readonly #multi: MultiBar
  readonly #summary: RunSummary
  readonly #bars = new Map<string, SingleBar>()
  readonly #rates = new Rates()
  readonly #timer: NodeJS.Timeout

  constructor(multi: MultiBar, summary: RunSummary) {
    this.#multi = multi
    this.#summary = summary
    this.#timer = setInterval(() => this.#draw(), REDRAW_MS)
  }

  stop(): void {
    clearInterval(this.#timer)
    this.#multi.stop()
  }

  #draw(): void {
    const entries = Object.entries(this.#summary.sources)
    const width = Math.max(...entries.map(([id]) => id.length))
    for (const [id, source] of entries) {
      const total = source.size ?? 0
      const payload = {
        source: id.padEnd(width),
        state: source.state.padEnd(8),
        text: factsOf(source, this.#rates.of(id, source)).join(' │ '),
      }
      const bar = this.#bars.get(id) ?? this.#multi.create(Math.max(1, total), 0, payload)
      this.#bars.set(id, bar)
      bar.setTotal(Math.max(1, total))
      bar.update(source.state === 'done' ? Math.max(1, total) : Math.min(source.bytes, total), payload)
    }
  }
}

function lines(): Progress {
  let timer: NodeJS.Timeout | undefined
  return {
    began: (summary) => {
      const rates = new Rates()
      timer = setInterval(() => {
        const at = new Date().toISOString().slice(11, 19)
        for (const [id, source] of Object.entries(summary.sources))
          process.stderr.write(
            `[${at}] ${id}: ${[source.state, ...factsOf(source, rates.of(id, source))].join(', ')}\n`,
          )
      }, LINES_MS)
      timer.unref()
    },
    stop: () => clearInterval(timer),
  }
}

/** Records per second, of the last seconds. */
class Rates {
  readonly #seen = new Map<string, { readonly atMs: number; readonly records: number; readonly rate: number }>()

  of(id: string, { records, state }: SourceSummary): number {
    const atMs = performance.now()
    const before = this.#seen.get(id)
    if (before === undefined || state === 'waiting') {
      this.#seen.set(id, { atMs, records, rate: 0 })
      return 0
    }
    if (atMs - before.atMs < 2000) return before.rate
    const rate = (records - before.records) / ((atMs - before.atMs) / 1000)
    this.#seen.set(id, { atMs, records, rate })
    return rate
  }
}

function factsOf({ records, bytes, fetched, staged, size, gaps }: SourceSummary, rate: number): string[] {
  return [
    `${integer(records)} records`,
    ...(rate > 0 ? [`${integer(Math.round(rate))}/s`] : []),
    ...(fetched > bytes ? [`${sizeText(fetched)} fetched`] : []),
    ...(staged > 0 ? [`${sizeText(staged)} staged`] : []),
    ...(size !== undefined && size > bytes ? [`${sizeText(size - bytes)} behind`] : []),
    ...(gaps > 0 ? [`${gaps} ${gaps === 1 ? 'gap' : 'gaps'}`] : []),
  ]
}
