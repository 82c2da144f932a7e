/** The job file: whether it can be read, what its variables have given, whether its SQL compiles. */
import type { Diagnosis, Finding } from '../core/diagnosis.ts'
import type { AdflowError, ErrorCode } from '../core/errors.ts'
import { diagnosisAt, type Findings } from '../core/findings.ts'
import type { Job } from '../core/job/job.ts'
import type { Problem } from '../core/job/problems.ts'

/** A file that cannot be read as a job: each mistake of it. */
export function brokenJob(file: string, error: AdflowError): Diagnosis {
  return diagnosisAt(file, async function* (at) {
    yield* problems(at, error)
  })
}

/** `refusal`: why its SQL does not compile. */
export function diagnoseJob(job: Job, refusal: unknown): Diagnosis {
  return diagnosisAt(job.file, async function* (at) {
    if (refusal === undefined) yield at.ok('job', 'no mistake')
    else yield* problems(at, refusal)
    for (const { code, path, message, suggestion } of job.unresolved)
      yield at.failed('secrets', code, `${message} (${job.at(path)})`, suggestion ?? 'give it a value')
    if (job.unresolved.length > 0) return
    const secrets = Object.entries(job.used.secrets)
    yield at.ok('secrets', secrets.length === 0 ? 'none is asked for' : secrets.map(resolved).join(', '))
  })
}

function resolved([name, value]: readonly [string, string | null]): string {
  return value === null ? `${name} by its default` : `${name} is set`
}

function* problems(at: Findings, error: unknown): Generator<Finding> {
  const failure = at.failure('job', error)
  const listed = (error as AdflowError).details?.['problems'] as readonly Problem[] | undefined
  if (listed === undefined || failure.status !== 'failed') {
    yield failure
    return
  }
  for (const { at: place, message, suggestion } of listed) {
    const found = `${message} (${place})`
    yield { ...failure, check: checkOf(failure.code), found, mend: suggestion ?? 'see `adflow lint`' }
  }
}

function checkOf(code: ErrorCode): 'secrets' | 'job' {
  return code === 'VARIABLE_MISSING' || code === 'SECRET_UNREADABLE' ? 'secrets' : 'job'
}
