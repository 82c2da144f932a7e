/** Mistakes found while compiling, in the same form as those found while reading the job file. */
import { AdflowError } from '../core/errors.ts'
import type { Job } from '../core/job/job.ts'
import type { Problem } from '../core/job/problems.ts'
import { redact } from '../core/job/secrets.ts'

export function problemsError(job: Job, errors: readonly AdflowError[]): AdflowError {
  const problems = errors.map((error) => problemOf(job, error))
  const listed = problems.map(
    ({ at, message, suggestion, excerpt }) =>
      `${at}  ${message}${suggestion === undefined ? '' : ` — ${suggestion}`}\n${excerpt.replace(/^/gm, '    ')}`,
  )
  const count = problems.length === 1 ? 'a mistake' : `${problems.length} mistakes`
  return new AdflowError('JOB_INVALID', `${job.file} has ${count}\n\n${listed.join('\n\n')}`, { details: { problems } })
}

function problemOf(job: Job, error: AdflowError): Problem {
  const path = (error.details?.['path'] ?? []) as (string | number)[]
  return {
    at: job.at(path),
    message: redact(error.message),
    ...(error.hint === undefined ? {} : { suggestion: error.hint }),
    excerpt: job.excerpt(path),
  }
}
