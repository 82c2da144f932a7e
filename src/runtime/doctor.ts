/** Whether a job could run here and now: asks the machine, the job, its state, and every system that it names. Changes nothing. */
import { existsSync } from 'node:fs'
import type { Logger } from 'pino'
import type { Column } from '../core/contracts.ts'
import { CHECKS, type Diagnosable, type DiagnoseEnv, type Diagnosis, type Finding } from '../core/diagnosis.ts'
import { AdflowError, ERROR_CODES, type ErrorCode, EXIT } from '../core/errors.ts'
import { diagnosisAt } from '../core/findings.ts'
import type { Job } from '../core/job/job.ts'
import { loadJob } from '../core/job/load.ts'
import { redact } from '../core/job/secrets.ts'
import type { Registry } from '../core/registry.ts'
import { openCheckpoints } from './checkpoints.ts'
import { diagnoseAll, type Question } from './diagnose.ts'
import { brokenJob, diagnoseJob } from './doctor-job.ts'
import { diagnoseMachine } from './doctor-machine.ts'
import { diagnoseState } from './doctor-state.ts'
import { lineageConfig } from './lineage-config.ts'
import { openLintEngine } from './lint.ts'
import { holderOf } from './lock.ts'
import { compilePipeline, MAIN, type Pipeline } from './pipeline.ts'
import { stateDirOf } from './state-dir.ts'

export interface DoctorOptions {
  /** Path of the job file. */
  readonly file: string
  readonly registry: Registry
  readonly log: Logger
  stateDir(job: Job): string
  /** For each component. */
  readonly timeoutMs: number
}

export interface DoctorFinding {
  readonly kind: 'machine' | 'job' | 'state' | 'extractor' | 'loader' | 'consumer' | 'transport'
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
interface Asked extends Pick<DoctorFinding, 'kind' | 'component' | 'type'> {
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
  let job: Job
  try {
    job = await loadJob(file, { registry })
  } catch (error) {
    if (!(error instanceof AdflowError) || error.code === 'JOB_NOT_FOUND') throw error
    const asked = [machine(undefined), own('job', file, () => brokenJob(file, error))]
    return reportOf({ job: null, file, state_dir: null }, asked, timeoutMs)
  }
  const state = stateDirOf(options.stateDir(job), job.name)
  const compiled = await compile(job, registry, state.path)
  const asked = [
    machine(job),
    own('job', job.file, () => diagnoseJob(job, compiled.error)),
    own('state', state.path, (env) => diagnoseState(job, state, env)),
    ...(await components(job, compiled.pipeline, state.path, options)),
  ]
  return reportOf({ job: job.name, file: job.file, state_dir: state.path }, asked, timeoutMs)
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

async function components(
  job: Job,
  pipeline: Pipeline | undefined,
  statePath: string,
  { registry, log }: DoctorOptions,
): Promise<Asked[]> {
  const holder = existsSync(statePath) ? await holderOf(statePath) : undefined
  const shared = { job: job.name, baseDir: job.baseDir, log, runningPid: holder?.pid, now: Date.now }
  const asked: Asked[] = []
  const add = (
    kind: 'extractor' | 'loader' | 'consumer' | 'transport',
    { id, type, options, optional }: { id: string; type: string; options: unknown; optional: boolean },
    { diagnose: ask = cannotBeAsked }: Diagnosable<unknown>,
    code: ErrorCode,
    columns?: readonly Column[],
  ) => {
    const question = {
      place: type,
      code,
      ask: (env: Pick<DiagnoseEnv, 'answerMs' | 'signal'>) => ask(options, { id, ...shared, columns, ...env }),
    }
    asked.push({ kind, component: kind === 'transport' ? null : id, type, optional, question })
  }
  for (const config of job.extract)
    add('extractor', config, await registry.get('extractor', config.type), 'SOURCE_UNREADABLE')
  for (const config of job.load) {
    const columns = pipeline?.outputs.get(config.input ?? MAIN)?.relation.columns
    add('loader', config, await registry.get('loader', config.type), 'STORE_UNAVAILABLE', columns)
  }
  for (const config of job.distribute)
    add('consumer', config, await registry.get('consumer', config.type), 'CONSUMER_UNAVAILABLE')
  const lineage = await lineageConfig(job, registry, process.env, (text) => log.warn(text))
  if (lineage !== undefined) {
    const { type, options, definition } = lineage
    // A transport that fails costs a run nothing.
    add('transport', { id: 'lineage', type, options, optional: true }, definition, 'LOCAL_IO')
  }
  return asked
}

function cannotBeAsked(): Diagnosis {
  return diagnosisAt('its place', async function* (at) {
    yield at.unknown('reachable', 'this type of component cannot be asked', 'try it with a run on a few records')
  })
}

async function reportOf(
  about: Pick<DoctorReport, 'job' | 'file' | 'state_dir'>,
  asked: readonly Asked[],
  timeoutMs: number,
): Promise<DoctorReport> {
  const answers = await diagnoseAll(
    asked.map(({ question }) => question),
    timeoutMs,
  )
  const findings = asked.flatMap((who, index) => inOrder(answers[index] ?? []).map((finding) => told(who, finding)))
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
