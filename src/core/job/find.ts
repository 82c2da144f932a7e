/** Which job file is meant: a path, a name, or the only one there is. */
import { readdir, readFile, stat } from 'node:fs/promises'
import { join, relative, resolve } from 'node:path'
import { AdflowError } from '../errors.ts'
import { didYouMean } from './suggest.ts'

export interface FindOptions {
  /** A path; without a folder and an ending it may also be a name. */
  readonly path?: string
  /** The `name:` of a job, or its file name without ending. */
  readonly name?: string
  readonly cwd: string
}

export interface JobFile {
  readonly name: string
  /** Relative to the folder that was searched. */
  readonly file: string
}

const YAML = /\.ya?ml$/

/** Path of the job file as messages should show it: relative to `cwd` where it lies beneath. Throws JOB_NOT_FOUND. */
export async function findJob({ path, name, cwd }: FindOptions): Promise<string> {
  if (path !== undefined && name !== undefined)
    throw new AdflowError('USAGE', `both the job file ${path} and the job name ${name} were given`, {
      hint: 'give one',
    })
  if (path !== undefined) {
    if (await isFile(resolve(cwd, path))) return path
    if (YAML.test(path) || /[\\/]/.test(path)) throw await noFile(path, cwd)
  }
  const jobs = await listJobs(cwd)
  const wanted = path ?? name
  if (wanted !== undefined) return byName(wanted, jobs, cwd)
  const [only, ...others] = jobs
  if (only !== undefined && others.length === 0) return only.file
  throw new AdflowError(
    'JOB_NOT_FOUND',
    only ? 'it is not said which job is meant' : `there is no job file in ${cwd}`,
    {
      hint: only ? `name one of: ${names(jobs)}` : 'give the path of a job file, or make a project with `adflow init`',
    },
  )
}

/** Job files in `./jobs` and the folder itself, in order of their names. A YAML file without `extract:` is none. */
export async function listJobs(cwd: string): Promise<JobFile[]> {
  const found: JobFile[] = []
  for (const folder of ['jobs', '.']) {
    const entries = await readdir(join(cwd, folder), { withFileTypes: true }).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return []
      throw new AdflowError('JOB_NOT_FOUND', `cannot look for job files in ${join(cwd, folder)}: ${error.message}`, {
        cause: error,
      })
    })
    for (const entry of entries.filter((each) => !each.isDirectory() && YAML.test(each.name))) {
      const file = join(folder, entry.name)
      const text = await readFile(join(cwd, file), 'utf8').catch(() => 'extract:')
      if (!/^["']?extract["']?\s*:/m.test(text)) continue
      const named = /^["']?name["']?\s*:\s*["']?([\w-]+)/m.exec(text)?.[1]
      found.push({ name: named ?? entry.name.replace(YAML, ''), file })
    }
  }
  return found.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0))
}

function byName(wanted: string, jobs: readonly JobFile[], cwd: string): string {
  const stem = ({ file }: JobFile) => file.replace(/^.*[\\/]/, '').replace(YAML, '')
  const named = jobs.filter((job) => job.name === wanted)
  const matches = named.length > 0 ? named : jobs.filter((job) => stem(job) === wanted)
  const [first, ...others] = matches
  if (first !== undefined && others.length === 0) return first.file
  if (first !== undefined)
    throw new AdflowError('JOB_NOT_FOUND', `the job name \`${wanted}\` is used more than once`, {
      hint: `give the path: ${matches.map((job) => job.file).join(' or ')}`,
    })
  const hint =
    didYouMean(
      wanted,
      jobs.flatMap((job) => [job.name, stem(job)]),
    ) ?? (jobs.length === 0 ? undefined : `there are: ${names(jobs)}`)
  throw new AdflowError('JOB_NOT_FOUND', `there is no job \`${wanted}\` in ${join(cwd, 'jobs')} or ${cwd}`, {
    hint: hint ?? 'there are no job files; make a project with `adflow init`',
  })
}

async function noFile(path: string, cwd: string): Promise<AdflowError> {
  const jobs = await listJobs(cwd)
  const wanted = relative(cwd, resolve(cwd, path))
  const hint = didYouMean(
    wanted,
    jobs.map((job) => job.file),
  )
  return new AdflowError('JOB_NOT_FOUND', `there is no job file ${path}`, {
    hint: hint ?? (jobs.length === 0 ? 'check the path' : `there are: ${jobs.map((job) => job.file).join(', ')}`),
  })
}

function names(jobs: readonly JobFile[]): string {
  return jobs.map((job) => job.name).join(', ')
}

async function isFile(path: string): Promise<boolean> {
  return stat(path).then(
    (stats) => !stats.isDirectory(),
    () => false,
  )
}
