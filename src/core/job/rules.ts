/** The sections contract and validate. */
import type { z } from 'zod'
import { type Checker, isMap } from './checker.ts'
import type { BatchRule, Budget, JobColumn, RowRule } from './job.ts'
import type { Path } from './places.ts'
import { type contract, type RuleKind, ruleKinds, STAGES } from './schema.ts'
import { didYouMean, nearest, orList } from './suggest.ts'

/** Names under which the contract itself rejects records. */
const RESERVED = ['malformed', 'type', 'required', 'unknown']

export function readColumns(checker: Checker, columns: z.output<typeof contract>['columns']): JobColumn[] {
  const seen = new Map<string, string>()
  return Object.entries(columns).map(([name, spec]) => {
    const path = ['contract', 'columns', name]
    const same = seen.get(name.toLowerCase())
    seen.set(name.toLowerCase(), name)
    if (same !== undefined)
      checker.add(
        path,
        `\`${name}\` and \`${same}\` are one column to the engine: names differ only in case`,
        undefined,
        'key',
      )
    const format = 'format' in spec ? spec.format : undefined
    if (format !== undefined && !/^(?:timestamp|date|time)/i.test(spec.type.trim()))
      checker.add([...path, 'format'], `\`format\` is for dates and timestamps, and the column is \`${spec.type}\``)
    return {
      name,
      type: spec.type,
      required: spec.required,
      from: ('from' in spec ? spec.from : undefined) ?? name,
      format,
      description: 'description' in spec ? spec.description : undefined,
      personal: spec.personal,
      path,
    }
  })
}

export interface Rules {
  readonly rowRules: readonly RowRule[]
  readonly batchRules: readonly BatchRule[]
  readonly budgets: readonly Budget[]
}

/** Rules by kind. `columns`: the only columns there are; undefined: others may come with the data. */
export function readRules(checker: Checker, columns: readonly string[] | undefined): Rules {
  const rowRules: RowRule[] = []
  const batchRules: BatchRule[] = []
  const budgets: Budget[] = []
  const ids = new Map<string, string>()
  for (const [index, entry] of checker.rawList(['validate']).entries()) {
    const path = ['validate', index]
    const kind = isMap(entry) ? kindOf(checker, path, entry) : undefined
    if (kind === undefined) continue
    if (kind === 'check') rowRules.push(...some(rowRule(checker, path)))
    else if (kind === 'budget') budgets.push(...some(budget(checker, path)))
    else batchRules.push(...some(batchRule(checker, path, kind, columns)))
    uniqueId(checker, path, ids)
  }
  rowRules.sort((a, b) => STAGES.indexOf(a.stage) - STAGES.indexOf(b.stage))
  return { rowRules, batchRules, budgets }
}

function some<T>(value: T | undefined): T[] {
  return value === undefined ? [] : [value]
}

function kindOf(checker: Checker, path: Path, entry: Readonly<Record<string, unknown>>): RuleKind | undefined {
  const all = Object.keys(ruleKinds) as RuleKind[]
  const kinds = all.filter((kind) => Object.hasOwn(entry, kind))
  if (kinds.length === 1 && !Object.hasOwn(entry, 'repair') && entry['on_fail'] !== 'repair') return kinds[0]
  if (kinds.length === 1) {
    const at = [...path, entry['on_fail'] === 'repair' ? 'on_fail' : 'repair']
    checker.add(at, '`repair` is not available yet', 'use `on_fail: quarantine`', 'key')
    return undefined
  }
  const list = kinds.map((kind) => `\`${kind}\``).join(' and ')
  if (kinds.length > 1) checker.add(path, `a rule has one kind, found ${list}`, 'write one rule for each')
  else {
    const typo = Object.keys(entry).find((key) => key !== 'id' && nearest(key, all) !== undefined)
    if (typo === undefined) checker.add(path, 'the rule does not say what it checks', `give it one of ${orList(all)}`)
    else checker.add([...path, typo], `unknown key \`${typo}\``, didYouMean(typo, all), 'key')
  }
  return undefined
}

function uniqueId(checker: Checker, path: Path, ids: Map<string, string>): void {
  const id = checker.raw([...path, 'id'])
  if (typeof id !== 'string') return
  const at = checker.place([...path, 'id'])
  const first = ids.get(id)
  if (first !== undefined)
    checker.add([...path, 'id'], `a second rule with the id \`${id}\`; the first is at line ${first}`)
  else if (RESERVED.includes(id))
    checker.add([...path, 'id'], `the id \`${id}\` is taken by the contract itself`, 'choose another name')
  else ids.set(id, String(at.line))
}

function rowRule(checker: Checker, path: Path): RowRule | undefined {
  const rule = checker.check(ruleKinds.check, path)
  if (rule === undefined) return undefined
  const { id, check, on_fail: onFail, stage, description } = rule
  return { id, check: { sql: check, path: [...path, 'check'] }, onFail, stage, description, path }
}

function budget(checker: Checker, path: Path): Budget | undefined {
  const rule = checker.check(ruleKinds.budget, path)
  if (rule === undefined) return undefined
  const { ratio, per, then: onExhausted, min_rows: minRows } = rule.budget
  return { ratio, per, onExhausted, minRows, path: [...path, 'budget'] }
}

function batchRule(
  checker: Checker,
  path: Path,
  kind: Exclude<RuleKind, 'check' | 'budget'>,
  columns: readonly string[] | undefined,
): BatchRule | undefined {
  if (kind === 'batch') {
    const rule = checker.check(ruleKinds.batch, path)
    return rule && { kind, ...common(rule, path), check: { sql: rule.batch, path: [...path, 'batch'] } }
  }
  if (kind === 'rows') {
    const rule = checker.check(ruleKinds.rows, path)
    return rule && { kind, ...common(rule, path), min: rule.rows.min, max: rule.rows.max }
  }
  if (kind === 'null_ratio') {
    const rule = checker.check(ruleKinds.null_ratio, path)
    if (rule === undefined) return undefined
    knownColumn(checker, [...path, kind, 'column'], rule.null_ratio.column, columns)
    return { kind, ...common(rule, path), ...rule.null_ratio }
  }
  if (kind === 'unique') {
    const rule = checker.check(ruleKinds.unique, path)
    if (rule === undefined) return undefined
    for (const [index, column] of rule.unique.entries()) knownColumn(checker, [...path, kind, index], column, columns)
    return { kind, ...common(rule, path), columns: rule.unique }
  }
  const rule = checker.check(ruleKinds.freshness, path)
  if (rule === undefined) return undefined
  knownColumn(checker, [...path, kind, 'column'], rule.freshness.column, columns)
  return { kind, ...common(rule, path), column: rule.freshness.column, withinMs: rule.freshness.within }
}

interface Common {
  readonly id: string
  readonly on_fail: 'fail' | 'warn'
  readonly description?: string | undefined
}

function common({ id, on_fail: onFail, description }: Common, path: Path) {
  return { id, onFail, description, path }
}

function knownColumn(checker: Checker, path: Path, name: string, columns: readonly string[] | undefined): void {
  if (columns === undefined || columns.some((column) => column.toLowerCase() === name.toLowerCase())) return
  checker.add(path, `the contract has no column \`${name}\``, didYouMean(name, columns) ?? `it has ${orList(columns)}`)
}
