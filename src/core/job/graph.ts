/** Which job waits for which: names that lead nowhere, and circles, at their places in the files. */
import type { Job } from './job.ts'
import type { Path } from './places.ts'

export interface GraphProblem {
  readonly job: string
  readonly path: Path
  /** file:line:column. */
  readonly at: string
  readonly message: string
  readonly suggestion: string
}

/** `jobs`: all of a folder that can be read; `others`: names of those that cannot; `decidedIn`: which daemons know how often a job has
 *  ended well: no others can wait for it. */
export function graphProblems(
  jobs: readonly Job[],
  others: ReadonlySet<string> = new Set(),
  decidedIn: (job: Job) => string = () => '',
): GraphProblem[] {
  const byName = new Map(jobs.map((job) => [job.name, job]))
  return jobs.flatMap((job) =>
    (job.schedule?.after ?? []).flatMap((name, index) => {
      const path = ['schedule', 'after', index]
      const problem = (message: string, suggestion: string): GraphProblem[] => [
        { job: job.name, path, at: job.at(path), message, suggestion },
      ]
      if (others.has(name)) return []
      if (!byName.has(name))
        return problem(
          `there is no job \`${name}\` in the folder`,
          `jobs here: ${[...byName.keys()].sort().join(', ')}`,
        )
      if (byName.get(name)?.stream.forever === true)
        return problem(
          `the job \`${name}\` goes on for ever: it has no end that could be waited for`,
          'take it out, or give this job a `cron`',
        )
      const upstream = byName.get(name)
      if (upstream !== undefined && decidedIn(upstream) !== decidedIn(job))
        return problem(
          `the job \`${name}\` keeps its state elsewhere: whoever decides about this one does not know when it has ended`,
          'give both the same `state`',
        )
      const circle = wayTo(job.name, name, byName)
      return circle === undefined
        ? []
        : problem(`jobs wait for each other: ${[job.name, ...circle].join(' → ')}`, 'take one of the names out')
    }),
  )
}

/** From `from` by what each job waits for to `goal`, both included. */
function wayTo(goal: string, from: string, jobs: ReadonlyMap<string, Job>): string[] | undefined {
  const walk = (name: string, seen: ReadonlySet<string>): string[] | undefined => {
    if (name === goal) return [name]
    if (seen.has(name)) return undefined
    for (const next of jobs.get(name)?.schedule?.after ?? []) {
      const rest = walk(next, new Set([...seen, name]))
      if (rest !== undefined) return [name, ...rest]
    }
    return undefined
  }
  return walk(from, new Set())
}
