/** Which files of a state directory are shared: all but what is empty between runs, or of one process. */
import { readdir } from 'node:fs/promises'
import { join, relative, sep } from 'node:path'
import { localIoError } from '../../../core/errors.ts'

/** What the engine writes by itself, beside `durable.ts`. */
const ENGINE = /^state\.duckdb(?:\..*)?$/s
/** At the top. Of a job: cut chunks, spilled data, what a run says of itself while it goes on, and its parts, which have names of their own. Of a daemon: what its runs have
 *  printed, who asked it for what, and its token. */
const OWN = new Set([
  'chunks',
  'temp',
  'live.json',
  'live.json.next',
  'lock.sock',
  'shards',
  'runs',
  'audit.ndjson',
  'token',
])

/** The path in the table, `/` between folders; undefined: not shared. */
export function sharedPath(root: string, path: string): string | undefined {
  const parts = relative(root, path).split(sep)
  // Hidden ones are unfinished, or of one process.
  if (parts.some((part) => part.startsWith('.') || part === '') || OWN.has(parts[0] ?? '')) return undefined
  return parts.join('/')
}

export function isEngineFile(shared: string): boolean {
  return ENGINE.test(shared)
}

/** Names of what the engine has in the folder now. */
export async function engineFiles(root: string): Promise<readonly string[]> {
  return (await entriesOf(root)).filter((entry) => entry.isFile() && ENGINE.test(entry.name)).map(({ name }) => name)
}

/** Absolute paths of the shared files in a folder, without those in its folders. */
export async function filesIn(root: string, folder: string): Promise<readonly string[]> {
  return (await entriesOf(folder))
    .filter((entry) => entry.isFile())
    .map(({ name }) => join(folder, name))
    .filter((path) => sharedPath(root, path) !== undefined)
}

/** Of the whole state directory. */
export async function allFiles(root: string, folder = root): Promise<readonly string[]> {
  const files = [...(await filesIn(root, folder))]
  for (const entry of await entriesOf(folder)) {
    const path = join(folder, entry.name)
    if (entry.isDirectory() && sharedPath(root, path) !== undefined) files.push(...(await allFiles(root, path)))
  }
  return files
}

async function entriesOf(folder: string) {
  try {
    return await readdir(folder, { withFileTypes: true })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw localIoError(error, `list ${folder}`)
  }
}
