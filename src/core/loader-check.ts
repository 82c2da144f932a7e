/** What lint asks a loader. Types only. */
import type { Column } from './contracts.ts'
import type { Analysis } from './step-contract.ts'

/** What a loader finds in its options under the columns that reach it. */
export interface LoaderRemark {
  /** `mistake`: the first write would fail. `warning`: it would do something that its user may not expect. */
  readonly kind: 'mistake' | 'warning'
  readonly message: string
  readonly hint?: string
  /** Path of the option into the job file. */
  readonly path: readonly (string | number)[]
}

export interface LoaderCheckEnv {
  /** Path of the loader in the job file. */
  readonly path: readonly (string | number)[]
  readonly columns: readonly Column[]
  readonly analysis: Analysis
}
