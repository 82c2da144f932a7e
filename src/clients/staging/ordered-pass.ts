/**
 * One way through a source that is read in order, from where it was left to its end: the place after each page, the highest value, and the keys of
 * rows that the next pass asks for again because of a lag.
 */
import type { FetchTask } from './fetcher.ts'
import { KnownKeys } from './known-keys.ts'
import { parsePlace, type SourcePlace } from './source-place.ts'

export interface PassOptions {
  /** What rows are ordered by. */
  readonly by: readonly string[]
  readonly again: 'newer' | 'all'
  /** Passes overlap: how values of the first of `by` are compared, and from which value on they come again after `high`. */
  readonly overlap: { compare(a: string, b: string): number; from(high: string): string } | undefined
}

export class OrderedPass {
  readonly #task: FetchTask
  readonly #options: PassOptions
  readonly #before: SourcePlace
  readonly #since: string | undefined
  readonly #known: KnownKeys
  /** Keys of the page, with the value of the first of `by`. */
  readonly #page = new Map<string, string>()
  #after: readonly string[] | undefined
  #high: string | undefined

  constructor(task: FetchTask, options: PassOptions) {
    this.#task = task
    this.#options = options
    this.#before = parsePlace(task.cursor, options.by, task.origin)
    const { pass, after, high, known } = this.#before
    this.#since = pass === undefined ? high : pass.since
    this.#after = pass === undefined && options.overlap !== undefined && high !== undefined ? undefined : after
    this.#high = high
    this.#known = new KnownKeys(known, pass?.known)
  }

  /** The rows that are wanted come after this place. */
  get after(): readonly string[] | undefined {
    return this.#after
  }

  /** Where there is no such place: the highest value of the passes before. */
  get since(): string | undefined {
    return this.#since
  }

  /** The row was taken before. `value`: of the first of `by`. */
  isKnown(key: string, value: string): boolean {
    const known = this.#page.has(key) || this.#known.has(key)
    this.#page.set(key, value)
    return known
  }

  /** The page broke off: what it has brought is not known. */
  forget(): Promise<void> {
    this.#page.clear()
    return this.#task.sink.drop()
  }

  /** The page is whole, and its last row stands at this place. */
  async cut(after: readonly string[]): Promise<void> {
    this.#take(after)
    this.#known.prune(new Set(), (value) => this.#isLate(value))
    const { earlier, thisPass } = this.#known.listed(this.#task.origin, true)
    await this.#task.sink.page(
      encoded({
        ...this.#place(),
        pass: { ...some('since', this.#since), ...some('known', thisPass) },
        ...some('after', this.#after),
        ...some('known', earlier),
      }),
    )
  }

  /** The source is at its end. `after`: as of cut(), where rows have come since. */
  async end(after: readonly string[] | undefined): Promise<void> {
    if (after !== undefined) this.#take(after)
    this.#known.end((value) => this.#isLate(value))
    const { thisPass } = this.#known.listed(this.#task.origin, true)
    const all = this.#options.again === 'all'
    const place = all
      ? { v: 1, by: this.#options.by }
      : { ...this.#place(), ...some('after', this.#after ?? this.#before.after) }
    await this.#task.sink.page(encoded({ ...place, ...some('known', thisPass) }))
  }

  #place() {
    return { v: 1, by: this.#options.by, ...some('high', this.#high) }
  }

  #take(after: readonly string[]): void {
    const { overlap } = this.#options
    for (const [key, value] of this.#page) this.#known.add(key, value)
    this.#page.clear()
    this.#after = after
    const [value] = after
    if (overlap === undefined || value === undefined) return
    if (this.#high === undefined || overlap.compare(value, this.#high) > 0) this.#high = value
  }

  /** It comes again in the next pass. */
  #isLate(value: string): boolean {
    const { overlap } = this.#options
    return overlap !== undefined && this.#high !== undefined && overlap.compare(value, overlap.from(this.#high)) >= 0
  }
}

function some<Name extends string, T>(name: Name, value: T | undefined): { [key in Name]?: T } {
  if (value === undefined || (Array.isArray(value) && value.length === 0)) return {}
  return { [name]: value } as { [key in Name]?: T }
}

function encoded(place: object): string {
  return JSON.stringify(place)
}
