/** Job file → Job. Every mistake of the file is collected and thrown as one error with file:line:column for each. */
import { createHash } from 'node:crypto'
import { readFile, stat } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { dirname, resolve } from 'node:path'
import { z } from 'zod'
import { AdflowError } from '../errors.ts'
import type { Registry } from '../registry.ts'
import { parseStatePlace, type StatePlace } from '../state-place.ts'
import { Checker } from './checker.ts'
import { MAIN, readDistribute, readExtract, readLoad, readTransform, readTransport } from './components.ts'
import { parseYaml, type YamlDocument } from './document.ts'
import { type Environment, interpolate } from './interpolate.ts'
import type { Job, JobExtractor, JobReconcile, JobStep } from './job.ts'
import { excerpt, START_OF_FILE } from './places.ts'
import { Problems } from './problems.ts'
import { readColumns, readRules } from './rules.ts'
import { readSchedule } from './schedule.ts'
import { contract, jobDocument, reconcile, test } from './schema.ts'
import { redact } from './secrets.ts'
import { checkForever, readStream } from './stream.ts'
import { readTests } from './tests.ts'

export interface LoadOptions {
  readonly registry: Registry
  /** Where `${…}` finds its values. Default: the process's environment. */
  readonly env?: Environment
  /** true: variables and secret files without a value are no mistakes but stand in `unresolved`, and components that cannot be
   *  read without them are left out. To look at a job; such a one cannot run. */
  readonly withoutValues?: boolean
}

/** Reads a job file. `path` is how the file is called in messages. Throws JOB_NOT_FOUND, JOB_INVALID,
 *  VARIABLE_MISSING, SECRET_UNREADABLE; `details.problems` lists the mistakes. */
export async function loadJob(path: string, options: LoadOptions): Promise<Job> {
  return readJobText(await readText(path), path, options)
}

async function readText(path: string): Promise<string> {
  const problems = new Problems(path, '')
  try {
    const { size } = await stat(path)
    if (size > 2_000_000) problems.add(START_OF_FILE, `the file has ${size} bytes; a job file has at most 1 MB`)
    problems.throwIfAny()
    return new TextDecoder('utf-8', { fatal: true }).decode(await readFile(path))
  } catch (error) {
    if (error instanceof AdflowError) throw error
    if (error instanceof TypeError) {
      problems.add(START_OF_FILE, 'the file is not valid UTF-8', { suggestion: 'save it as UTF-8' })
      problems.throwIfAny()
    }
    const reason = error instanceof Error ? error.message : String(error)
    throw new AdflowError('JOB_NOT_FOUND', `cannot read the job file ${path}: ${reason}`, { cause: error })
  }
}

/** The same for text that is already in memory; relative paths start at the folder of `file`. */
export async function readJobText(text: string, file: string, options: LoadOptions): Promise<Job> {
  const problems = new Problems(file, text)
  const document = parseYaml(text, problems)
  problems.throwIfAny()
  if (document === undefined) throw new AdflowError('UNEXPECTED', `${file} gave neither a document nor a mistake`)
  return readDocument(document, text, file, problems, options)
}

async function readDocument(
  document: YamlDocument,
  text: string,
  file: string,
  problems: Problems,
  { registry, env = process.env, withoutValues = false }: LoadOptions,
): Promise<Job> {
  const baseDir = dirname(resolve(file))
  const content = interpolate(document.value, env, baseDir)
  const unresolved = withoutValues ? content.failures.filter(({ code }) => code !== 'JOB_INVALID') : []
  const checker = new Checker(document, content, problems, unresolved)
  const whole = checker.check(jobDocument, [])
  const extract = await readExtract(checker, registry)
  const steps = await readTransform(checker, registry)
  const load = await readLoad(checker, registry, steps)
  const distribute = await readDistribute(checker, registry, steps)
  const transport = await readTransport(checker, registry)
  uniqueIds(checker, steps)
  checkForever(checker, load)
  // With a mistake elsewhere in the file these sections are still looked at.
  const fields = whole?.contract ?? section(checker, contract, 'contract')
  const columns = fields === undefined ? [] : readColumns(checker, fields.columns)
  const closed = fields !== undefined && fields.unknown !== 'evolve'
  const rules = readRules(checker, closed ? columns.map((column) => column.name) : undefined)
  const sources = Object.keys(checker.rawMap(['extract']))
  const ends = [...Object.keys(checker.rawMap(['load'])), ...Object.keys(checker.rawMap(['distribute']))]
  const outputs = [MAIN, ...ends, ...steps.flatMap(({ id, branches }) => [id, ...branches])]
  const tests = readTests(checker, whole?.tests ?? section(checker, z.array(test), 'tests') ?? [], { sources, outputs })
  const state = whole?.state === undefined ? undefined : readState(checker, { text: whole.state, baseDir }, extract)
  problems.throwIfAny()
  if (whole === undefined) throw new AdflowError('UNEXPECTED', `${file} gave neither a job nor a mistake`)
  return {
    file: resolve(file),
    baseDir,
    name: whole.name,
    description: whole.description,
    digest: digest(content.published),
    text,
    used: content.used,
    unresolved,
    extract,
    columns,
    unknown: whole.contract.unknown,
    ...rules,
    steps,
    load,
    distribute,
    ...limits(whole),
    lineage: { namespace: whole.lineage.namespace, transport, timeoutMs: whole.lineage.timeout },
    reconcile: reconciliation(whole.reconcile ?? reconcile.parse({})),
    schedule: whole.schedule === undefined ? undefined : readSchedule(whole.schedule),
    stream: readStream(whole.until, whole.stream),
    state,
    tests,
    at: (path) => {
      const { line, column } = checker.place(path)
      return `${file}:${line}:${column}`
    },
    excerpt: (path) => redact(excerpt(text, checker.place(path))),
  }
}

