/**
 * The job files of a folder, as they were last valid. A file that was changed is taken up once it has settled and lint finds
 * no mistake in it; until then the job goes on as it was. What was accepted is kept as a copy, which is what runs read: a run
 * must not meet a file that somebody is writing.
 */
import { hash } from 'node:crypto'
import { mkdir, readdir, readFile, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Logger } from 'pino'
import { writeDurably } from '../core/durable.ts'
import { AdflowError, localIoError } from '../core/errors.ts'
import { graphProblems } from '../core/job/graph.ts'
import type { Job } from '../core/job/job.ts'
import { readJobText } from '../core/job/load.ts'
import { redact } from '../core/job/secrets.ts'
import type { Registry } from '../core/registry.ts'
import type { LintReport } from '../runtime/lint.ts'

export interface AcceptedJob {
  readonly job: Job
  /** sha256 hex of the text. */
  readonly digest: string
  /** Path of the copy. */
  readonly text: string
}

/** A file of the folder that is not taken up as it stands. */
export interface InvalidFile {
  readonly file: string
  /** ISO 8601 UTC. */
  readonly since: string
  readonly problems: readonly { readonly at: string; readonly message: string; readonly suggestion?: string }[]
  /** The job that goes on as the file was before; null: there was none. */
  readonly keeps: string | null
}

export interface JobFolderOptions {
  readonly folder: string
  /** Where copies are kept. */
  readonly copies: string
  readonly registry: Registry
  readonly log: Logger
  /** Checks files, SQL and all, in a process of its own. */
  readonly lint: (files: readonly string[]) => Promise<LintReport>
  /** See graphProblems. */
  readonly decidedIn?: (job: Job) => string
}

interface Accepted {
  readonly job: string
  readonly file: string
  readonly digest: string
}

interface SeenFile {
  readonly signature: string
  /** Its text was looked at. */
  readonly read: boolean
}

const EXTENSION = /\.ya?ml$/

export class JobFolder {
  readonly #options: JobFolderOptions
  readonly #seen = new Map<string, SeenFile>()
  #jobs: ReadonlyMap<string, AcceptedJob> = new Map()
  #invalid = new Map<string, InvalidFile>()
  /** Reloads since the start, by whether the file was taken up. */
  readonly reloads = { ok: 0, failed: 0 }

  constructor(options: JobFolderOptions) {
    this.#options = options
  }

  get jobs(): ReadonlyMap<string, AcceptedJob> {
    return this.#jobs
  }

