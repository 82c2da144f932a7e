/** Mistakes found by zod, in the words of a job file. */
import type { z } from 'zod'
import { redact } from './secrets.ts'
import { didYouMean, orList } from './suggest.ts'

type Issue = z.core.$ZodIssue

/** Stands for "no message of its own": zod's own texts speak of types of a programming language. */
export const PLAIN = '\u0000'

const TYPES: Readonly<Record<string, string>> = {
  string: 'text',
  number: 'a number',
  int: 'a whole number',
  bigint: 'a whole number',
  boolean: '`true` or `false`',
  array: 'a list',
  object: 'a map',
  record: 'a map',
  null: 'nothing',
  never: 'nothing',
}

export interface Wording {
  readonly message: string
  readonly suggestion?: string | undefined
}

/** What is wrong with `value`, which stands where the issue is. */
export function wording(issue: Issue, value: unknown): Wording {
  if (issue.message !== PLAIN) return { message: issue.message }
  switch (issue.code) {
    case 'invalid_type':
      return mismatch([TYPES[issue.expected] ?? issue.expected], value)
    case 'invalid_value':
      return invalidValue(issue.values.map(String), value)
    case 'too_small':
      return {
        message: bound(issue.origin, issue.minimum, issue.inclusive === false ? 'more than' : 'at least', value),
      }
    case 'too_big':
      return { message: bound(issue.origin, issue.maximum, issue.inclusive === false ? 'less than' : 'at most', value) }
    case 'invalid_union':
      return union(issue, value)
    case 'invalid_format':
      return { message: `${shown(value)} does not have the form ${issue.pattern ?? issue.format}` }
    case 'not_multiple_of':
      return { message: `expected a multiple of ${issue.divisor}, got ${shown(value)}` }
    default:
      return { message: `${shown(value)} does not fit here` }
  }
}

/** true: the value is of another kind than this issue's schema speaks of, so that another alternative was meant. */
export function wrongKind(issue: Issue, value: unknown): boolean {
  if (issue.path.length > 0) return false
  if (issue.code === 'invalid_type') return true
  if (issue.code === 'invalid_union')
    return issue.errors.every((errors) => errors.some((each) => wrongKind(each, value)))
  return issue.code === 'invalid_value' && issue.values.every((each) => typeof each !== typeof value)
}

function mismatch(expected: readonly string[], value: unknown): Wording {
  const words = [...new Set(expected)]
  const list = words.length < 2 ? words.join('') : `${words.slice(0, -1).join(', ')} or ${words.at(-1)}`
  const quote = list === 'text' && typeof value !== 'object' ? 'put it in quotes' : undefined
  return { message: `expected ${list}, got ${shown(value)}`, suggestion: quote }
}

function invalidValue(values: readonly string[], value: unknown): Wording {
  const suggestion = typeof value === 'string' ? didYouMean(value, values) : undefined
  return { message: `expected ${orList(values)}, got ${shown(value)}`, suggestion }
}

function union(issue: Extract<Issue, { code: 'invalid_union' }>, value: unknown): Wording {
  if ('options' in issue && issue.options !== undefined) return invalidValue(issue.options.map(String), value)
  const roots = issue.errors.flat().filter((each) => each.path.length === 0)
  const own = roots.find((each) => each.message !== PLAIN)
  if (own !== undefined) return { message: own.message }
  const values = roots.flatMap((each) => (each.code === 'invalid_value' ? each.values.map(String) : []))
  if (values.length === 0 || values.length < roots.length)
    return mismatch([...roots.flatMap(kinds), ...values.map((each) => `\`${each}\``)], value)
  return invalidValue(values, value)
}

function kinds(issue: Issue): string[] {
  return issue.code === 'invalid_type' ? [TYPES[issue.expected] ?? issue.expected] : []
}

function bound(origin: string, limit: number | bigint, relation: string, value: unknown): string {
  if (origin === 'string') return value === '' ? 'must not be empty' : `must have ${relation} ${limit} characters`
  if (origin === 'array' || origin === 'set' || origin === 'object')
    return `needs ${relation} ${limit} ${Number(limit) === 1 ? 'entry' : 'entries'}`
  return `must be ${relation} ${limit}, got ${shown(value)}`
}

/** The value in a few words. */
function shown(value: unknown): string {
  if (value === null || value === undefined) return 'nothing'
  if (Array.isArray(value)) return 'a list'
  if (typeof value === 'object') return 'a map'
  if (typeof value === 'boolean') return `\`${value}\``
  if (typeof value !== 'string') return `the number ${value}`
  // Redacted before it is cut: the first half of a secret is no longer recognised.
  const clean = redact(value)
  return clean === '' ? 'an empty text' : `\`${clean.length > 60 ? `${clean.slice(0, 60)}…` : clean}\``
}
