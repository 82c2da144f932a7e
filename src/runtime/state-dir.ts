/** Where the state of a job lives on this machine. */
import { existsSync } from 'node:fs'
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { sweepTemporaries, temporaryPath } from '../core/durable.ts'
import { AdflowError, localIoError } from '../core/errors.ts'
import { parseShard, type Shard } from '../core/shard.ts'
import { isStateUrl, parseStatePlace, type StatePlace } from '../core/state-place.ts'

export interface StateDirSources {
  readonly flag?: string
  readonly env: Readonly<Record<string, string | undefined>>
  readonly jobFile: string
}

/** Flag > ADFLOW_STATE_DIR > STATE_DIRECTORY (systemd) > XDG_STATE_HOME/adflow > .adflow beside the job file. A URL where flag or
 *  ADFLOW_STATE_DIR have one says where the state is shared, not where this machine works on it: see `sharedPlace`. */
export function resolveStateDir({ flag, env, jobFile }: StateDirSources): string {
  const given = folder(flag) ?? folder(filled(env['ADFLOW_STATE_DIR'])) ?? filled(env['STATE_DIRECTORY'])?.split(':')[0]
  if (given !== undefined) return resolve(given)
  const xdg = filled(env['XDG_STATE_HOME'])
  return xdg === undefined ? join(dirname(resolve(jobFile)), '.adflow') : resolve(xdg, 'adflow')
}

/** Where the state is shared, if flag or ADFLOW_STATE_DIR say so. @throws AdflowError USAGE */
export function sharedPlace({ flag, env }: Pick<StateDirSources, 'flag' | 'env'>): StatePlace | undefined {
  const url = [flag, filled(env['ADFLOW_STATE_DIR'])].find((text) => text !== undefined && isStateUrl(text))
  return url === undefined ? undefined : parseStatePlace(url)
}

/** Folder of this machine's working copies of what is shared there: apart from jobs whose state is here alone. */
export function workingDir(stateDir: string, place: StatePlace | undefined): string {
  return place === undefined ? stateDir : join(stateDir, `_shared-${place.key}`)
}

function folder(text: string | undefined): string | undefined {
  return text === undefined || isStateUrl(text) ? undefined : text
}

function filled(value: string | undefined): string | undefined {
  return value === '' ? undefined : value
}

/** Folders of one job. */
export interface StateDir {
  readonly path: string
  /** It is the state of this part of the job. */
  readonly shard?: Shard
  readonly ledger: string
  readonly spool: string
  /** Fetched bytes of sources that cannot be read again, until they are loaded. */
  readonly staged: string
  /** Cut chunks; empty between runs. */
  readonly chunks: string
  /** Where the engine spills; empty between runs. */
  readonly temp: string
  readonly quarantine: string
  /** What runs were made of. */
  readonly pins: string
  /** Batches on their way to consumers. */
  readonly outbox: string
  /** What each consumer has had, has coming, and has refused. */
  readonly consumers: string
  /** State tables of steps. */
  readonly database: string
  spoolOf(loader: string): string
  stagedOf(source: string): string
  outboxOf(output: string): string
  consumerOf(consumer: string): string
}

/** The state directory of one part of a job: for every command that is given it, the job is that part. */
export function shardDirectory(directory: string, job: string, { index, of }: Shard): string {
  return join(directory, job, SHARDS, `${index}-of-${of}`)
}

/** The state of the part of a job, or of the whole of it (undefined). */
export function partStateOf(directory: string, job: string, shard: Shard | undefined): StateDir {
  return stateDirOf(shard === undefined ? directory : shardDirectory(directory, job, shard), job)
}

/** Where the job as a whole has its state, given the state directory of that or of a part. */
export function wholeDirectory(directory: string): string {
  return shardOfDirectory(directory) === undefined ? directory : dirname(dirname(dirname(directory)))
}

/** All parts of a job in so many shards; one that is run whole is one part (undefined). */
export function shardsOf(count: number): readonly (Shard | undefined)[] {
  return count === 1 ? [undefined] : Array.from({ length: count }, (_, index) => ({ index, of: count }))
}

