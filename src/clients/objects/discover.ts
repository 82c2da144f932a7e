/** Finds the files that patterns name, in a stable order, and says what it could not look into. */
import * as nodeFs from 'node:fs'
import { lstat, stat } from 'node:fs/promises'
import { relative, resolve, sep } from 'node:path'
import { escapePath, type FileSystemAdapter, glob, isDynamicPattern } from 'tinyglobby'
import type { ErrorCode } from '../../core/errors.ts'

export interface FileFacts {
  readonly dev: string
  readonly ino: string
  /** Creation time in ns; tells a file from a later one that was given the same inode. */
  readonly born: string
  readonly size: number
  /** Modification time in ns. */
  readonly modified: string
  readonly modifiedMs: number
  /** Where whoever keeps the file says by which version it is known: equal versions, equal bytes. */
  readonly version?: string
}

export interface SourceFile {
  /** Relative to the folder of the job file, with `/`. */
  readonly path: string
  readonly absolute: string
  readonly facts: FileFacts
}

/** Something that was asked for and cannot be read. */
interface Problem {
  /** Path or pattern. */
  readonly path: string
  readonly origin: string
  readonly code: ErrorCode
  readonly message: string
}

export interface Discovery {
  readonly files: readonly SourceFile[]
  readonly problems: readonly Problem[]
}

export interface Selection {
  readonly patterns: readonly string[]
  readonly exclude: readonly string[]
  readonly baseDir: string
  /** A pattern that matches nothing is no problem. */
  readonly allowEmpty: boolean
}

const NATURAL = new Intl.Collator('en', { numeric: true })

/** Names with numbers in the order of the numbers; the rest is decided by code units, so that it never depends on locale. */
export function naturalOrder(a: string, b: string): number {
  return NATURAL.compare(a, b) || (a < b ? -1 : a > b ? 1 : 0)
}

export async function discover(selection: Selection): Promise<Discovery> {
  const paths = new Set<string>()
  const problems: Problem[] = []
  for (const pattern of selection.patterns) {
    const found = await match(pattern, selection, problems)
    for (const path of found) paths.add(path)
    if (found.length === 0 && !selection.allowEmpty)
      problems.push({
        path: pattern,
        origin: resolve(selection.baseDir, pattern),
        code: 'SOURCE_MISSING',
        message: `no file matches ${pattern} in ${selection.baseDir}; check the path, or set \`allow_empty: true\``,
      })
  }
  const files: SourceFile[] = []
  for (const absolute of paths) {
    const path = lanePath(selection.baseDir, absolute)
    try {
      const facts = await fileFacts(absolute)
      if (facts !== undefined) files.push({ path, absolute, facts })
      else problems.push(unsupported(path, absolute))
    } catch (error) {
      if (await exists(absolute)) problems.push(unreadable(path, absolute, (error as Error).message))
    }
  }
  return { files: files.sort((a, b) => naturalOrder(a.path, b.path)), problems }
}

/** Real paths of the folders in which the patterns look, of those that are there. Never the root: that is no bound. */
export function baseFolders(patterns: readonly string[], baseDir: string): string[] {
  const folders = patterns.map((pattern) => realFolder(resolve(baseDir, pattern)))
  return [...new Set(folders.filter((folder) => folder !== undefined))]
}

/** The folder of the file of that name; else what stands before the first part with a pattern. */
function realFolder(pattern: string): string | undefined {
  const parts = pattern.split(sep)
  const dynamic = nodeFs.existsSync(pattern) ? -1 : parts.findIndex((part) => isDynamicPattern(part))
  const folder = parts.slice(0, dynamic === -1 ? -1 : dynamic).join(sep)
  try {
    return folder === '' ? undefined : nodeFs.realpathSync(folder)
  } catch {
    return undefined // not there: nothing can be read in it
  }
}

/** undefined: not a regular file. Follows links. */
export async function fileFacts(path: string): Promise<FileFacts | undefined> {
  return factsOf(await stat(path, { bigint: true }))
}

export function factsOf(stats: nodeFs.BigIntStats): FileFacts | undefined {
  if (!stats.isFile()) return undefined
  return {
    dev: String(stats.dev),
    ino: String(stats.ino),
    born: String(stats.birthtimeNs),
    size: Number(stats.size),
    modified: String(stats.mtimeNs),
    modifiedMs: Number(stats.mtimeMs),
  }
}

/** The name exists, even if what it links to does not. A file that went away since it was listed is no problem. */
async function exists(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    () => false,
  )
}

function lanePath(baseDir: string, absolute: string): string {
  return relative(baseDir, absolute).split(sep).join('/')
}

function unreadable(path: string, origin: string, found: string): Problem {
  return { path, origin, code: 'SOURCE_UNREADABLE', message: `cannot read ${origin}: ${found}` }
}

function unsupported(path: string, origin: string): Problem {
  const message = `cannot read ${origin}: it is a folder, a pipe or a device; name the files in a folder (\`folder/*.ndjson\`), or leave it out with \`exclude\``
  return { path, origin, code: 'SOURCE_UNSUPPORTED', message }
}

/** Absolute paths. A pattern that is the name of something is that thing, whatever characters the name has. */
async function match(pattern: string, selection: Selection, problems: Problem[]): Promise<string[]> {
  const literal = resolve(selection.baseDir, pattern)
  const ignore = [...selection.exclude]
  const options = { cwd: selection.baseDir, absolute: true, expandDirectories: false, ignore }
  const exists = await stat(literal).then(
    (stats) => (stats.isFile() ? 'file' : 'other'),
    () => undefined,
  )
  if (exists === 'other') return [literal]
  return (
    await glob(exists === 'file' ? escapePath(pattern) : pattern, {
      ...options,
      fs: telling(selection.baseDir, problems),
    })
  ).map((path) => resolve(path))
}

function asListed(entry: nodeFs.Dirent): nodeFs.Dirent {
  if (entry.isFile() || entry.isDirectory() || entry.isSymbolicLink()) return entry
  return Object.create(entry, { isFile: { value: () => true } })
}

/** Lists dangling links, pipes and devices as files, so that reading them fails in sight, and books folders that cannot be listed. */
function telling(baseDir: string, problems: Problem[]): FileSystemAdapter {
  const fileLike = { isDirectory: () => false, isFile: () => true, isSymbolicLink: () => false } as nodeFs.Stats
  const readdir = (
    folder: string,
    options: object,
    done: (error: Error | null, entries?: nodeFs.Dirent[]) => void,
  ): void => {
    nodeFs.readdir(folder, { ...options, withFileTypes: true }, (error, entries) => {
      if (error !== null && error.code !== 'ENOENT' && error.code !== 'ENOTDIR')
        problems.push(unreadable(lanePath(baseDir, folder), folder, error.message))
      done(error, entries?.map(asListed))
    })
  }
  const realpath = (path: string, done: (error: Error | null, real: string) => void): void => {
    nodeFs.realpath(path, (error, real) => done(null, error === null ? real : path))
  }
  const statLike = (path: string, done: (error: Error | null, stats: nodeFs.Stats) => void): void => {
    nodeFs.stat(path, (error, stats) => done(null, error === null ? stats : fileLike))
  }
  return { readdir, realpath, stat: statLike } as unknown as FileSystemAdapter
}
