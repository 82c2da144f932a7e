/**
 * `${VAR}`, `${VAR:-default}`, `${VAR:?message}`, `${file:/run/secrets/x}`; `$${` is a literal `${`.
 * Works on parsed scalars only, so that a value can never become YAML.
 */
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import type { Path } from './places.ts'
import { isSecretName, registerSecret } from './secrets.ts'

export type Environment = Readonly<Record<string, string | undefined>>

export interface Interpolated {
  readonly value: unknown
  /** The same with every secret still as `${…}`: what may be digested and shown. */
  readonly published: unknown
  /** JSON of the paths of scalars that were exactly one substitution: their text may be read as a number or a boolean. */
  readonly whole: ReadonlySet<string>
  /** What stood behind each `${…}`: to read the same text again as it was. */
  readonly used: Used
  readonly failures: readonly Failure[]
}

export interface Used {
  /** Variable → value; null: it was not set, and a default stood in. */
  readonly variables: Readonly<Record<string, string | null>>
  /** The same for secrets, secret files under `file:<path>`. Never to be written anywhere. */
  readonly secrets: Readonly<Record<string, string | null>>
}

export interface Failure {
  readonly path: Path
  readonly code: 'JOB_INVALID' | 'VARIABLE_MISSING' | 'SECRET_UNREADABLE'
  readonly message: string
  readonly suggestion?: string
}

interface Context {
  readonly env: Environment
  readonly baseDir: string
  readonly whole: Set<string>
  readonly used: { readonly variables: Record<string, string | null>; readonly secrets: Record<string, string | null> }
  readonly failures: Failure[]
}

type Result = { readonly text: string; readonly secret: boolean } | Omit<Failure, 'path'>

const PART = /\$\$\{|\$\{([^}]*)(\}?)/g
const NAME = /^([A-Za-z_][A-Za-z0-9_]*)(?:(:-|:\?)([\s\S]*))?$/
const ESCAPE = 'for a literal `${` write `$${`'

/** Replaces the substitutions of every scalar of the tree. Registers secrets for redaction. */
export function interpolate(tree: unknown, env: Environment, baseDir: string): Interpolated {
  const used = { variables: {}, secrets: {} }
  const context: Context = { env, baseDir, whole: new Set(), used, failures: [] }
  const { value, published } = walk(tree, [], context)
  return { value, published, whole: context.whole, used, failures: context.failures }
}

function walk(node: unknown, path: Path, context: Context): { value: unknown; published: unknown } {
  if (typeof node === 'string') return node.includes('${') ? scalar(node, path, context) : same(node)
  if (Array.isArray(node)) {
    const items = node.map((item, index) => walk(item, [...path, index], context))
    return { value: items.map((item) => item.value), published: items.map((item) => item.published) }
  }
  if (typeof node !== 'object' || node === null) return same(node)
  const entries = Object.entries(node).map(([key, item]) => [key, walk(item, [...path, key], context)] as const)
  return {
    value: Object.fromEntries(entries.map(([key, item]) => [key, item.value])),
    published: Object.fromEntries(entries.map(([key, item]) => [key, item.published])),
  }
}

function same(node: unknown): { value: unknown; published: unknown } {
  return { value: node, published: node }
}

function scalar(source: string, path: Path, context: Context): { value: string; published: string } {
  let published = ''
  let value = ''
  let last = 0
  for (const match of source.matchAll(PART)) {
    const between = source.slice(last, match.index)
    const [all, inner, closed] = match
    const result = all === '$${' ? { text: '${', secret: false } : substitute(inner ?? '', closed === '}', context)
    if ('code' in result) context.failures.push({ path, ...result })
    const text = 'code' in result ? all : result.text
    value += between + text
    published += between + ('secret' in result && result.secret ? all : text)
    last = match.index + all.length
    if (all === source && all !== '$${') context.whole.add(JSON.stringify(path))
  }
  return { value: value + source.slice(last), published: published + source.slice(last) }
}

function substitute(inner: string, closed: boolean, context: Context): Result {
  if (!closed)
    return { code: 'JOB_INVALID', message: `\`\${${inner}\` has no closing brace`, suggestion: `close it; ${ESCAPE}` }
  if (inner.startsWith('file:')) return fromFile(inner.slice('file:'.length), context)
  const [, name, operator, rest = ''] = NAME.exec(inner) ?? []
  if (name === undefined)
    return {
      code: 'JOB_INVALID',
      message: `\`\${${inner}}\` is no substitution`,
      suggestion: `write \${VAR}, \${VAR:-default}, \${VAR:?message} or \${file:/path}; ${ESCAPE}`,
    }
  const secret = isSecretName(name)
  // An environment given as a plain object would answer `__proto__` with something that is no text.
  const set = Object.hasOwn(context.env, name) ? context.env[name] : undefined
  // As in a shell, `:-` and `:?` treat an empty variable as missing.
  const text = set === '' && operator !== undefined ? undefined : set
  context.used[secret ? 'secrets' : 'variables'][name] = set ?? null
  if (text !== undefined || operator === ':-') {
    if (secret) registerSecret(text ?? rest)
    return { text: text ?? rest, secret }
  }
  const reason = operator === ':?' && rest !== '' ? `: ${rest}` : ''
  return {
    code: 'VARIABLE_MISSING',
    message: `the variable ${name} is ${set === undefined ? 'not set' : 'empty'}${reason}`,
    suggestion: operator === ':?' ? `set ${name}` : `set it, or give a default: \${${name}:-default}`,
  }
}

function fromFile(path: string, context: Context): Result {
  const file = resolve(context.baseDir, path)
  try {
    const text = readFileSync(file, 'utf8').replace(/\r?\n$/, '')
    registerSecret(text)
    context.used.secrets[`file:${path}`] = text
    return { text, secret: true }
  } catch (error) {
    const reason = error instanceof Error ? error.message.replace(/,.*$/, '') : String(error)
    return {
      code: 'SECRET_UNREADABLE',
      message: `cannot read the secret file ${file}: ${reason}`,
      suggestion: 'check that it exists and that this user may read it',
    }
  }
}