  get invalid(): readonly InvalidFile[] {
    return [...this.#invalid.values()]
  }

  /** What an earlier daemon had accepted, so that a file that is broken now does not cost its job. True where all of it that
   *  still has a file is there again. */
  async restore(): Promise<boolean> {
    const files = await this.#list()
    const accepted = await readAccepted(this.#manifest)
    if (accepted === undefined) return false
    const jobs = new Map<string, AcceptedJob>()
    let whole = true
    for (const { file, job: name, digest } of accepted.filter((each) => files.has(each.file))) {
      const text = this.#copyOf(name, digest)
      try {
        const job = await readJobText(await readFile(text, 'utf8'), file, { registry: this.#options.registry })
        jobs.set(name, { job, digest, text })
      } catch (error) {
        whole = false
        this.#options.log.warn(
          { job: name, err: error },
          `what was accepted of ${name} before cannot be read any more: it waits for a valid file`,
        )
      }
    }
    this.#jobs = jobs
    return whole
  }

  /** Looks once. `settled`: a file must have stood still since the last look. True where the jobs have changed. */
  async look(settled: boolean): Promise<boolean> {
    const files = await this.#list()
    const changed: string[] = []
    for (const [file, signature] of files) {
      const seen = this.#seen.get(file)
      if (seen?.signature === signature && seen.read) continue
      const still = seen?.signature === signature
      if (still || !settled) changed.push(file)
      this.#seen.set(file, { signature, read: still || !settled })
    }
    const gone = [...this.#seen.keys()].filter((file) => !files.has(file))
    for (const file of gone) {
      this.#seen.delete(file)
      this.#invalid.delete(file)
    }
    const lost = [...this.#jobs.values()].filter(({ job }) => !files.has(job.file))
    if (changed.length === 0 && lost.length === 0) return false
    return this.#takeUp(changed, lost)
  }

  async #takeUp(changed: readonly string[], lost: readonly AcceptedJob[]): Promise<boolean> {
    const jobs = new Map(this.#jobs)
    for (const { job } of lost) jobs.delete(job.name)
    for (const file of changed) this.#invalid.delete(file)
    const candidates: AcceptedJob[] = []
    const valid = await this.#linted(changed)
    for (const file of valid) {
      const candidate = await this.#read(file)
      if (candidate !== undefined) candidates.push(candidate)
    }
    for (const candidate of candidates) {
      const { job } = candidate
      // The file had another job before: that one is gone.
      for (const [name, { job: other }] of jobs) if (other.file === job.file && name !== job.name) jobs.delete(name)
      const holder = jobs.get(job.name)
      if (holder !== undefined && holder.job.file !== job.file)
        this.#refuse(job.file, [
          { at: job.at(['name']), message: `the job ${job.name} stands in ${holder.job.file} already` },
        ])
      else jobs.set(job.name, candidate)
    }
    this.#withoutGraphProblems(jobs, candidates)
    const before = this.#jobs
    this.#jobs = jobs
    await this.#remember()
    await this.#dropCopies(before)
    for (const { job } of candidates)
      if (jobs.get(job.name)?.job === job) {
        this.reloads.ok += 1
        this.#options.log.info({ job: job.name, file: job.file }, `took up ${job.name} from ${job.file}`)
      }
    for (const { job } of lost)
      if (!jobs.has(job.name))
        this.#options.log.info({ job: job.name }, `${job.file} is gone: ${job.name} is not run any more`)
    return true
  }

  /** A job that waits for nobody, or for itself, is not taken up; the others are looked at again without it. */
  #withoutGraphProblems(jobs: Map<string, AcceptedJob>, candidates: readonly AcceptedJob[]): void {
    for (;;) {
      const all = [...jobs.values()].map(({ job }) => job)
      const problems = graphProblems(all, new Set(), this.#options.decidedIn)
      const [first] = problems
      if (first === undefined) return
      const blamed = problems.find(({ job }) => candidates.some((each) => each.job === jobs.get(job)?.job)) ?? first
      const file = jobs.get(blamed.job)?.job.file ?? this.#options.folder
      const old = this.#jobs.get(blamed.job)
      const isOld = old !== undefined && old === jobs.get(blamed.job)
      if (old !== undefined && !isOld) jobs.set(blamed.job, old)
      else jobs.delete(blamed.job)
      this.#refuse(
        file,
        problems.filter(({ job }) => job === blamed.job),
      )
    }
  }

  async #linted(files: readonly string[]): Promise<readonly string[]> {
    if (files.length === 0) return []
    const report = await this.#options.lint(files)
    return report.files.flatMap(({ file, problems }) => {
      if (problems.length === 0) return [file]
      this.#refuse(file, problems)
      return []
    })
  }

  async #read(file: string): Promise<AcceptedJob | undefined> {
    try {
      const content = await readFile(file, 'utf8')
      const job = await readJobText(content, file, { registry: this.#options.registry })
      const digest = hash('sha256', content)
      await mkdir(this.#options.copies, { recursive: true, mode: 0o700 })
      const text = this.#copyOf(job.name, digest)
      await writeDurably(text, content)
      return { job, digest, text }
    } catch (error) {
      if (
        !(error instanceof AdflowError) ||
        !['JOB_INVALID', 'JOB_NOT_FOUND', 'VARIABLE_MISSING', 'SECRET_UNREADABLE'].includes(error.code)
      )
        throw error
      this.#refuse(file, [{ at: `${file}:1:1`, message: redact(error.message) }])
      return undefined
    }
  }

  #refuse(file: string, problems: InvalidFile['problems']): void {
    const keeps = [...this.#jobs.values()].find(({ job }) => job.file === file)?.job.name ?? null
    this.#invalid.set(file, {
      file,
      since: new Date().toISOString(),
      problems: problems.map(({ at, message, suggestion }) => ({
        at,
        message,
        ...(suggestion === undefined ? {} : { suggestion }),
      })),
      keeps,
    })
    this.reloads.failed += 1
    const kept = keeps === null ? 'it is not run' : `${keeps} goes on as it was`
    this.#options.log.error(
      { file, problems },
      `${file} has mistakes, and ${kept}: ${problems[0]?.at} ${problems[0]?.message}`,
    )
  }

  /** Absolute path → what changes with every write. */
  async #list(): Promise<ReadonlyMap<string, string>> {
    const { folder } = this.#options
    const found = new Map<string, string>()
    try {
      for (const name of (await readdir(folder))
        .filter((entry) => EXTENSION.test(entry) && !entry.startsWith('.'))
        .sort()) {
        const about = await stat(join(folder, name)).catch(() => undefined) // gone meanwhile, or a broken link
        if (about?.isFile() === true)
          found.set(join(folder, name), `${about.ino} ${about.size} ${about.mtimeMs} ${about.ctimeMs}`)
      }
    } catch (error) {
      throw localIoError(error, `list the job files in ${folder}`)
    }
    return found
  }

  /** For the next daemon. */
  async #remember(): Promise<void> {
    const accepted = [...this.#jobs.values()].map(
      ({ job: { name, file }, digest }): Accepted => ({ job: name, file, digest }),
    )
    await mkdir(this.#options.copies, { recursive: true, mode: 0o700 })
    await writeDurably(this.#manifest, `${JSON.stringify(accepted)}\n`)
  }

  get #manifest(): string {
    return join(this.#options.copies, 'accepted.json')
  }

  #copyOf(job: string, digest: string): string {
    return join(this.#options.copies, `${job}-${digest.slice(0, 16)}.yaml`)
  }

  /** One that runs may still be reading stays for a change longer. */
  async #dropCopies(before: ReadonlyMap<string, AcceptedJob>): Promise<void> {
    const used = new Set([...this.#jobs.values(), ...before.values()].map(({ text }) => text))
    for (const name of await readdir(this.#options.copies).catch(() => [])) {
      const path = join(this.#options.copies, name)
      if (EXTENSION.test(name) && !name.startsWith('.') && !used.has(path)) await rm(path, { force: true })
    }
  }
}

/** undefined: there was no daemon before, or what it has left is not whole. */
async function readAccepted(path: string): Promise<readonly Accepted[] | undefined> {
  try {
    return JSON.parse(await readFile(path, 'utf8')) as readonly Accepted[]
  } catch (error) {
    if (error instanceof SyntaxError || (error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw localIoError(error, `read ${path}`)
  }
}
