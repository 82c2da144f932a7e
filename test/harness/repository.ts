/** The files of the project as text, for tests of the house rules and of the documents. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const ROOT = fileURLToPath(new URL('../../', import.meta.url))

/** What git leaves out, and git itself: not part of the project. */
const LEFT_OUT = new Set(['.git', ...ignored()])

/** Paths of all files under a folder, relative to the project, sorted. */
export function filesUnder(folder = '.'): string[] {
  const found = readdirSync(join(ROOT, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = folder === '.' ? entry.name : `${folder}/${entry.name}`
    if (LEFT_OUT.has(entry.name)) return []
    return entry.isDirectory() ? filesUnder(path) : [path]
  })
  return found.sort()
}

export function textOf(path: string): string {
  return readFileSync(join(ROOT, path), 'utf8')
}

export function exists(path: string): boolean {
  return existsSync(join(ROOT, path))
}

/** Files that a TypeScript file imports from the project, at run time or also for their types alone. */
export function importsOf(path: string, { types }: { readonly types: boolean }): string[] {
  const statements = textOf(path).matchAll(
    /^(?:import|export) (?<kind>type )?[^'";]*?from '(?<from>\.[^']+)'|^import '(?<effect>\.[^']+)'|\bimport\('(?<later>\.[^']+)'\)/gm,
  )
  return [...statements].flatMap(({ groups = {} }) => {
    const { kind, from, effect, later } = groups
    const target = from ?? effect ?? later
    return target === undefined || (kind !== undefined && !types) ? [] : [join(dirname(path), target)]
  })
}

function ignored(): string[] {
  const lines = readFileSync(join(ROOT, '.gitignore'), 'utf8').split('\n')
  return lines.filter((line) => line !== '' && !line.startsWith('#')).map((line) => line.replace(/^\/|\/$/g, ''))
}
