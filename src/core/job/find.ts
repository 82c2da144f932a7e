/** Finds a job file: by path, or by name in ./jobs and the working directory. */
import { readdir, stat } from 'node:fs/promises'
import { basename, join, resolve } from 'node:path'
import { AdflowError } from '../errors.ts'
import { didYouMean } from './suggest.ts'

export interface FindOptions {
  /** Path of a job file, or the name of a job. */
  readonly path?: string
  readonly name?: string
  readonly cwd: string
}

const EXTENSION = /\.ya?ml$/

/** @throws AdflowError JOB_NOT_FOUND with what was probably meant. */
export async function findJob({ path, name, cwd }: FindOptions): Promise<string> {
  if (path !== undefined && (await isFile(resolve(cwd, path)))) return path
  const wanted = name ?? path
  const files = await jobFiles(cwd)
  if (wanted === undefined) {
    const [only, ...others] = files
    if (only !== undefined && others.length === 0) return only
    throw notFound('no job was named', files)
  }
  const found = files.find((file) => jobName(file) === wanted)
  if (found !== undefined) return found
  const looksLikePath = path !== undefined && (EXTENSION.test(path) || path.includes('/'))
  const what = looksLikePath
    ? `there is no job file ${path}`
    : `there is no job ${wanted} in ${join(cwd, 'jobs')} or ${cwd}`
  throw notFound(what, files, didYouMean(looksLikePath ? path : wanted, looksLikePath ? files : files.map(jobName)))
}

/** Job files of ./jobs, then of the working directory, sorted. */
export async function jobFiles(cwd: string): Promise<string[]> {
  const found: string[] = []
  for (const folder of ['jobs', '.']) {
    const names = await readdir(join(cwd, folder)).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return []
      throw error
    })
    found.push(
      ...names
        .filter((name) => EXTENSION.test(name) && !name.startsWith('.'))
        .sort()
        .map((name) => join(folder, name)),
    )
  }
  return found
}

function jobName(file: string): string {
  return basename(file).replace(EXTENSION, '')
}

async function isFile(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isFile() === true
}

function notFound(message: string, files: readonly string[], suggestion?: string): AdflowError {
  const there =
    files.length === 0 ? 'no job files are here: `adflow init` makes one' : `job files here: ${files.join(', ')}`
  return new AdflowError('JOB_NOT_FOUND', message, {
    hint: suggestion === undefined ? there : `${suggestion} — ${there}`,
  })
}