function readState(
  checker: Checker,
  { text, baseDir }: { readonly text: string; readonly baseDir: string },
  extract: readonly JobExtractor[],
): StatePlace | undefined {
  for (const { id, type, path } of extract)
    if (type === 'push')
      checker.add(
        path,
        `what is pushed to ${id} lies in a journal on one machine, and the state is shared by several`,
        'leave out `state`, or keep pushed sources in a job of their own',
        'key',
      )
  try {
    return parseStatePlace(text, baseDir)
  } catch (error) {
    if (!(error instanceof AdflowError)) throw error
    checker.add(['state'], error.message, error.hint ?? '', 'value')
    return undefined
  }
}

function section<Schema extends z.ZodType>(
  checker: Checker,
  schema: Schema,
  key: string,
): z.output<Schema> | undefined {
  return checker.raw([key]) === undefined ? undefined : checker.check(schema, [key])
}

/** Sources, steps, loaders and consumers share one space of names: lineage and tests name them without saying which they are. */
function uniqueIds(checker: Checker, steps: readonly JobStep[]): void {
  const taken = new Map([
    ['quarantine', 'the quarantine of rejected records'],
    [MAIN, 'the end of the chain of steps'],
  ])
  const claim = (id: string, what: string, path: readonly (string | number)[], about: 'key' | 'value') => {
    const holder = taken.get(id)
    if (holder === undefined) taken.set(id, what)
    else checker.add(path, `the id \`${id}\` is already taken by ${holder}`, 'ids are unique in a job', about)
  }
  for (const id of Object.keys(checker.rawMap(['extract']))) claim(id, 'a source', ['extract', id], 'key')
  for (const { id, path } of steps) {
    const inner = [...path, 'id']
    claim(id, 'a step', checker.raw(inner) === id ? inner : [...path.slice(0, -1), 'id'], 'value')
  }
  for (const id of Object.keys(checker.rawMap(['load']))) claim(id, 'a loader', ['load', id], 'key')
  for (const id of Object.keys(checker.rawMap(['distribute']))) claim(id, 'a consumer', ['distribute', id], 'key')
}

function limits({ resources, spool, retry }: z.output<typeof jobDocument>): Pick<Job, 'resources' | 'spool' | 'retry'> {
  return {
    resources: {
      memoryLimitBytes: resources.memory_limit,
      threads: resources.threads ?? availableParallelism(),
      chunkBytes: resources.chunk,
      wholeFileBytes: resources.whole_file,
      sources: resources.sources,
      parallel: resources.parallel,
      inFlight: resources.in_flight,
      maxRecordBytes: resources.max_record,
      tempDirectory: resources.temp_directory,
    },
    spool: { maxBytes: spool.max_bytes, whenFull: spool.when_full },
    retry: { attempts: retry.attempts, initialMs: retry.initial, maxMs: retry.max },
  }
}

function reconciliation({ every, window, settle, ...rest }: z.output<typeof reconcile>): JobReconcile {
  const { by, column, key, compare, sum, heal } = rest
  return { everyMs: every, windowMs: window, settleMs: settle, by, column, key, compare, sum, heal }
}

/** The order of keys counts: columns are created in it. Comments, quotes and layout do not. */
function digest(published: unknown): string {
  const text = JSON.stringify(published, (_, value: unknown) => (typeof value === 'bigint' ? `${value}n` : value))
  return createHash('sha256').update(text).digest('hex')
}