/** Folder of what says how a job is divided now, beside its parts. */
export function layoutFolder(directory: string, job: string): string {
  return join(directory, job, SHARDS, 'layout')
}

/** How many shards there are in each of the layouts of which something is there, in files of this machine. */
export async function layoutsIn(directory: string, job: string): Promise<readonly number[]> {
  const folders = await foldersIn(join(directory, job, SHARDS))
  const parts = [undefined, ...folders.flatMap((folder) => shardOfDirectory(folder) ?? [])]
  const begun = parts.filter((shard) => {
    const { path } = partStateOf(directory, job, shard)
    return ['a', 'b'].some((slot) => existsSync(join(path, `checkpoint.${slot}`)))
  })
  return [...new Set(begun.map((shard) => shard?.of ?? 1))]
}

const SHARDS = 'shards'

function shardOfDirectory(directory: string): Shard | undefined {
  if (basename(dirname(directory)) !== SHARDS) return undefined
  return parseShard(basename(directory).replace('-of-', '/'))
}

/** The folders of a job, whether they exist or not. */
export function stateDirOf(directory: string, job: string): StateDir {
  const path = join(directory, job)
  const shard = shardOfDirectory(directory)
  return {
    path,
    ...(shard === undefined ? {} : { shard }),
    ledger: join(path, 'ledger'),
    spool: join(path, 'spool'),
    staged: join(path, 'staged'),
    chunks: join(path, 'chunks'),
    temp: join(path, 'temp'),
    quarantine: join(path, 'quarantine'),
    pins: join(path, 'pins'),
    outbox: join(path, 'outbox'),
    consumers: join(path, 'consumers'),
    database: join(path, 'state.duckdb'),
    spoolOf: (loader) => join(path, 'spool', loader),
    stagedOf: (source) => join(path, 'staged', source),
    outboxOf: (output) => join(path, 'outbox', output),
    consumerOf: (consumer) => join(path, 'consumers', consumer),
  }
}

/** Creates what is missing, for this user alone: the quarantine holds records as they came. @throws AdflowError LOCAL_IO, with the path, where it cannot be written. */
export async function openStateDir(directory: string, job: string): Promise<StateDir> {
  const state = stateDirOf(directory, job)
  try {
    for (const folder of [state.ledger, state.spool, state.chunks, state.temp, state.quarantine])
      await mkdir(folder, { recursive: true, mode: 0o700 })
    // access(2) asks for the real user and knows nothing of a full disk: only a write tells.
    const probe = temporaryPath(join(state.path, 'probe'))
    await writeFile(probe, 'x', { flag: 'wx' })
    await rm(probe)
    return state
  } catch (error) {
    const wrapped = localIoError(error, `write in the state directory ${state.path}`)
    throw new AdflowError(wrapped.code, wrapped.message, {
      cause: error,
      hint: 'give a writable folder with --state-dir or ADFLOW_STATE_DIR; nothing was read',
    })
  }
}

/** What a killed run left: everything in the folders that are empty between runs, and half-written files in the others.
 *  Only for the holder of the job's lock. */
export async function emptyStateFolders(state: StateDir): Promise<void> {
  for (const folder of [state.chunks, state.temp]) {
    try {
      for (const name of await readdir(folder)) await rm(join(folder, name), { recursive: true, force: true })
    } catch (error) {
      throw localIoError(error, `empty ${folder}`)
    }
  }
  const inner = [state.spool, state.outbox, state.consumers].map(foldersIn)
  for (const folder of [state.path, state.ledger, state.quarantine, ...(await Promise.all(inner)).flat()])
    await sweepTemporaries(folder)
}

/** Ids of the loaders that have a spool, whether the job has them or not. */
export async function spoolsIn({ spool }: StateDir): Promise<readonly string[]> {
  return (await foldersIn(spool)).map((folder) => basename(folder))
}

async function foldersIn(folder: string): Promise<readonly string[]> {
  try {
    const entries = await readdir(folder, { withFileTypes: true })
    return entries.filter((entry) => entry.isDirectory()).map(({ name }) => join(folder, name))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw localIoError(error, `list ${folder}`)
  }
}
