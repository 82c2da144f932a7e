/** A new job project, or a further job in one. Nothing that exists is overwritten. */
import { existsSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, dirname, join, relative, resolve } from 'node:path'
import { AdflowError, localIoError } from '../core/errors.ts'
import { identifier } from '../core/job/identifier.ts'
import { jobJsonSchema } from '../core/job/json-schema.ts'
import type { Registry } from '../core/registry.ts'
import { Engine } from '../engine/session.ts'
import { generateSample } from '../sample/generate.ts'
import { snake } from './column-names.ts'
import { type Draft, draftFrom } from './draft.ts'
import { jobText } from './job-text.ts'
import { GITIGNORE, readmeText, TEMPLATE_ROWS, templateJob } from './template.ts'

export interface InitOptions {
  readonly registry: Registry
  readonly dir: string
  /** Draft contract and job from this file. Default: a job on sample data that are made with it. */
  readonly from?: string
  /** Default: after the file, or the folder. */
  readonly name?: string
}

export interface InitResult {
  readonly schema_version: 1
  readonly job: string
  readonly dir: string
  /** Relative to `dir`; the job first. */
  readonly created: readonly string[]
  /** Files that were there already and stay as they are. */
  readonly kept: readonly string[]
  /** Records that the contract was drafted from; null: not drafted. */
  readonly records: number | null
}

const SCHEMA = 'job.schema.json'

export async function initProject({ registry, dir, from, name }: InitOptions): Promise<InitResult> {
  const root = resolve(dir)
  const job = nameOf(name, from === undefined ? root : from.replace(/(\.\w+)+$/, ''))
  const jobFile = join('jobs', `${job}.yaml`)
  refuseExisting(root, from === undefined ? [jobFile, join('data', 'truth.json')] : [jobFile])
  const draft = from === undefined ? undefined : await drafted(from)
  const schema = `../schema/${SCHEMA}`
  const source = from === undefined ? '' : relativePath(join(root, 'jobs'), resolve(from))
  const text = draft === undefined ? templateJob(job, schema) : jobText(draft, { name: job, source, schema })
  const files = new Map([
    [jobFile, text],
    [join('schema', SCHEMA), `${JSON.stringify(await jobJsonSchema(registry), null, 2)}\n`],
    ['.gitignore', GITIGNORE],
    ['README.md', readmeText(job)],
  ])
  const created: string[] = []
  const kept: string[] = []
  for (const [file, content] of files) {
    const exists = existsSync(join(root, file))
    if (!exists) await create(join(root, file), content)
    ;(exists ? kept : created).push(file)
  }
  if (draft === undefined) {
    await generateSample({ dir: join(root, 'data'), rows: TEMPLATE_ROWS, files: 1, defects: '0.5%' })
    created.push('data')
  }
  return { schema_version: 1, job, dir: root, created, kept, records: draft?.records ?? null }
}

async function create(path: string, content: string): Promise<void> {
  try {
    await mkdir(dirname(path), { recursive: true })
    await writeFile(path, content, { flag: 'wx' })
  } catch (error) {
    throw localIoError(error, `write ${path}`)
  }
}

async function drafted(from: string): Promise<Draft> {
  const tempFolder = join(tmpdir(), `adflow-init-${process.pid}`)
  const engine = await Engine.open({ memoryBytes: 1e9, threads: 2, tempFolder, locked: false })
  try {
    const session = await engine.connect()
    const draft = await draftFrom(resolve(from), session)
    session.close()
    if (draft.columns.length > 0) return draft
    throw new AdflowError('USAGE', `cannot draft a job from ${from}: no record has a field`, {
      hint: 'give --from a file with records',
    })
  } finally {
    engine.close()
  }
}

/** A job's name: given, or made from a path. */
function nameOf(given: string | undefined, path: string): string {
  if (given === undefined) {
    const made = snake(basename(path))
      .normalize('NFKD')
      .replaceAll(/[^a-z0-9_]/g, '')
      .replace(/^[^a-z]+/, '')
      .slice(0, 63)
    return made === '' ? 'job' : made
  }
  const parsed = identifier.safeParse(given)
  if (parsed.success) return given
  throw new AdflowError('USAGE', `--name ${given}: ${parsed.error.issues[0]?.message ?? 'not a name'}`, {
    hint: `such as --name ${nameOf(undefined, given)}`,
  })
}

function refuseExisting(root: string, files: readonly string[]): void {
  const existing = files.filter((file) => existsSync(join(root, file)))
  if (existing.length === 0) return
  throw new AdflowError('USAGE', `there is ${existing.join(' and ')} in ${root} already; nothing was written`, {
    hint: 'give another folder, or another --name',
  })
}

function relativePath(from: string, to: string): string {
  return relative(from, to).replaceAll('\\', '/')
}
