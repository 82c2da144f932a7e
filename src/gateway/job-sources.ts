/** The sources of type `push` that job files have. */
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { AdflowError, localIoError } from '../core/errors.ts'
import { loadJob } from '../core/job/load.ts'
import type { Registry } from '../core/registry.ts'
import { pushSourcesOf, type SourceSettings } from './push-source.ts'

const JOB_FILE = /\.ya?ml$/

export interface JobSourceOptions {
  readonly registry: Registry
  readonly stateDir: (jobFile: string) => string
}

/** Of a job file, or of all in a folder. @throws AdflowError JOB_NOT_FOUND, JOB_INVALID, VARIABLE_MISSING */
export async function readPushSources(path: string, options: JobSourceOptions): Promise<readonly SourceSettings[]> {
  const found: SourceSettings[] = []
  for (const file of await jobFiles(path)) {
    const job = await loadJob(file, { registry: options.registry })
    found.push(...pushSourcesOf(job, options.stateDir(file)))
  }
  const names = found.map(({ job, source }) => `${job}/${source}`)
  const twice = names.find((name, index) => names.indexOf(name) < index)
  if (twice !== undefined)
    throw new AdflowError('JOB_INVALID', `${twice} stands in two files of ${path}`, {
      hint: 'give each job its own name',
    })
  if (found.length > 0) return found
  throw new AdflowError('JOB_NOT_FOUND', `no job in ${path} has a source of type push`, {
    hint: '`adflow components example push` shows one',
  })
}

async function jobFiles(path: string): Promise<readonly string[]> {
  try {
    if (!(await stat(path)).isDirectory()) return [path]
    const names = (await readdir(path)).filter((name) => JOB_FILE.test(name)).sort()
    return names.map((name) => join(path, name))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT')
      throw new AdflowError('JOB_NOT_FOUND', `there is no job file or folder ${path}`)
    throw localIoError(error, `list ${path}`)
  }
}
