/** Whether a job could run here and now: asks the machine, the job, its state, and every system that it names. Changes nothing. */
import { existsSync } from 'node:fs'
import type { Logger } from 'pino'
import { diagnoseStateServer } from '../clients/postgres/state/diagnose.ts'
import { CHECKS, type Finding } from '../core/diagnosis.ts'
import { AdflowError, ERROR_CODES, type ErrorCode, EXIT } from '../core/errors.ts'
import type { Job } from '../core/job/job.ts'
import { loadJob } from '../core/job/load.ts'
import { redact } from '../core/job/secrets.ts'
import type { Registry } from '../core/registry.ts'
import { openCheckpoints } from './checkpoints.ts'
import { diagnoseAll, type Question } from './diagnose.ts'
import { askedComponents } from './doctor-components.ts'
import { brokenJob, diagnoseJob } from './doctor-job.ts'
import { diagnoseMachine } from './doctor-machine.ts'
import { diagnoseState } from './doctor-state.ts'
import { fetchState } from './hold.ts'
import { openLintEngine } from './lint.ts'
import { holderOf } from './lock.ts'
import { compilePipeline, type Pipeline } from './pipeline.ts'
import { stateDirOf } from './state-dir.ts'

export interface DoctorOptions {
  /** Path of the job file. */
  readonly file: string
  readonly registry: Registry
  readonly log: Logger
  /** The job with its state where the command line says. */
  placed(job: Job): Job
  stateDir(job: Job): string
  /** For each component. */
  readonly timeoutMs: number
  /** Asked besides; for what the runtime knows nothing of. */
  readonly also: readonly Asked[]
}

export interface DoctorFinding {
  readonly kind: 'machine' | 'job' | 'state' | 'daemon' | 'extractor' | 'step' | 'loader' | 'consumer' | 'transport'
  /** Id in the job; null for what is no component, and for the transport. */
  readonly component: string | null
  readonly type: string | null
  readonly check: Finding['check']
  readonly place: string
  readonly status: Finding['status']
  readonly found: string
  /** null where all is well. */
  readonly mend: string | null
  /** With which a run would fail, or a part of it that is optional; null where it would not. */
  readonly code: ErrorCode | null
}

export interface DoctorReport {
  readonly schema_version: 1
  /** null: the job file has mistakes, so that none of its components could be asked. */
  readonly job: string | null
  readonly file: string
  readonly state_dir: string | null
  readonly findings: readonly DoctorFinding[]
  readonly counts: Readonly<Record<Finding['status'], number>>
  /** Of the failed finding that comes first in what a person must mend; null: none has failed. */
  readonly code: ErrorCode | null
}

/** Who is asked, and what. */
export interface Asked extends Pick<DoctorFinding, 'kind' | 'component' | 'type'> {
  readonly optional?: boolean
  readonly question: Question
}

/** What must be mended by a person first, then what may mend itself. */
const FIRST: readonly number[] = [
  EXIT.unexpected,
  EXIT.config,
  EXIT.denied,
  EXIT.localIo,
  EXIT.rejected,
  EXIT.unavailable,
  EXIT.tryAgain,
]

export async function diagnose(options: DoctorOptions): Promise<DoctorReport> {
  const { file, registry, timeoutMs } = options
  const found = await read(file, registry)
  if (found instanceof AdflowError) {
    const here = [machine(undefined), own('job', file, () => brokenJob(file, found)), ...options.also]
    return reportOf({ job: null, file, state_dir: null }, await answersOf(here, timeoutMs))
  }
  const job = options.placed(found)
  const state = stateDirOf(options.stateDir(job), job.name)
  const { state: place } = job
  await fetchState(job, options.stateDir(job)).catch(() => undefined) // what is asked of the server below tells
  const compiled = await compile(job, registry, state.path)
  const holder = existsSync(state.path) ? await holderOf(state.path) : undefined
  // First what is here: clients of stores keep the process busy while they are loaded.
  const here = await answersOf(
    [
      machine(job),
      own('job', job.file, () => diagnoseJob(job, compiled.error)),
      ...(place === undefined
        ? []
        : [
            own('state', place.label, (env) =>
              diagnoseStateServer(place, job.name, { ...env, baseDir: job.baseDir, now: Date.now }),
            ),
          ]),
      own('state', state.path, (env) => diagnoseState(job, state, env)),
      ...options.also,
    ],
    timeoutMs,
  )
  const asked = await askedComponents({ ...options, job, state, pipeline: compiled.pipeline, runningPid: holder?.pid })
  const there = await answersOf(asked, timeoutMs)
  return reportOf({ job: job.name, file: job.file, state_dir: state.path }, [...here, ...there])
}

