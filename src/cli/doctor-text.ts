/** What the doctor found, for people: by component, what is wrong with how to mend it. */
import type { DoctorFinding, DoctorReport } from '../runtime/doctor.ts'

const MARKS: Readonly<Record<DoctorFinding['status'], string>> = { ok: '✔', warning: '!', unknown: '?', failed: '✖' }
/** The worst first. */
const WORST = ['failed', 'warning', 'unknown', 'ok'] as const

export function doctorText({ job, file, findings, counts }: DoctorReport): string {
  const width = Math.max(...findings.map(({ check }) => check.length))
  const groups = Map.groupBy(findings, (finding) => `${headOf(finding)} ${finding.place}`)
  const { ok, warning, unknown, failed } = counts
  const parts = [
    `${failed} failed`,
    `${warning} ${warning === 1 ? 'warning' : 'warnings'}`,
    ...(unknown === 0 ? [] : [`${unknown} could not be asked`]),
    `${ok} well`,
  ]
  const open = job === null ? '; nothing that the job names could be asked before its file is mended' : ''
  return [
    `${job ?? file}`,
    ...[...groups.values()].map((group) => groupText(group, width)),
    `${failed === 0 ? MARKS.ok : MARKS.failed} ${job ?? file}: ${parts.join(', ')}${open}`,
  ].join('\n\n')
}

function groupText(group: readonly DoctorFinding[], width: number): string {
  const status = WORST.find((each) => group.some((finding) => finding.status === each)) ?? 'ok'
  const [first] = group
  const head =
    first === undefined ? '' : [MARKS[status], headOf(first), first.place].filter((part) => part !== '').join(' ')
  const lines = group.flatMap(({ check, status, found, mend }) => [
    `  ${MARKS[status]} ${check.padEnd(width)}  ${found}`,
    ...(mend === null ? [] : [`    ${''.padEnd(width)}  → ${mend}`]),
  ])
  return [head, ...lines].join('\n')
}

function headOf({ kind, component, type }: DoctorFinding): string {
  if (kind === 'machine') return ''
  const who = component === null ? kind : `${kind} ${component}`
  if (type !== null) return `${who} (${type}) at`
  return component === null ? who : `${who} at`
}
