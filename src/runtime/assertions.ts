/** The rules of a job as assertions that lineage events can tell of. */
import { redact } from '../core/job/secrets.ts'
import { CONTRACT_RULES } from '../engine/read-plan.ts'
import type { Assertion } from '../lineage/openlineage.ts'
import type { Pipeline } from './pipeline.ts'

export function assertionsOf({ job, batchRules, ruleColumns, stages }: Pipeline): Assertion[] {
  const required = job.columns.filter((column) => column.required).map(({ name }) => name)
  const contract: Assertion[] = [
    { id: CONTRACT_RULES.malformed, assertion: 'parses', severity: 'warn', expected: 'the record parses' },
    {
      id: CONTRACT_RULES.type,
      assertion: 'valid_type',
      severity: 'warn',
      expected: 'every value fits the type of its column',
    },
  ]
  if (required.length > 0)
    contract.push({
      id: CONTRACT_RULES.required,
      assertion: 'not_null',
      severity: 'warn',
      ...only(required),
      expected: `there is a value in ${required.join(', ')}`,
    })
  if (job.unknown === 'discard_row')
    contract.push({
      id: CONTRACT_RULES.unknown,
      assertion: 'known_fields',
      severity: 'warn',
      expected: 'the record has no field that the contract does not name',
    })
  const columnsOf = new Map(ruleColumns.map(({ id, columns }) => [id, columns]))
  const rows = job.rowRules.map(({ id, check, onFail, description }) => ({
    id,
    assertion: 'custom_sql',
    severity: severityOf(onFail),
    ...only(columnsOf.get(id) ?? []),
    ...about(description),
    sql: redact(check.sql),
  }))
  const expects = new Map(batchRules.map(({ id, expects: text }) => [id, redact(text)]))
  const batches = job.batchRules.map((rule): Assertion => {
    const base = { id: rule.id, severity: severityOf(rule.onFail), ...about(rule.description) }
    switch (rule.kind) {
      case 'batch':
        return { ...base, assertion: 'custom_sql', sql: redact(rule.check.sql) }
      case 'rows':
        return { ...base, assertion: 'row_count', expected: `${rule.min ?? 0} to ${rule.max ?? 'any number of'} rows` }
      case 'unique':
        return { ...base, assertion: 'unique', ...only(rule.columns), expected: expects.get(rule.id) ?? '' }
      default:
        return { ...base, assertion: rule.kind, column: rule.column, expected: expects.get(rule.id) ?? '' }
    }
  })
  // Steps send records to quarantine as well: an expression that fails, a key that is not found.
  const steps = stages
    .filter(({ guarded }) => guarded.expressions.length > 0 || guarded.drops?.as === 'quarantined')
    .map(({ id, verb }) => ({
      id,
      assertion: 'transforms',
      severity: 'warn' as const,
      expected: `the step ${verb} can be computed for the record`,
    }))
  const budgets = job.budgets.map(({ ratio, onExhausted }) => ({
    id: 'budget',
    assertion: 'error_budget',
    severity: severityOf(onExhausted),
    expected: `at most ${ratio * 100} % of the records rejected`,
  }))
  return [...contract, ...rows, ...batches, ...steps, ...budgets]
}

/** By the words of OpenLineage an `error` stops the pipeline; rows alone do not. */
function severityOf(onFail: string): Assertion['severity'] {
  return onFail === 'fail' ? 'error' : 'warn'
}

function only(columns: readonly string[]): { column?: string } {
  const [column, ...others] = columns
  return column === undefined || others.length > 0 ? {} : { column }
}

function about(description: string | undefined): { description?: string } {
  return description === undefined ? {} : { description }
}
