/** Column names in the options of steps: found or refused with a suggestion, at their place in the job file. */
import type { Column, Relation } from '../core/contracts.ts'
import { AdflowError } from '../core/errors.ts'
import { didYouMean } from '../core/job/suggest.ts'
import type { Expression } from '../core/step-contract.ts'
import { columnNamed } from './relation.ts'

type Path = Expression['path']

/** Names that start so are adflow's own: ROW and the helpers inside a step's SQL. */
const RESERVED = '__'

/** @throws AdflowError SQL_INVALID naming the columns that there are. */
export function requireColumn(relation: Relation, name: string, path: Path, of = 'the rows that arrive here'): Column {
  const column = columnNamed(relation, name)
  if (column !== undefined) return column
  const names = relation.columns.map((known) => known.name)
  const suggestion = didYouMean(name, names)
  throw invalidStep(`no column ${name} in ${of}`, path, [suggestion, `there are: ${names.join(', ')}`])
}

/** Refuses output names that are empty, reserved or doubled; the engine compares names without case. */
export function checkNames(columns: readonly { readonly name: string; readonly path: Path }[]): void {
  const seen = new Set<string>()
  for (const { name, path } of columns) {
    if (name === '') throw invalidStep('a column needs a name', path)
    if (name.startsWith(RESERVED))
      throw invalidStep(`column names that start with ${RESERVED} are reserved: ${name}`, path)
    if (seen.has(name.toLowerCase()))
      throw invalidStep(`two columns would be named ${name}`, path, ['names differ by more than upper and lower case'])
    seen.add(name.toLowerCase())
  }
}

/** Passed-on columns need no place of their own: they were checked where they came from. */
export function placed(columns: readonly Column[], path: Path): { name: string; path: Path }[] {
  return columns.map(({ name }) => ({ name, path }))
}

export function invalidStep(message: string, path: Path, hints: readonly (string | undefined)[] = []): AdflowError {
  const hint = hints.filter((line) => line !== undefined).join('; ')
  return new AdflowError('SQL_INVALID', message, { ...(hint === '' ? {} : { hint }), details: { path } })
}

/** The expression as one operand. The line break ends a trailing comment. */
export function operand(sql: string): string {
  return `(${sql}\n)`
}

/** What the expressions are made of, each once. */
export function union(sources: readonly (readonly string[])[]): string[] {
  return [...new Set(sources.flat())]
}
