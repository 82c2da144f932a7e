/**
 * The text exposition format: what an exporter shows under `/metrics`, version 0.0.4, and OpenMetrics 1.0 where only that is
 * spoken. A line that is neither is an error of the whole: a sample that nobody can read must not be missing in silence.
 */
import { AdflowError } from '../../core/errors.ts'

export interface ExposedSample {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  /** As it stands there. */
  readonly value: string
  /** undefined: none is given. */
  readonly timeMs: number | undefined
  /** `counter`, `gauge`, `histogram` … of its family; `untyped` where none is given. */
  readonly type: string
}

const NAME = /[^\s{"#]+/y
const LABEL = /\s*(?:([A-Za-z_][A-Za-z0-9_]*)|"((?:[^"\\]|\\.)*)")\s*/y
const TEXT = /"((?:[^"\\]|\\.)*)"\s*/y
const REST = /^\s*(\S+)(?:[ \t]+(-?[\d.eE+]+))?\s*(?:#\s.*)?$/
const NUMBER = /^[+-]?(?:nan|inf(?:inity)?|0x[\da-f.]+(?:p[+-]?\d+)?|(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)$/i
/** What is added to the name of a family. */
const SUFFIX = /_(?:total|bucket|sum|count|gcount|gsum|created|info)$/

/** @throws AdflowError SOURCE_DAMAGED, naming the line; nothing before it counts then */
export function* exposed(text: string, contentType: string, place: string): Generator<ExposedSample> {
  const open = /openmetrics/.test(contentType)
  const types = new Map<string, string>()
  let number = 0
  let ended = false
  for (const raw of linesOf(text)) {
    number += 1
    const line = raw.trim()
    if (line === '') continue
    if (line.startsWith('#')) {
      const [, name, type] = /^#\s+TYPE\s+("(?:[^"\\]|\\.)*"|\S+)\s+(\S+)/.exec(line) ?? []
      if (name !== undefined && type !== undefined) types.set(bare(name), type)
      ended ||= /^#\s+EOF$/.test(line)
      continue
    }
    const sample = parsed(line, open)
    if (sample === undefined) throw damaged(place, number, line)
    const { name } = sample
    yield { ...sample, type: types.get(name) ?? types.get(name.replace(SUFFIX, '')) ?? 'untyped' }
  }
  if (open && !ended)
    throw new AdflowError('SOURCE_DAMAGED', `${place} ends without \`# EOF\`: it broke off`, {
      hint: 'nothing of it was taken; the next run asks again',
    })
}

function parsed(line: string, open: boolean): Omit<ExposedSample, 'type'> | undefined {
  const reader = new LineReader(line)
  let name = reader.match(NAME)?.[0]
  const labels: Record<string, string> = {}
  if (reader.take('{')) {
    for (;;) {
      if (reader.take('}')) break
      const [, plain, quoted] = reader.match(LABEL) ?? []
      const label = plain ?? (quoted === undefined ? undefined : unescaped(quoted))
      if (label === undefined) return undefined
      if (reader.take('=')) {
        reader.space()
        const value = reader.match(TEXT)?.[1]
        if (value === undefined) return undefined
        Object.defineProperty(labels, label, { value: unescaped(value), enumerable: true })
      } else if (quoted !== undefined && name === undefined) name = label
      else return undefined
      if (!reader.take(',') && !reader.ahead('}')) return undefined
      reader.space()
    }
  }
  const [, value, time] = REST.exec(reader.rest) ?? []
  if (name === undefined || value === undefined || !NUMBER.test(value)) return undefined
  if (time === undefined) return { name, labels, value, timeMs: undefined }
  // Milliseconds; OpenMetrics has seconds.
  const timeMs = open ? Math.round(Number(time) * 1000) : Number(time)
  return Number.isFinite(timeMs) ? { name, labels, value, timeMs } : undefined
}

class LineReader {
  readonly #line: string
  #at = 0

  constructor(line: string) {
    this.#line = line
  }

  get rest(): string {
    return this.#line.slice(this.#at)
  }

  match(pattern: RegExp): RegExpExecArray | null {
    pattern.lastIndex = this.#at
    const found = pattern.exec(this.#line)
    if (found !== null) this.#at = pattern.lastIndex
    return found
  }

  space(): void {
    while (this.#line[this.#at] === ' ' || this.#line[this.#at] === '\t') this.#at += 1
  }

  ahead(character: string): boolean {
    this.space()
    return this.#line[this.#at] === character
  }

  take(character: string): boolean {
    if (!this.ahead(character)) return false
    this.#at += 1
    return true
  }
}

function* linesOf(text: string): Generator<string> {
  for (let from = 0; from < text.length; ) {
    const end = text.indexOf('\n', from)
    yield text.slice(from, end === -1 ? text.length : end)
    from = end === -1 ? text.length : end + 1
  }
}

function unescaped(text: string): string {
  return text.replace(/\\(.)/g, (_, character: string) => (character === 'n' ? '\n' : character))
}

function bare(name: string): string {
  return name.startsWith('"') ? unescaped(name.slice(1, -1)) : name
}

function damaged(place: string, number: number, line: string): AdflowError {
  const html = /^<|<html/i.test(line)
  return new AdflowError(
    'SOURCE_DAMAGED',
    `line ${number} of ${place} is ${html ? 'HTML' : 'no sample of the text exposition format'}`,
    {
      hint: html
        ? 'most likely it asks to log in, or a proxy answers in its place: check `url` and `auth`'
        : 'correct what exposes it (`promtool check metrics` says more); nothing of it was taken',
    },
  )
}
