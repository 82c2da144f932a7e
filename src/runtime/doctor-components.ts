/** Which components of a job are asked how their systems are, and what they are told for it. */
import type { Logger } from 'pino'
import type { Column } from '../core/contracts.ts'
import type { Diagnosable, DiagnoseEnv, Diagnosis } from '../core/diagnosis.ts'
import type { ErrorCode } from '../core/errors.ts'
import { diagnosisAt } from '../core/findings.ts'
import type { Job } from '../core/job/job.ts'
import type { Registry } from '../core/registry.ts'
import type { Asked } from './doctor.ts'
import { lineageConfig } from './lineage-config.ts'
import { MAIN, type Pipeline } from './pipeline.ts'
import type { StateDir } from './state-dir.ts'

export interface ComponentsToAsk {
  readonly job: Job
  readonly registry: Registry
  readonly log: Logger
  /** undefined: the SQL of the job does not compile. */
  readonly pipeline: Pipeline | undefined
  readonly runningPid: number | undefined
  readonly state: StateDir
}

const SECTIONS = {
  extract: { kind: 'extractor', code: 'SOURCE_UNREADABLE' },
  load: { kind: 'loader', code: 'STORE_UNAVAILABLE' },
  distribute: { kind: 'consumer', code: 'CONSUMER_UNAVAILABLE' },
} as const satisfies Record<string, { kind: Asked['kind']; code: ErrorCode }>

type Section = keyof typeof SECTIONS

interface Component {
  readonly id: string
  readonly type: string
  readonly options: unknown
  readonly optional: boolean
}

export async function askedComponents(about: ComponentsToAsk): Promise<Asked[]> {
  const { job, registry, log, pipeline, runningPid, state } = about
  const shared = { job: job.name, baseDir: job.baseDir, log, runningPid, now: Date.now }
  const question = (
    { id, type, options }: Component,
    { diagnose = () => notAsked('this type of component cannot be asked', 'try it with a run') }: Diagnosable<unknown>,
    code: ErrorCode,
    columns?: readonly Column[],
  ): Asked['question'] => ({
    place: type,
    code,
    ask: (env: Pick<DiagnoseEnv, 'answerMs' | 'signal'>) =>
      diagnose(options, { id, ...shared, stageDir: state.stagedOf(id), columns, ...env }),
  })
  const asked: Asked[] = []
  for (const section of ['extract', 'load', 'distribute'] as const) {
    const { kind, code } = SECTIONS[section]
    for (const config of job[section]) {
      const { id: component, type, optional } = config
      const columns =
        'input' in config && section === 'load'
          ? pipeline?.outputs.get(config.input ?? MAIN)?.relation.columns
          : undefined
      const lacking = lackingOf(job, section, component, type)
      const own: Diagnosable<unknown> = lacking === undefined ? await registry.get(kind, type) : { diagnose: lacking }
      asked.push({ kind, component, type, optional, question: question(config, own, code, columns) })
    }
    asked.push(...leftOut(job, section))
  }
  for (const { step, source } of pipeline?.references ?? [])
    if (source.kind === 'query') {
      const config = { id: step.id, type: step.verb, options: undefined, optional: false }
      const own = { kind: 'step', component: step.id, type: step.verb, optional: false } as const
      asked.push({
        ...own,
        question: question(config, { diagnose: (_, env) => source.diagnose(env) }, 'SOURCE_UNREADABLE'),
      })
    }
  const lineage = await lineageConfig(job, registry, process.env, (text) => log.warn(text))
  if (lineage !== undefined) {
    const { type, options, definition } = lineage
    // A transport that fails costs a run nothing.
    const config = { id: 'lineage', type, options, optional: true }
    const own = { kind: 'transport', component: null, type, optional: true } as const
    asked.push({ ...own, question: question(config, definition, 'LOCAL_IO') })
  }
  return asked
}

/** What a component says whose options have no value; undefined: they all have. */
function lackingOf({ unresolved }: Job, section: Section, id: string, type: string): (() => Diagnosis) | undefined {
  const lacking = unresolved.find(
    ({ path: [first, second, third] }) =>
      (first === section && second === id) || (first === 'defaults' && second === section && third === type),
  )
  return lacking === undefined ? undefined : () => notAsked(lacking.message, lacking.suggestion)
}

/** Components that could not even be read. */
function leftOut({ unresolved, ...job }: Job, section: Section): Asked[] {
  const { kind, code } = SECTIONS[section]
  const read = new Set(job[section].map(({ id }) => id))
  const lacking = new Map(
    unresolved.flatMap((each) => {
      const { path } = each
      return path[0] === section && !read.has(String(path[1])) ? [[String(path[1]), each] as const] : []
    }),
  )
  return [...lacking].map(([component, { message, suggestion }]) => ({
    ...{ kind, component, type: null },
    question: { place: component, code, ask: () => notAsked(message, suggestion) },
  }))
}

function notAsked(why: string, mend = 'give it a value'): Diagnosis {
  return diagnosisAt('its place', async function* (at) {
    yield at.unknown('reachable', `not asked: ${why}`, mend)
  })
}
