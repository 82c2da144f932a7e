/** Keys of records that may come again, because requests overlap: by a lag, by a page that is asked for again, by what moved between two pages. */
import { createHash } from 'node:crypto'
import { AdflowError } from '../../core/errors.ts'

/** As many as a cursor can hold. */
const MOST = 4000

/** What is known of a key: the value of the field that is read on by; `earlier`: it is of an earlier pass; `this pass`: of this
 *  one, before it was cut short. */
type Known = { readonly value: string | undefined } | 'earlier' | 'this pass'

export class KnownKeys {
  readonly #keys: Map<string, Known>

  constructor(earlier: readonly string[] = [], thisPass: readonly string[] = []) {
    this.#keys = new Map()
    for (const key of earlier) this.#keys.set(key, 'earlier')
    for (const key of thisPass) this.#keys.set(key, 'this pass')
  }

  static of(fields: readonly (string | undefined)[]): string {
    const digest = createHash('sha256')
      .update(JSON.stringify(fields.map((field) => field ?? null)))
      .digest()
    return digest.subarray(0, 8).toString('base64url')
  }

  has(key: string): boolean {
    return this.#keys.has(key)
  }

  add(key: string, value: string | undefined): void {
    this.#keys.delete(key) // the youngest stand last
    this.#keys.set(key, { value })
  }

  /** What is within the pass needed no longer. `isLate`: a value may come again in the next pass. */
  prune(recent: ReadonlySet<string>, isLate: (value: string) => boolean): void {
    for (const [key, known] of this.#keys)
      if (typeof known === 'object' && !recent.has(key) && (known.value === undefined || !isLate(known.value)))
        this.#keys.delete(key)
  }

  /** For the next pass. */
  end(isLate: (value: string) => boolean): void {
    for (const [key, known] of this.#keys)
      if (known === 'earlier' || (typeof known === 'object' && (known.value === undefined || !isLate(known.value))))
        this.#keys.delete(key)
  }

  /** The youngest. @throws AdflowError SOURCE_UNSUPPORTED where `all` are needed and are too many to be remembered */
  listed(origin: string, all: boolean): { readonly earlier: string[]; readonly thisPass: string[] } {
    if (this.#keys.size > MOST && all)
      throw new AdflowError(
        'SOURCE_UNSUPPORTED',
        `${origin} has ${this.#keys.size} records that may come again, and ${MOST} keys can be remembered`,
        {
          hint: 'leave out `key`, and take out what comes twice by the step `dedupe` or by `write: merge`; or lower `incremental.lag`, or the size of pages',
        },
      )
    const youngest = [...this.#keys].slice(-MOST)
    const earlier = youngest.filter(([, known]) => known === 'earlier').map(([key]) => key)
    return { earlier, thisPass: youngest.filter(([, known]) => known !== 'earlier').map(([key]) => key) }
  }
}
