/** Says of a record that the reader refused what is wrong with it, for the people who must mend it. */
import { isUtf8 } from 'node:buffer'
import type { Chunk, ChunkFormat } from '../core/contracts.ts'
import { pathOf } from './field-path.ts'
import type { ContractColumn } from './read-plan.ts'
import type { TypeTree } from './types.ts'

export interface Malformation {
  readonly field: string | null
  readonly reason: string
}

/** Looking for a key that stands twice takes memory for each key: longer records get a general answer. */
const MAX_SEARCHED = 1 << 20

export function malformation(raw: Buffer, format: Chunk['format'], columns: readonly ContractColumn[]): Malformation {
  if (!isUtf8(raw)) return whole('not valid UTF-8')
  if (raw.includes(0)) return whole('a NUL byte')
  const text = raw.toString('utf8')
  return format.type === 'csv' ? whole(csvReason(text, format)) : jsonMalformation(text, columns)
}

function whole(reason: string): Malformation {
  return { field: null, reason }
}

function csvReason(text: string, { delimiter, quote, header }: Extract<ChunkFormat, { type: 'csv' }>): string {
  let fields = 1
  let quoted = false
  for (let at = 0; at < text.length; at += 1) {
    const character = text[at]
    if (quoted) {
      if (character !== quote) continue
      if (text[at + 1] === quote) at += 1
      else {
        quoted = false
        const after = text[at + 1]
        if (after !== undefined && after !== delimiter && after !== '\r')
          return `text after the closing quote of field ${fields}`
      }
    } else if (character === delimiter) fields += 1
    else if (character === quote && quote !== '' && (at === 0 || text[at - 1] === delimiter)) quoted = true
  }
  if (quoted) return `the quote of field ${fields} is never closed`
  if (fields === header.length) return 'a broken quotation'
  return `${fields} ${fields === 1 ? 'field' : 'fields'}, not ${header.length} as the header has`
}

function jsonMalformation(text: string, columns: readonly ContractColumn[]): Malformation {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    return whole(`not JSON: ${(error as Error).message.slice(0, 120)}`)
  }
  if (!isObject(value)) return whole('not a JSON object')
  if (hasLoneSurrogate(text)) return whole('a lone surrogate: half of a character, in \\u notation')
  const twice = text.length > MAX_SEARCHED ? undefined : repeatedKey(text)
  if (twice !== undefined) return { field: twice, reason: `the key ${JSON.stringify(twice)} stands twice in an object` }
  for (const column of columns) {
    const expected = misshapen(value, pathOf(column), column.type)
    if (expected !== undefined)
      return { field: column.name, reason: `has another shape than ${column.type.sql}: expected ${expected}` }
  }
  return whole('a key stands twice, or a value has another shape than the contract says')
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** In valid JSON text. */
function hasLoneSurrogate(text: string): boolean {
  const escapes = text.matchAll(/\\(?:u([0-9a-fA-F]{4})|.)/g)
  let high = -1
  for (const { 0: all, 1: hex, index } of escapes) {
    const code = Number.parseInt(hex ?? '0', 16)
    if (code >= 0xdc00 && code <= 0xdfff) {
      if (high !== index) return true
      high = -1
      continue
    }
    if (high !== -1) return true
    if (code >= 0xd800 && code <= 0xdbff) high = index + all.length
  }
  return high !== -1
}

/** The first key that an object of the text has twice, at any depth. Valid JSON; no recursion. */
function repeatedKey(text: string): string | undefined {
  const open: (Set<string> | undefined)[] = []
  for (const [token, string, colon] of text.matchAll(/("(?:[^"\\]+|\\.)*")(\s*:)?|[{}[\]]/g)) {
    if (token === '{') open.push(new Set())
    else if (token === '[') open.push(undefined)
    else if (token === '}' || token === ']') open.pop()
    else if (colon !== undefined && string !== undefined) {
      const key = JSON.parse(string) as string
      const keys = open.at(-1)
      if (keys?.has(key)) return key
      keys?.add(key)
    }
  }
  return undefined
}

/** What was expected where the value has another shape; undefined: it fits. */
function misshapen(value: unknown, path: readonly string[], type: TypeTree): string | undefined {
  if (value === null || value === undefined) return undefined
  const [key, ...rest] = path
  if (key !== undefined) return isObject(value) ? misshapen(own(value, key), rest, type) : 'an object'
  if (type.kind === 'list') return Array.isArray(value) ? undefined : 'a list'
  if (type.kind === 'map') return isObject(value) ? undefined : 'an object'
  if (type.kind !== 'struct') return undefined
  if (!isObject(value)) return 'an object'
  for (const field of type.fields ?? []) {
    const inner = misshapen(own(value, field.name), [], field.type)
    if (inner !== undefined) return `${inner} in ${field.name}`
  }
  return undefined
}

function own(value: Record<string, unknown>, key: string): unknown {
  return Object.hasOwn(value, key) ? value[key] : undefined
}
