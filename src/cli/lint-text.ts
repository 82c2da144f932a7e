/** What lint found, for people. */
import type { Problem } from '../core/job/problems.ts'
import type { LintReport } from '../runtime/lint.ts'

export function lintText({ files }: LintReport): string {
  const parts = files.flatMap(({ problems, warnings }) => [
    ...problems.map((problem) => finding('error', problem)),
    ...warnings.map((warning) => finding(`warning ${warning.rule}`, warning)),
  ])
  const mistakes = files.reduce((total, { problems }) => total + problems.length, 0)
  const warnings = files.reduce((total, file) => total + file.warnings.length, 0)
  const mark = mistakes > 0 ? '✖' : '✔'
  return [
    ...parts,
    `${mark} ${count(files.length, 'job file')}: ${count(mistakes, 'mistake')}, ${count(warnings, 'warning')}`,
  ].join('\n\n')
}

function finding(label: string, { at, message, suggestion, excerpt }: Problem): string {
  const hint = suggestion === undefined ? '' : `\n  → ${suggestion}`
  return `${at}  ${label}: ${message}\n${excerpt.replace(/^/gm, '    ')}${hint}`
}

function count(number: number, what: string): string {
  return `${number === 0 ? 'no' : number} ${what}${number === 1 ? '' : 's'}`
}
