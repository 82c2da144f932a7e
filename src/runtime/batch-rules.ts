/** Rules over a whole batch: asked after the row rules and before anything of the batch is loaded. */
import type { Relation } from '../core/contracts.ts'
import { AdflowError } from '../core/errors.ts'
import type { BatchRule, Job } from '../core/job/job.ts'
import type { Analysis } from '../core/step-contract.ts'
import { columnNamed, withoutRow } from '../engine/relation.ts'
import { ident } from '../engine/sql-text.ts'

export interface CompiledBatchRule {
  readonly id: string
  readonly onFail: 'fail' | 'warn'
  /** SELECT of one boolean `ok` and a text `seen`; NULL passes. */
  readonly sql: string
  /** What is expected, for messages. */
  readonly expects: string
}

export async function compileBatchRules(job: Job, rows: Relation, analysis: Analysis): Promise<CompiledBatchRule[]> {
  const compiled: CompiledBatchRule[] = []
  for (const rule of job.batchRules) {
    // `rows` is a rule over the run: a batch is as large as its chunk happens to be.
    if (rule.kind !== 'rows')
      compiled.push({ id: rule.id, onFail: rule.onFail, ...(await sqlOf(rule, rows, analysis)) })
  }
  return compiled
}

async function sqlOf(rule: BatchRule, rows: Relation, analysis: Analysis): Promise<{ sql: string; expects: string }> {
  const from = `FROM (${withoutRow(rows)})`
  switch (rule.kind) {
    case 'batch': {
      const { type } = await analysis.aggregate(withBaseline(rule.check, 'NULL::DOUBLE'), rows)
      if (type !== 'BOOLEAN' && type !== '"NULL"')
        throw new AdflowError('SQL_INVALID', `a batch rule must be true or false; this is ${type}`, {
          details: { path: rule.check.path },
        })
      return {
        sql: `SELECT (${withBaseline(rule.check, '$baseline').sql}\n) AS ok, count(*) || ' rows' AS seen ${from}`,
        expects: rule.check.sql,
      }
    }
    case 'null_ratio': {
      const column = ident(known(rows, rule.column, rule.path))
      const nulls = `count(*) FILTER (WHERE ${column} IS NULL)`
      return {
        sql: `SELECT count(*) = 0 OR ${nulls} <= ${rule.max} * count(*) AS ok, ${nulls} || ' of ' || count(*) AS seen ${from}`,
        expects: `at most ${rule.max} of ${rule.column} missing`,
      }
    }
    case 'unique': {
      const columns = rule.columns.map((name) => ident(known(rows, name, rule.path))).join(', ')
      return {
        sql: `SELECT coalesce(max(n), 1) = 1 AS ok, count(*) FILTER (WHERE n > 1) || ' repeated keys' AS seen FROM (SELECT count(*) AS n ${from} GROUP BY ${columns})`,
        expects: `${rule.columns.join(', ')} unique in the batch`,
      }
    }
    case 'freshness': {
      const column = ident(known(rows, rule.column, rule.path))
      return {
        sql: `SELECT max(${column})::TIMESTAMP >= timezone('UTC', now()) - to_milliseconds(${rule.withinMs}) AS ok, 'newest ' || max(${column}) AS seen ${from}`,
        expects: `${rule.column} not older than ${rule.withinMs / 1000} s`,
      }
    }
    default:
      throw new AdflowError('UNEXPECTED', `batch rule ${rule.id} has no SQL`)
  }
}

/** `baseline` in a `batch:` expression: the mean number of rows of the job's earlier batches; NULL before there are any. */
function withBaseline<E extends { readonly sql: string }>(expression: E, value: string): E {
  return { ...expression, sql: expression.sql.replace(/\bbaseline\b/gi, value) }
}

function known(rows: Relation, name: string, path: readonly (string | number)[]): string {
  const column = columnNamed(rows, name)
  if (column === undefined)
    throw new AdflowError('SQL_INVALID', `there is no column \`${name}\``, {
      hint: `columns: ${rows.columns.map((one) => one.name).join(', ')}`,
      details: { path },
    })
  return column.name
}
