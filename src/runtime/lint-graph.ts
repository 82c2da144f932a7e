/** Jobs that wait for other jobs of their folder: do these exist, and does nobody wait for itself? */
import { readdir, readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { AdflowError } from '../core/errors.ts'
import { graphProblems } from '../core/job/graph.ts'
import type { Job } from '../core/job/job.ts'
import { type LoadOptions, loadJob } from '../core/job/load.ts'
import { problemsError } from './job-problems.ts'

/** @throws AdflowError JOB_INVALID */
export async function checkGraph(job: Job, options: LoadOptions): Promise<void> {
  if (job.schedule === undefined || job.schedule.after.length === 0) return
  const jobs: Job[] = [job]
  const broken = new Set<string>()
  const folder = dirname(job.file)
  for (const name of (await readdir(folder)).filter((each) => /^[^.].*\.ya?ml$/.test(each)).sort()) {
    const file = join(folder, name)
    if (file === job.file) continue
    try {
      jobs.push(await loadJob(file, options))
    } catch (error) {
      if (!(error instanceof AdflowError)) throw error
      // Its mistakes are its own; it is there all the same.
      const found = /^name:\s*["']?(\w+)/m.exec(await readFile(file, 'utf8').catch(() => ''))?.[1]
      if (found !== undefined) broken.add(found)
    }
  }
  const problems = graphProblems(jobs, broken).filter((problem) => problem.job === job.name)
  if (problems.length === 0) return
  throw problemsError(
    job,
    problems.map(
      ({ message, suggestion, path }) =>
        new AdflowError('JOB_INVALID', message, { hint: suggestion, details: { path } }),
    ),
  )
}
