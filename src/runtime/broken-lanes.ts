/**
 * Lanes of which a range turned out to be damaged after it was cut: the engine cannot read it, or its bytes have changed
 * meanwhile. Nothing of such a lane is loaded past the damage, so that stores that need the order of the lane keep it.
 */
import type { Position } from '../core/contracts.ts'
import { AdflowError } from '../core/errors.ts'
import { comparePositions } from '../core/positions.ts'
import type { PlannedBatch } from './checkpoint-slot.ts'

/** Where in which lane. */
interface Place {
  readonly source: string
  readonly lane: string
  readonly from: Position
}

export class BrokenLanes {
  readonly #found = new Map<string, { readonly from: Position; readonly error: AdflowError }>()
  /** Sequences of batches that were planned in this run and that no store can hold anything of. */
  readonly #unoffered = new Set<string>()

  /** What is wrong there, or before it in the lane. Batches before the damage go on: some store may have them already. */
  get(place: Place): AdflowError | undefined {
    const found = this.#found.get(keyOf(place))
    return found !== undefined && comparePositions(found.from, place.from) <= 0 ? found.error : undefined
  }

  /** false: it is known that nothing can be loaded there. */
  add(place: Place, error: AdflowError): boolean {
    if (this.get(place) !== undefined) return false
    this.#found.set(keyOf(place), { from: place.from, error })
    return true
  }

  /** The lanes of the source are read anew, from where they were acknowledged. */
  mended(source: string): void {
    for (const key of [...this.#found.keys()]) if (sourceOf(key) === source) this.#found.delete(key)
  }

  get none(): boolean {
    return this.#found.size === 0
  }

  planned(sequence: string): void {
    this.#unoffered.add(sequence)
  }

  /** From now on a store may hold the batch: its range must come again as it is. */
  offered(sequence: string): void {
    this.#unoffered.delete(sequence)
  }

  /** The plans that bind the next run. No store knows the edges in a lane that broke before anything of it was offered; a whole
   *  copy of its file, which is another file, need not have records that end just there. */
  binding(plans: readonly PlannedBatch[]): PlannedBatch[] {
    const bound = new Set(plans.filter(({ sequence }) => !this.#unoffered.has(sequence)).map(keyOf))
    return plans.filter((plan) => !this.#found.has(keyOf(plan)) || bound.has(keyOf(plan)))
  }
}

/** Faults of a source, as opposed to those of the job, the engine or a store. That a store holds other bytes under the token of
 *  a range is one: the range was rewritten after it was loaded. */
export function isSourceFault(error: unknown): error is AdflowError {
  if (!(error instanceof AdflowError)) return false
  const { code, details } = error
  return (
    code === 'SOURCE_DAMAGED' || code === 'SOURCE_CHANGED' || (code === 'STORE_MISMATCH' && details?.['held'] === true)
  )
}

function sourceOf(key: string): string {
  return (JSON.parse(key) as [string, string])[0]
}

function keyOf({ source, lane }: Omit<Place, 'from'>): string {
  return JSON.stringify([source, lane])
}
