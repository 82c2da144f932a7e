/**
 * The contract behind `adflow doctor`: what a component asks of its system before a run needs it, and what it finds. A diagnosis
 * changes nothing on the system asked, leaves no file, and names no credential.
 */
import type { Column, ComponentEnv } from './contracts.ts'
import type { ErrorCode } from './errors.ts'

/** What is asked, in the order in which it is shown. A word means the same of every system. */
export const CHECKS = {
  node: 'The Node.js that runs adflow.',
  job: 'The job file and its SQL.',
  secrets: 'Variables and secret files of the job have values.',
  state: 'The state directory can be written.',
  lock: 'No other run holds the job.',
  checkpoint: 'The positions of the job can be read.',
  ledger: 'The hash chain of the ledger holds.',
  daemon: 'What the daemon makes of the job file.',
  owed: 'What is owed to stores and consumers, and the room for more.',
  reachable: 'The system answers at this place, and takes the credentials of the job.',
  version: 'It is new enough.',
  tls: 'How the connection is secured.',
  writable: 'It takes writes now: no replica, no read-only mode.',
  target: 'What the job reads or writes is there and fits, or would be made.',
  permission: 'The user of the job may do what the job does.',
  durability: 'What the system has confirmed survives its crash.',
  dedup_window: 'How long the system itself refuses a repetition.',
  transactions: 'What is open there and keeps the job from reading what is committed.',
  connections: 'There is room for the connections of the job.',
  memory: 'The memory that is wanted and the memory that is there.',
  clock: 'Its clock and the clock of this machine agree.',
  disk: 'Free space.',
} as const

export type Check = keyof typeof CHECKS

interface Asked {
  readonly check: Check
  /** Host and database, table, folder, URL without user and password. */
  readonly place: string
  /** What was found, as half a sentence in lower case. */
  readonly found: string
}

export type Finding = Asked &
  (
    | { readonly status: 'ok' }
    /** `warning`: a run works, for now, or in another way than one may think. `unknown`: it could not be asked. `mend`: what to do. */
    | { readonly status: 'warning' | 'unknown'; readonly mend: string }
    /** A run would fail, with this code. */
    | { readonly status: 'failed'; readonly mend: string; readonly code: ErrorCode }
  )

export interface DiagnoseEnv extends ComponentEnv {
  /** Of an extractor: where its fetched bytes stand. */
  readonly stageDir?: string
  /** What reaches a loader; undefined for other components, and where the SQL of the job does not compile. */
  readonly columns: readonly Column[] | undefined
  /** Process that runs this job now: what it holds is no fault. */
  readonly runningPid: number | undefined
  /** How long to wait for one answer of the system. */
  readonly answerMs: number
  /** Aborted at the end of the time that all of it may take. */
  readonly signal: AbortSignal
  /** The clock of this machine, in milliseconds since the epoch. */
  now(): number
}

export interface Diagnosis {
  /** Where it is asked, for what is said of all of it: that it does not answer. */
  readonly place: string
  /** Each finding when it is known, so that a system that falls silent costs only what would have come later. Where `reachable` has
   *  failed nothing else is asked; what is thrown counts as that. Ends soon after the signal is aborted, and closes what it opens. */
  readonly findings: AsyncIterable<Finding>
}

export interface Diagnosable<Options> {
  /** For `adflow doctor`; core/findings.ts helps. Changes nothing. */
  diagnose?(options: Options, env: DiagnoseEnv): Diagnosis
}
