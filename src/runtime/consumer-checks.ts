/** What the consumers of a job get, and what they make of it, before anything is distributed. */
import type { Column } from '../core/contracts.ts'
import { AdflowError } from '../core/errors.ts'
import type { JobConsumer } from '../core/job/job.ts'
import type { LoaderRemark } from '../core/loader-check.ts'
import type { Registry } from '../core/registry.ts'
import type { Analysis } from '../core/step-contract.ts'
import { createAnalysis } from '../engine/analysis.ts'
import { emptyRelation } from '../engine/relation.ts'
import type { Session } from '../engine/session.ts'
import { problemsError } from './job-problems.ts'
import { mistakeOf } from './loader-checks.ts'
import type { Pipeline } from './pipeline.ts'

/** The warnings. @throws AdflowError JOB_INVALID with the mistakes of all consumers. */
export async function checkConsumers(
  pipeline: Pipeline,
  session: Session,
  registry: Registry,
): Promise<readonly LoaderRemark[]> {
  const { job } = pipeline
  if (job.distribute.length === 0) return []
  const analysis = await createAnalysis(session)
  const mistakes: AdflowError[] = []
  const warnings: LoaderRemark[] = []
  for (const consumer of job.distribute) {
    const { type, options, path } = consumer
    try {
      const columns = await consumerColumns(consumer, pipeline, analysis)
      const { check } = await registry.get('consumer', type)
      for (const remark of (await check?.(options, { path, columns, analysis })) ?? [])
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

/** What reaches the consumer. @throws AdflowError at the expression that is wrong. */
async function consumerColumns(
  { input, select, where, key, path }: JobConsumer,
  { outputs }: Pipeline,
  analysis: Analysis,
): Promise<readonly Column[]> {
  const output = outputs.get(input)
  if (output === undefined)
    throw new AdflowError('JOB_INVALID', `\`${input}\` is not the output of a step`, {
      hint: `outputs: ${[...outputs.keys()].join(', ')}`,
      details: { path: [...path, 'input'] },
    })
  const { columns } = output.relation
  const over = emptyRelation(columns)
  if (where !== undefined) {
    const { type } = await analysis.row(where, over)
    if (type !== 'BOOLEAN' && type !== '"NULL"')
      throw new AdflowError('SQL_INVALID', `\`where\` must be true or false; this is ${type}`, {
        details: { path: where.path },
      })
  }
  if (key !== undefined) await analysis.row(key, over)
  if (select === undefined) return columns
  const chosen: Column[] = []
  for (const { name, expression } of select) {
    if (chosen.some((other) => other.name.toLowerCase() === name.toLowerCase()))
      throw new AdflowError('JOB_INVALID', `the column ${name} is selected twice`, {
        hint: 'names are unique without regard to case',
        details: { path: expression.path },
      })
    chosen.push({ name, ...(await analysis.row(expression, over)) })
  }
  return chosen
}
