/** Parses parts of a job file with zod and books what is wrong at its place in the file. */
import type { z } from 'zod'
import type { YamlDocument } from './document.ts'
import type { Interpolated } from './interpolate.ts'
import { descriptionAt, type JsonSchema, jsonShape, keysAt } from './json-shape.ts'
import type { Path, Place } from './places.ts'
import type { Problems } from './problems.ts'
import { didYouMean, nearest, orList } from './suggest.ts'
import { PLAIN, wording, wrongKind } from './wording.ts'

type Issue = z.core.$ZodIssue

/** Part of the file whose values may come from elsewhere in it (`defaults`). */
interface Inherited {
  readonly path: Path
  readonly from: Path
}

export class Checker {
  readonly problems: Problems
  readonly #document: YamlDocument
  readonly #content: Interpolated
  readonly #silent: ReadonlySet<string>
  readonly #inherited: Inherited[] = []

  /** `tolerated`: failures that are no problems; values that depend on them are left out without a word. */
  constructor(document: YamlDocument, content: Interpolated, problems: Problems, tolerated: Interpolated['failures']) {
    this.#document = document
    this.#content = content
    this.problems = problems
    this.#silent = new Set(content.failures.map((failure) => JSON.stringify(failure.path)))
    for (const { path, message, suggestion, code } of content.failures.filter((each) => !tolerated.includes(each)))
      problems.add(this.#document.places.value(path), message, { suggestion, code })
  }

  /** The interpolated value at the path, unchecked. */
  raw(path: Path): unknown {
    return valueAt(this.#content.value, path)
  }

  rawMap(path: Path): Readonly<Record<string, unknown>> {
    const value = this.raw(path)
    return isMap(value) ? value : {}
  }

  rawList(path: Path): readonly unknown[] {
    const value = this.raw(path)
    return Array.isArray(value) ? value : []
  }

  /** Values that are missing under `path` stand under `from`. */
  inherit(path: Path, from: Path): void {
    this.#inherited.push({ path, from })
  }

  /** Where the value stands in the file. */
  place(path: Path): Place {
    return this.#document.places.value(this.#origin(path))
  }

  /** Books a mistake about the value at the path, or about its key. */
  add(path: Path, message: string, suggestion?: string, about: 'value' | 'key' = 'value'): void {
    const { places } = this.#document
    const origin = this.#origin(path)
    // The value is a variable that has no value: that is said already.
    if (this.#silent.has(JSON.stringify(origin))) return
    this.problems.add(about === 'key' ? places.key(origin) : places.value(origin), message, { suggestion })
  }

  /** The parsed value, or undefined where mistakes were booked. `value` is what stands at the path, unless given. */
  check<Schema extends z.ZodType>(schema: Schema, path: Path, value = this.raw(path)): z.output<Schema> | undefined {
    for (let current = value; ; ) {
      // A parser that is compiled pays with many values; here there is one of each kind.
      const result = schema.safeParse(current, { error: () => PLAIN, jitless: true })
      if (result.success) return result.data
      const retyped = this.#retype(current, path, result.error.issues)
      if (retyped === undefined) {
        new Report(this, schema, path, current).all(result.error.issues, [])
        return undefined
      }
      current = retyped
    }
  }

  /** A scalar that is exactly one `${…}` is text; where a number or a boolean is wanted, the text is read as that. */
  #retype(value: unknown, base: Path, issues: readonly Issue[]): unknown {
    let result: unknown
    for (const { issue, path } of flatten(issues, [])) {
      const text = valueAt(result ?? value, path)
      const key = JSON.stringify(this.#origin([...base, ...path]))
      if (typeof text !== 'string' || !this.#content.whole.has(key)) continue
      const typed = readAs(issue, text)
      if (typed !== undefined) result = replaced(result ?? value, path, typed)
    }
    return result
  }

  #origin(path: Path): Path {
    if (this.#document.places.has(path)) return path
    for (const { path: prefix, from } of this.#inherited) {
      const inside = path.length > prefix.length && prefix.every((part, index) => path[index] === part)
      const candidate = [...from, ...path.slice(prefix.length)]
      if (inside && this.#document.places.has(candidate)) return candidate
    }
    return path
  }
}

/** Books the issues of one parse. Paths are relative to `base`. */
class Report {
  readonly #checker: Checker
  readonly #schema: z.ZodType
  readonly #base: Path
  readonly #value: unknown
  #shape: JsonSchema | undefined

  constructor(checker: Checker, schema: z.ZodType, base: Path, value: unknown) {
    this.#checker = checker
    this.#schema = schema
    this.#base = base
    this.#value = value
  }

  all(issues: readonly Issue[], parent: Path): void {
    const meant = new Set<string>()
    for (const issue of issues)
      if (issue.code === 'unrecognized_keys') this.#unknownKeys(issue.keys, [...parent, ...pathOf(issue)], meant)
    for (const issue of issues)
      if (issue.code !== 'unrecognized_keys') this.#one(issue, [...parent, ...pathOf(issue)], meant)
  }

  #one(issue: Issue, path: Path, meant: ReadonlySet<string>): void {
    const value = valueAt(this.#value, path)
    const name = path.at(-1)
    if (value === undefined && typeof name === 'string' && issue.code !== 'custom') {
      if (!meant.has(JSON.stringify(path))) this.#missing(name, path)
      return
    }
    if (issue.code === 'invalid_key') {
      const [first] = issue.issues
      const message = first === undefined || first.message === PLAIN ? 'is no good name here' : first.message
      this.#checker.add([...this.#base, ...path], `\`${name}\`: ${message}`, undefined, 'key')
      return
    }
    const branch = issue.code === 'invalid_union' && issue.message === PLAIN ? bestBranch(issue, value) : undefined
    if (branch !== undefined) {
      this.all(branch, path)
      return
    }
    const { message, suggestion } = wording(issue, value)
    this.#checker.add([...this.#base, ...path], `${label([...this.#base, ...path])}${message}`, suggestion)
  }

  #missing(name: string, path: Path): void {
    const parent = path.slice(0, -1)
    const known = keysAt(this.#json(), parent)
    const map = valueAt(this.#value, parent)
    const typo = isMap(map) ? Object.keys(map).find((key) => !known.includes(key) && nearest(key, [name])) : undefined
    if (typo !== undefined) {
      this.#unknownKeys([typo], parent, new Set())
      return
    }
    const description = descriptionAt(this.#json(), path)
    const about = description === undefined ? undefined : description.replace(/\.$/, '')
    this.#checker.add([...this.#base, ...parent], `missing key \`${name}\``, about, 'key')
  }

  #unknownKeys(keys: readonly string[], path: Path, meant: Set<string>): void {
    const known = keysAt(this.#json(), path)
    for (const key of keys) {
      const found = nearest(key, known)
      if (found !== undefined) meant.add(JSON.stringify([...path, found]))
      const at = [...this.#base, ...path, key]
      this.#checker.add(at, `unknown key \`${key}\``, didYouMean(key, known) ?? `known here: ${orList(known)}`, 'key')
    }
  }

  #json(): JsonSchema {
    this.#shape ??= jsonShape(this.#schema)
    return this.#shape
  }
}

/** The alternative that was meant: of the right kind, with the fewest mistakes. */
function bestBranch(issue: Extract<Issue, { code: 'invalid_union' }>, value: unknown): Issue[] | undefined {
  const right = issue.errors.filter((errors) => !errors.some((each) => wrongKind(each, value)))
  // Several alternatives that each refuse the whole value say more together than one of them.
  if (
    right.length > 1 &&
    right.every((errors) => errors.every((each) => each.path.length === 0 && each.message === PLAIN))
  )
    return undefined
  return right.sort((a, b) => mistakes(a) - mistakes(b))[0]
}

function mistakes(issues: readonly Issue[]): number {
  return issues.reduce((sum, issue) => sum + (issue.code === 'unrecognized_keys' ? issue.keys.length : 1), 0)
}

function label(path: Path): string {
  const name = path.findLast((part) => typeof part === 'string')
  return name === undefined ? '' : `\`${name}\`: `
}

function flatten(issues: readonly Issue[], parent: Path): { issue: Issue; path: Path }[] {
  return issues.flatMap((issue) => {
    const path = [...parent, ...pathOf(issue)]
    return issue.code === 'invalid_union'
      ? [{ issue, path }, ...issue.errors.flatMap((errors) => flatten(errors, path))]
      : [{ issue, path }]
  })
}

function pathOf(issue: Issue): Path {
  return issue.path.map((part) => (typeof part === 'number' ? part : String(part)))
}

function readAs(issue: Issue, text: string): unknown {
  if (issue.code === 'invalid_value')
    return issue.values.find((value) => typeof value !== 'string' && String(value) === text)
  if (issue.code !== 'invalid_type') return undefined
  if (issue.expected === 'boolean') return text === 'true' ? true : text === 'false' ? false : undefined
  const numeric = issue.expected === 'number' || issue.expected === 'int'
  return numeric && /^[+-]?[0-9]+(?:\.[0-9]+)?$/.test(text.trim()) ? Number(text) : undefined
}

function replaced(value: unknown, path: Path, leaf: unknown): unknown {
  const [part, ...rest] = path
  if (part === undefined) return leaf
  if (Array.isArray(value)) return value.map((item, index) => (index === part ? replaced(item, rest, leaf) : item))
  if (!isMap(value)) return value
  return { ...value, [part]: replaced(value[part], rest, leaf) }
}

function valueAt(value: unknown, path: Path): unknown {
  let current = value
  for (const part of path) {
    if (Array.isArray(current) && typeof part === 'number') current = current[part]
    else if (isMap(current) && Object.hasOwn(current, part)) current = current[part]
    else return undefined
  }
  return current
}

export function isMap(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
