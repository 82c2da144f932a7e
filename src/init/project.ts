/** A new job project, or a further job in one. Nothing that exists is overwritten. */
import { existsSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, dirname, join, relative, resolve } from 'node:path'
import type { Logger } from 'pino'
import { formatOf } from '../clients/objects/file-format.ts'
import { AdflowError, localIoError } from '../core/errors.ts'
import { identifier } from '../core/job/identifier.ts'
import { jobJsonSchema } from '../core/job/json-schema.ts'
import type { Registry } from '../core/registry.ts'
import { generateSample } from '../sample/generate.ts'
import { snake } from './column-names.ts'
import type { Draft } from './draft.ts'
import { draftedFrom, draftSource } from './draft-source.ts'
import { withoutSecrets } from './job-source.ts'
import { escaped, jobText } from './job-text.ts'
import { type SourceAddress, sourceOfAddress } from './source-address.ts'
import { GITIGNORE, readmeText, TEMPLATE_ROWS, templateJob } from './template.ts'

export interface InitOptions {
  readonly registry: Registry
  readonly dir: string
  /** Draft contract and job from this file, or from the source with this address. Default: a job on sample data that are made with it. */
  readonly from?: string
  /** `option=value`: of the extractor, beside what the address says. */
  readonly set?: readonly string[]
  readonly log: Logger
  /** How long a source may take to give its sample. */
  readonly timeoutMs?: number
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
  /** Variables of the job that must be set: secrets of the address are not written down. */
  readonly variables: readonly string[]
}

interface Drafted {
  readonly draft: Draft
  readonly extractor: Readonly<Record<string, unknown>>
  readonly variables: readonly string[]
}

const DRAFT_MS = 60_000

const SCHEMA = 'job.schema.json'

export async function initProject(options: InitOptions): Promise<InitResult> {
  const { registry, dir, from, name, set } = options
  const root = resolve(dir)
  const address = from === undefined ? undefined : sourceOfAddress(from, set)
  const job = nameOf(name, (address?.name ?? from)?.replace(/(\.\w+)+$/, '') ?? root)
  const jobFile = join('jobs', `${job}.yaml`)
  refuseExisting(root, from === undefined ? [jobFile, join('data', 'truth.json')] : [jobFile])
  const made = from === undefined ? undefined : await drafted(options, address, { job, baseDir: join(root, 'jobs') })
  const schema = `../schema/${SCHEMA}`
  const text =
    made === undefined
      ? templateJob(job, schema)
      : jobText(made.draft, { name: job, extractor: made.extractor, schema })
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
  if (made === undefined) {
    await generateSample({ dir: join(root, 'data'), rows: TEMPLATE_ROWS, files: 1, defects: '0.5%' })
    created.push('data')
  }
  return {
    schema_version: 1,
    job,
    dir: root,
    created,
    kept,
    records: made?.draft.records ?? null,
    variables: made?.variables ?? [],
  }
}

async function create(path: string, content: string): Promise<void> {
  try {
    await mkdir(dirname(path), { recursive: true })
    await writeFile(path, content, { flag: 'wx' })
  } catch (error) {
    throw localIoError(error, `write ${path}`)
  }
}

/** From a file, or from a source by its address. */
async function drafted(
  { registry, from = '', set = [], log, timeoutMs = DRAFT_MS }: InitOptions,
  address: SourceAddress | undefined,
  { job, baseDir }: { readonly job: string; readonly baseDir: string },
): Promise<Drafted> {
  if (address === undefined) {
    if (set.length > 0)
      throw new AdflowError('USAGE', '--set is for sources with an address', { hint: `${from} is a file` })
    const path = escaped(relativePath(baseDir, resolve(from)))
    // The engine has no reader for it: the extractor gives the sample.
    if (formatOf(from) === 'avro') {
      const source = { type: 'files', options: { path: resolve(from) }, name: job }
      const { draft } = await draftSource(source, { registry, baseDir, log, timeoutMs })
      return { draft, extractor: { type: 'files', path }, variables: [] }
    }
    const draft = await draftedFrom(resolve(from), join(tmpdir(), `adflow-init-${process.pid}`))
    return { draft, extractor: { type: 'files', path, ...draft.file.options }, variables: [] }
  }
  const { draft, options } = await draftSource(address, { registry, baseDir, log, timeoutMs })
  const { options: extractor, variables } = withoutSecrets(options, job)
  return { draft, extractor, variables }
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
