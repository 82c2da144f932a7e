/** The life of a batch as a table. Each move is one `batch_moved` event of the ledger. */
import { AdflowError } from '../core/errors.ts'

/** State → the states that may follow. A run that repeats a batch after a crash begins it anew at INITIAL_STATE. */
export const TRANSITIONS = {
  'ingestion.collecting': ['ingestion.failed', 'validation.pending'],
  'ingestion.failed': ['ingestion.collecting', 'abandoned'],
  'validation.pending': ['validation.running'],
  'validation.running': ['validation.passed', 'validation.partial', 'validation.failed'],
  'validation.passed': ['transformation.pending'],
  // The rows that passed go on by themselves; those in quarantine may come back through repair.
  'validation.partial': ['repair', 'transformation.pending'],
  'validation.failed': ['repair'],
  repair: ['validation.pending', 'manual_intervention'],
  manual_intervention: ['validation.pending', 'abandoned'],
  'transformation.pending': ['transformation.running'],
  'transformation.running': ['transformation.completed', 'transformation.failed'],
  'transformation.completed': ['storage.pending'],
  'transformation.failed': ['repair'],
  'storage.pending': ['storage.running'],
  'storage.running': ['storage.completed', 'storage.failed'],
  'storage.completed': ['distribution.pending', 'done'],
  'storage.failed': ['storage.retry'],
  // The batch waits in the spool: it is owed to a store.
  'storage.retry': ['storage.running', 'manual_intervention'],
  'distribution.pending': ['distribution.running'],
  'distribution.running': ['distribution.completed', 'distribution.partial', 'distribution.failed'],
  'distribution.completed': ['done'],
  'distribution.partial': ['distribution.retry'],
  'distribution.failed': ['distribution.retry'],
  'distribution.retry': ['distribution.running', 'manual_intervention'],
  done: [],
  abandoned: [],
} as const satisfies Readonly<Record<string, readonly string[]>>

export type State = keyof typeof TRANSITIONS

/** The states that may follow S. A name in the table that is no state itself makes this, and so `move`, fail to compile. */
export type NextState<S extends State> = (typeof TRANSITIONS)[S][number]

export const INITIAL_STATE = 'ingestion.collecting' satisfies State

export const STATES = Object.keys(TRANSITIONS) as readonly State[]

/** Nothing follows: `done` and `abandoned`. */
export function isTerminal(state: State): boolean {
  return TRANSITIONS[state].length === 0
}

/** Returns `to`. Where the type of `from` is one state, an illegal move does not compile; otherwise it throws. */
export function move<From extends State, To extends NextState<From>>(from: From, to: To, batch = 'a batch'): To {
  const allowed: readonly State[] = TRANSITIONS[from]
  if (allowed.includes(to)) return to
  const exits = allowed.length === 0 ? 'nothing may follow it' : `it may be followed by ${allowed.join(', ')}`
  throw new AdflowError('UNEXPECTED', `cannot move ${batch} from ${from} to ${to}: ${exits}`, { details: { from, to } })
}

/** Where one batch stands. The only way to another state is `move`. */
export class BatchState {
  readonly token: string
  readonly #moved: (state: State, before: State) => void
  #state: State = INITIAL_STATE

  /** `moved` is called after each legal move; it writes the event. */
  constructor(token: string, moved: (state: State, before: State) => void = () => undefined) {
    this.token = token
    this.#moved = moved
  }

  get state(): State {
    return this.#state
  }

  /** Moves through the given states in turn; throws at the first illegal one, and stays at the last legal one. */
  move(...path: readonly State[]): void {
    for (const to of path) {
      const before = this.#state
      this.#state = move<State, State>(before, to, `batch ${this.token}`)
      this.#moved(to, before)
    }
  }
}

/** The table as a Mermaid state diagram, for docs/architecture.md. */
export function statesMermaid(): string {
  const name = (state: State) => state.replace('.', '_')
  const lines = ['stateDiagram-v2']
  for (const state of STATES) if (state.includes('.')) lines.push(`  ${name(state)}: ${state.replace('.', ' ')}`)
  lines.push('  manual_intervention: manual intervention', `  [*] --> ${name(INITIAL_STATE)}`)
  for (const state of STATES) {
    for (const next of TRANSITIONS[state]) lines.push(`  ${name(state)} --> ${name(next)}`)
    if (isTerminal(state)) lines.push(`  ${name(state)} --> [*]`)
  }
  return `${lines.join('\n')}\n`
}
