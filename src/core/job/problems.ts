/** Mistakes of a job file: all are collected, so that one lint shows everything there is to mend. */
import { AdflowError, type ErrorCode } from '../errors.ts'
import { excerpt, type Place } from './places.ts'
import { redact } from './secrets.ts'

/** One mistake, as `details.problems` of the error lists it. */
export interface Problem {
  /** file:line:column. */
  readonly at: string
  readonly message: string
  /** What was probably meant, or what to write instead. */
  readonly suggestion?: string
  /** The source line with a caret under the place. */
  readonly excerpt: string
}

type LoadCode = Extract<ErrorCode, 'JOB_INVALID' | 'VARIABLE_MISSING' | 'SECRET_UNREADABLE'>

export class Problems {
  readonly #file: string
  readonly #text: string
  readonly #found: (Problem & Place & { readonly code: LoadCode })[] = []

  constructor(file: string, text: string) {
    this.#file = file
    this.#text = text
  }

  get count(): number {
    return this.#found.length
  }

  add(place: Place, message: string, options: { suggestion?: string | undefined; code?: LoadCode } = {}): void {
    const at = `${this.#file}:${place.line}:${place.column}`
    if (this.#found.some((other) => other.at === at && other.message === redact(message))) return
    this.#found.push({
      ...place,
      at,
      message: redact(message),
      ...(options.suggestion === undefined ? {} : { suggestion: options.suggestion }),
      excerpt: redact(excerpt(this.#text, place)),
      code: options.code ?? 'JOB_INVALID',
    })
  }

  /** Throws everything found as one error; its code is JOB_INVALID unless all mistakes share a more exact one. */
  throwIfAny(): void {
    if (this.#found.length === 0) return
    const found = this.#found.toSorted((a, b) => a.line - b.line || a.column - b.column)
    const problems = found.map(({ at, message, suggestion, excerpt: shown }): Problem => {
      return { at, message, ...(suggestion === undefined ? {} : { suggestion }), excerpt: shown }
    })
    const [code, ...others] = new Set(found.map((problem) => problem.code))
    const count = problems.length === 1 ? 'a mistake' : `${problems.length} mistakes`
    throw new AdflowError(
      code !== undefined && others.length === 0 ? code : 'JOB_INVALID',
      `${this.#file} has ${count}\n\n${problems.map(format).join('\n\n')}`,
      { details: { problems } },
    )
  }
}

function format(problem: Problem): string {
  const suggestion = problem.suggestion === undefined ? '' : ` — ${problem.suggestion}`
  return `${problem.at}  ${problem.message}${suggestion}\n${problem.excerpt.replace(/^/gm, '    ')}`
}
