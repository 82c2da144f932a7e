/** Where the columns of a job come from: nodes in the order of the flow, and an edge per pair of columns. Pure; nothing runs. */
import type { Dataset } from '../core/contracts.ts'

export interface LineageColumn {
  readonly name: string
  /** Engine type. */
  readonly type: string
  /** It shows personal data. */
  readonly personal: boolean
  readonly description?: string
}

export interface LineageNode {
  /** Id in the job file; `contract` for the admitted rows; the name of the table for reference data. */
  readonly id: string
  readonly kind: 'source' | 'reference' | 'contract' | 'step' | 'store' | 'consumer'
  /** Type of the component, verb of the step. */
  readonly type: string
  /** Sources, reference data and stores: what it is outside of this job. */
  readonly dataset?: Dataset
  /** Stores and consumers: `main`, or the id of the step whose rows they take. */
  readonly input?: string
  readonly columns: readonly LineageColumn[]
}

/** `same`: the value as it came. `computed`, `aggregated`: made of it. `found`: it decided which value was looked up. */
export type How = 'same' | 'computed' | 'aggregated' | 'found'

export interface ColumnPlace {
  readonly node: string
  readonly column: string
}

export interface LineageEdge {
  readonly from: ColumnPlace
  readonly to: ColumnPlace
  readonly how: How
  /** The step hides personal data here. */
  readonly masked: boolean
  /** SQL of the job file, where one expression makes the column. */
  readonly sql?: string
}

/** Columns that decide which rows a step lets through or makes, though their values may stand nowhere. */
export interface LineageDecision {
  readonly node: string
  readonly by: 'filter' | 'group' | 'join'
  readonly columns: readonly ColumnPlace[]
}

export interface LineageGraph {
  readonly job: string
  readonly nodes: readonly LineageNode[]
  /** Which node reads which, also where no column passes. */
  readonly flows: readonly { readonly from: string; readonly to: string }[]
  readonly edges: readonly LineageEdge[]
  readonly decisions: readonly LineageDecision[]
}

export interface Origin extends ColumnPlace {
  readonly how: How
  readonly masked: boolean
}

/** From weakest to strongest: what a chain of edges amounts to is the strongest of them. */
const STRENGTH: readonly How[] = ['same', 'computed', 'aggregated', 'found']

/** Finds what columns of sources and reference data a column is made of, over any number of steps. */
export class Origins {
  readonly #incoming = new Map<string, LineageEdge[]>()
  readonly #known = new Map<string, readonly Origin[]>()

  constructor({ edges }: LineageGraph) {
    for (const edge of edges) {
      const key = keyOf(edge.to)
      this.#incoming.set(key, [...(this.#incoming.get(key) ?? []), edge])
    }
  }

  /** Each with all the ways on which it comes here; a column that nothing leads to is its own origin, as `same`. */
  of(place: ColumnPlace): readonly Origin[] {
    const key = keyOf(place)
    const known = this.#known.get(key)
    if (known !== undefined) return known
    const found = new Map<string, Origin>()
    for (const { from, how, masked } of this.#incoming.get(key) ?? [])
      for (const origin of this.#ends(from)) {
        const whole = { ...origin, how: stronger(origin.how, how), masked: origin.masked || masked }
        found.set(JSON.stringify([keyOf(whole), whole.how, whole.masked]), whole)
      }
    const origins = [...found.values()]
    this.#known.set(key, origins)
    return origins
  }

  #ends(from: ColumnPlace): readonly Origin[] {
    return this.#incoming.has(keyOf(from)) ? this.of(from) : [{ ...from, how: 'same', masked: false }]
  }
}

/** Everything that a node reads, directly or not, and the node itself. */
export function upstream({ flows }: LineageGraph, node: string): ReadonlySet<string> {
  const seen = new Set<string>()
  const open = [node]
  for (let at = open.pop(); at !== undefined; at = open.pop()) {
    if (seen.has(at)) continue
    seen.add(at)
    for (const { from, to } of flows) if (to === at) open.push(from)
  }
  return seen
}

function stronger(a: How, b: How): How {
  return STRENGTH.indexOf(a) > STRENGTH.indexOf(b) ? a : b
}

/** The engine compares names of columns without case. */
export function keyOf({ node, column }: ColumnPlace): string {
  return JSON.stringify([node, column.toLowerCase()])
}
