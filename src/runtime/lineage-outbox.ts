/**
 * How a run ended, for whoever follows lineage, until a transport has taken it: one file per run. While a run goes on its file
 * holds what is to be said if nobody comes back: that it was cut off. So a kill, or a lineage server that is down, costs no end of a run.
 */
import { mkdir, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { removeDurably, sweepTemporaries, writeDurably } from '../core/durable.ts'

type Event = Readonly<Record<string, unknown>>

/** Older ones are given up: a transport that was down for so many runs is not waited for. */
const MOST_RUNS = 100

export class LineageOutbox {
  readonly #folder: string

  constructor(folder: string) {
    this.#folder = folder
  }

  async put(run: string, event: Event): Promise<void> {
    await mkdir(this.#folder, { recursive: true, mode: 0o700 })
    await writeDurably(join(this.#folder, `${run}.json`), JSON.stringify(event))
  }

  async remove(run: string): Promise<void> {
    await removeDurably(join(this.#folder, `${run}.json`))
  }

  /** Of earlier runs, oldest first: their ids sort by time. A file that does not parse is given up with the oldest. */
  async left(current: string): Promise<{ readonly events: ReadonlyMap<string, Event>; readonly lost: number }> {
    const events = new Map<string, Event>()
    let lost = 0
    await mkdir(this.#folder, { recursive: true, mode: 0o700 })
    await sweepTemporaries(this.#folder)
    const runs = (await readdir(this.#folder)).filter((name) => name.endsWith('.json') && name !== `${current}.json`)
    for (const [index, name] of runs.sort().entries()) {
      const run = name.slice(0, -'.json'.length)
      const event = index < runs.length - MOST_RUNS ? undefined : await this.#read(name)
      if (event === undefined) {
        lost += 1
        await this.remove(run)
      } else events.set(run, event)
    }
    return { events, lost }
  }

  async #read(name: string): Promise<Event | undefined> {
    const text = await readFile(join(this.#folder, name), 'utf8')
    try {
      return JSON.parse(text) as Event
    } catch {
      return undefined // written through a temp and a rename: only a bad disk leaves such a file
    }
  }
}