async function answersOf(asked: readonly Asked[], timeoutMs: number): Promise<readonly DoctorFinding[]> {
  const answers = await diagnoseAll(
    asked.map(({ question }) => question),
    timeoutMs,
  )
  return asked.flatMap((who, index) => inOrder(answers[index] ?? []).map((finding) => told(who, finding)))
}

/** A job that lacks values only is looked at without them. @throws AdflowError JOB_NOT_FOUND */
async function read(file: string, registry: Registry): Promise<Job | AdflowError> {
  try {
    return await loadJob(file, { registry })
  } catch (error) {
    if (!(error instanceof AdflowError) || error.code === 'JOB_NOT_FOUND') throw error
    return loadJob(file, { registry, withoutValues: true }).catch(() => error)
  }
}

function machine(job: Job | undefined): Asked {
  return own('machine', 'this machine', () => diagnoseMachine(job))
}

function own(kind: DoctorFinding['kind'], place: string, ask: Question['ask']): Asked {
  return { kind, component: null, type: null, question: { place, code: 'LOCAL_IO', ask } }
}

async function compile(
  job: Job,
  registry: Registry,
  statePath: string,
): Promise<{ pipeline?: Pipeline; error?: unknown }> {
  const checkpoints = await openCheckpoints(statePath, job.name).catch(() => undefined) // asked for itself, too
  const evolved = checkpoints?.current.evolved
  const engine = await openLintEngine()
  try {
    const session = await engine.connect()
    const pipeline = await compilePipeline({ job, registry, session, ...(evolved === undefined ? {} : { evolved }) })
    session.close()
    return { pipeline }
  } catch (error) {
    return { error }
  } finally {
    engine.close()
  }
}

function reportOf(
  about: Pick<DoctorReport, 'job' | 'file' | 'state_dir'>,
  findings: readonly DoctorFinding[],
): DoctorReport {
  const counts = { ok: 0, warning: 0, unknown: 0, failed: 0 }
  for (const { status } of findings) counts[status] += 1
  return { schema_version: 1, ...about, findings, counts, code: worst(findings) }
}

const ORDER = Object.keys(CHECKS)

/** Of each place in the order of the checks. */
function inOrder(findings: readonly Finding[]): readonly Finding[] {
  const places = [...new Set(findings.map(({ place }) => place))]
  const rank = ({ place, check }: Finding) => places.indexOf(place) * ORDER.length + ORDER.indexOf(check)
  return findings.toSorted((a, b) => rank(a) - rank(b))
}

function told({ kind, component, type, optional = false }: Asked, finding: Finding): DoctorFinding {
  const { check, place, found } = finding
  const costsNothing = finding.status === 'failed' && optional
  const mend = finding.status === 'ok' ? null : redact(finding.mend)
  return {
    ...{ kind, component, type, check },
    place: redact(place),
    status: costsNothing ? 'warning' : finding.status,
    found: redact(costsNothing ? `${found} (a run goes on without it)` : found),
    mend,
    code: finding.status === 'failed' ? finding.code : null,
  }
}

function worst(findings: readonly DoctorFinding[]): ErrorCode | null {
  const codes = findings.flatMap(({ status, code }) => (status === 'failed' && code !== null ? [code] : []))
  const rank = (code: ErrorCode) => FIRST.indexOf(ERROR_CODES[code].exit)
  return codes.toSorted((a, b) => rank(a) - rank(b))[0] ?? null
}
