/** Other processes of adflow that the daemon starts. */
import { execFile } from 'node:child_process'
import { AdflowError } from '../core/errors.ts'
import type { LintReport } from '../runtime/lint.ts'

/** What only the daemon may know. */
const PRIVATE = ['ADFLOW_DAEMON_TOKEN', 'NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID']
/** Reports of many files with many mistakes. */
const REPORT_BYTES = 64_000_000
const LINT_MS = 120_000

export function childEnvironment(): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !PRIVATE.includes(name)))
}

/** The engine that lint needs stays out of the daemon: neither its memory nor a crash of it. `program`: bin/run.js. */
export function lintApart(program: string, files: readonly string[]): Promise<LintReport> {
  return new Promise((resolve, reject) => {
    execFile(
      process.execPath,
      [program, 'lint', ...files, '--json'],
      { maxBuffer: REPORT_BYTES, timeout: LINT_MS, env: childEnvironment() },
      (error, stdout) => {
        try {
          const report = JSON.parse(stdout) as LintReport
          if (!Array.isArray(report.files)) throw new Error(stdout.slice(0, 500))
          resolve(report)
        } catch (cause) {
          const message = 'cannot check the job files: lint gave no report'
          reject(new AdflowError('UNEXPECTED', message, { cause: error ?? cause }))
        }
      },
    )
  })
}
