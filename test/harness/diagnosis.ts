/** A component's diagnosis, asked for as `adflow doctor` does. */
import pino from 'pino'
import type { Column } from '../../src/core/contracts.ts'
import type { Diagnosable, DiagnoseEnv, Finding } from '../../src/core/diagnosis.ts'
import { diagnoseAll } from '../../src/runtime/diagnose.ts'

export interface DiagnosisOptions extends Partial<Pick<DiagnoseEnv, 'baseDir' | 'runningPid' | 'now'>> {
  readonly columns?: readonly Column[]
  readonly timeoutMs?: number
}

/** `options` as they stand in a job file. */
export async function diagnosed<Options>(
  definition: Diagnosable<Options> & { readonly options: { parse(value: unknown): Options } },
  options: Readonly<Record<string, unknown>>,
  { columns, timeoutMs = 10_000, ...env }: DiagnosisOptions = {},
): Promise<readonly Finding[]> {
  const { diagnose } = definition
  if (diagnose === undefined) throw new Error('the component has no diagnose()')
  const common = { id: 'it', job: 'diagnosed', baseDir: process.cwd(), log: pino({ level: 'silent' }) }
  const own = { ...common, columns, runningPid: undefined, now: Date.now, ...env }
  const parsed = definition.options.parse(options)
  const question = {
    place: 'nowhere',
    code: 'STORE_UNAVAILABLE',
    ask: (limits: Pick<DiagnoseEnv, 'answerMs' | 'signal'>) => diagnose(parsed, { ...own, ...limits }),
  } as const
  const [findings = []] = await diagnoseAll([question], timeoutMs)
  return findings
}

/** check → status, with the code of one that failed. */
export function statuses(findings: readonly Finding[]): Readonly<Record<string, string>> {
  return Object.fromEntries(
    findings.map((finding) => [finding.check, finding.status === 'failed' ? `failed ${finding.code}` : finding.status]),
  )
}
