/** Results of the tests of jobs, a line each. */
import type { TestResult } from '../runtime/job-tests.ts'

export interface JobReport {
  readonly job: string
  readonly file: string
  readonly tests: readonly TestResult[]
  /** The job could not be read or compiled. */
  readonly error?: string
}

export interface TestReport {
  readonly schema_version: 1
  readonly passed: number
  readonly failed: number
  readonly jobs: readonly JobReport[]
  /** Files of jobs that have no tests. */
  readonly without_tests: readonly string[]
}

export function testText({ name, ok, ms, at, problems }: TestResult): string {
  const lines = [`  ${ok ? '✔' : '✖'} ${name} (${ms} ms)${ok ? '' : ` — ${at}`}`]
  for (const problem of problems) lines.push(problem.replace(/^/gm, '      '))
  return lines.join('\n')
}

export function reportText({ passed, failed, without_tests }: TestReport): string {
  const lines = without_tests.map((file) => `no tests: ${file}`)
  const parts = [`${passed} passed`, ...(failed === 0 ? [] : [`${failed} failed`])]
  return [...lines, `${failed === 0 ? '✔' : '✖'} ${parts.join(', ')}`].join('\n')
}
