/** What the loaders of a job make of their options and of the columns that reach them, before any store is touched. */

import { AdflowError } from '../core/errors.ts'
import type { LoaderRemark } from '../core/loader-check.ts'
import type { Registry } from '../core/registry.ts'
import { createAnalysis } from '../engine/analysis.ts'
import type { Session } from '../engine/session.ts'
import { problemsError } from './job-problems.ts'
import { MAIN, type Pipeline } from './pipeline.ts'

/** The warnings. @throws AdflowError JOB_INVALID with the mistakes of all loaders. */
export async function checkLoaders(
  pipeline: Pipeline,
  session: Session,
  registry: Registry,
): Promise<readonly LoaderRemark[]> {
  const { job } = pipeline
  const analysis = await createAnalysis(session)
  const mistakes: AdflowError[] = []
  const warnings: LoaderRemark[] = []
  for (const { type, options, path, input } of job.load) {
    const definition = await registry.get('loader', type)
    const columns = pipeline.outputs.get(input ?? MAIN)?.relation.columns ?? []
    try {
      for (const remark of (await definition.check?.(options, { path, columns, analysis })) ?? [])
        if (remark.kind === 'warning') warnings.push(remark)
        else mistakes.push(mistakeOf(remark))
    } catch (error) {
      if (!(error instanceof AdflowError) || error.details?.['path'] === undefined) throw error
      mistakes.push(error)
    }
  }
  if (mistakes.length > 0) throw problemsError(job, mistakes)
  return warnings
}

export function mistakeOf({ message, hint, path }: LoaderRemark): AdflowError {
  return new AdflowError('JOB_INVALID', message, { ...(hint === undefined ? {} : { hint }), details: { path } })
}
