/** Glob patterns over names that are not of this machine. */
import { matchesGlob } from 'node:path'

const MAGIC = /[*?[{(!+@\\]/

/** true where a pattern is the name itself, or fits it. Names with a leading dot fit only patterns that say it. */
export function fitsOne(patterns: readonly string[], name: string): boolean {
  return patterns.some((pattern) => pattern === name || matchesGlob(name, pattern))
}

/** What every name that fits begins with: up to the last `/` before something that stands for several names. */
function literalFolder(pattern: string): string {
  const magic = pattern.search(MAGIC)
  const literal = magic === -1 ? pattern : pattern.slice(0, magic)
  return literal.slice(0, literal.lastIndexOf('/') + 1)
}

/** Of all patterns. */
export function commonFolder(patterns: readonly string[]): string {
  const [first = '', ...others] = patterns.map(literalFolder)
  let shared = first
  while (!others.every((folder) => folder.startsWith(shared)))
    shared = shared.slice(0, shared.lastIndexOf('/', shared.length - 2) + 1)
  return shared
}
