/** The text of single fields of a record, as it stands there. */
import { isJsonSpace, JsonScanner } from './json-scanner.ts'

const COLON = 58
const COMMA = 44
const OPEN_OBJECT = 123
const scanner = new JsonScanner()

/** JSON text of the value at a path of keys; undefined where there is none, or where the record is no JSON. */
export function jsonField(bytes: Buffer, from: number, to: number, path: readonly string[]): string | undefined {
  let start = skipSpace(bytes, from, to)
  let end = to
  for (const key of path) {
    const found = member(bytes, start, end, key)
    if (found === undefined) return undefined
    start = found.from
    end = found.to
  }
  return bytes.toString('utf8', start, end).trim()
}

function member(bytes: Buffer, from: number, to: number, key: string): { from: number; to: number } | undefined {
  if (bytes[from] !== OPEN_OBJECT) return undefined
  let at = skipSpace(bytes, from + 1, to)
  while (at < to) {
    const keyEnd = valueEnd(bytes, at, to)
    if (keyEnd === undefined) return undefined
    const isIt = sameKey(bytes, at, keyEnd, key)
    const colon = skipSpace(bytes, keyEnd, to)
    if (bytes[colon] !== COLON) return undefined
    const value = skipSpace(bytes, colon + 1, to)
    const end = valueEnd(bytes, value, to)
    if (end === undefined) return undefined
    if (isIt) return { from: value, to: end }
    at = skipSpace(bytes, end, to)
    if (bytes[at] !== COMMA) return undefined
    at = skipSpace(bytes, at + 1, to)
  }
  return undefined
}

function valueEnd(bytes: Buffer, from: number, to: number): number | undefined {
  scanner.reset()
  const end = scanner.scan(bytes, from, to)
  return end < 0 ? undefined : end
}

function sameKey(bytes: Buffer, from: number, to: number, key: string): boolean {
  const text = bytes.toString('utf8', from, to)
  if (text === `"${key}"`) return true
  if (!text.includes('\\')) return false
  try {
    return JSON.parse(text) === key
  } catch {
    return false
  }
}

function skipSpace(bytes: Buffer, from: number, to: number): number {
  let at = from
  while (at < to && isJsonSpace(bytes[at])) at += 1
  return at
}
