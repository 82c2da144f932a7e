/**
 * In how many shards a job is divided now. Where that has never changed nothing says so but the states of its parts; a change is written
 * down before anything of a part is moved.
 */
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { z } from 'zod'
import { AdflowError, localIoError } from '../core/errors.ts'
import type { Job } from '../core/job/job.ts'
import { parseShard, type Shard, shardText } from '../core/shard.ts'
import { whoHolds } from './lock.ts'
import { fetchFolder, type SharedFolder, sharedNames } from './shared-folder.ts'
import { layoutFolder, layoutsIn, wholeDirectory } from './state-dir.ts'

const layout = z.strictObject({
  of: z.int().positive(),
  /** The parts are being made anew, so many of them. */
  next: z.int().positive().optional(),
})
export type Layout = Readonly<z.infer<typeof layout>>

export const LAYOUT_FILE = 'layout.json'
const PAUSE_MS = 50

export type DividedJob = Pick<Job, 'name' | 'file' | 'state' | 'baseDir' | 'stream'>

/** What the job, or its part, is called in the server. No job can have the name of a part. */
export function sharedName(job: string, { shard }: { readonly shard?: Shard | undefined }): string {
  return shard === undefined ? job : `${job}@${shardText(shard)}`
}

/** Of the folder in which the layout lies; undefined: it is on this machine alone. */
export function sharedLayout({ name, state: place, baseDir }: DividedJob): Omit<SharedFolder, 'path'> | undefined {
  return place === undefined ? undefined : { place, baseDir, name: `${name}@layout` }
}

/** Most jobs have never been divided: of them nobody asks. */
export function mayBeDivided({ name, state, stream }: DividedJob, stateDir: string): boolean {
  if (stream.shards > 1 || (state !== undefined && stream.forever)) return true
  return existsSync(dirname(layoutFolder(wholeDirectory(stateDir), name)))
}

/** undefined: it has never been changed. @throws AdflowError STATE_* */
export async function readLayout(job: DividedJob, stateDir: string): Promise<Layout | undefined> {
  const path = layoutFolder(wholeDirectory(stateDir), job.name)
  const shared = sharedLayout(job)
  // What a process of this machine has written there may be refused by the server yet.
  if (shared !== undefined)
    for (;;) {
      await fetchFolder({ ...shared, path })
      if (!existsSync(path) || (await whoHolds(path)) === 'nobody') break
      await delay(PAUSE_MS)
    }
  return writtenLayout(job, stateDir)
}

/** For who holds the layout. */
export async function writtenLayout({ name }: DividedJob, stateDir: string): Promise<Layout | undefined> {
  const file = join(layoutFolder(wholeDirectory(stateDir), name), LAYOUT_FILE)
  try {
    const found = layout.safeParse(JSON.parse(await readFile(file, 'utf8')))
    if (found.success) return found.data
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    if (!(error instanceof SyntaxError)) throw localIoError(error, `read ${file}`)
  }
  throw new AdflowError('STATE_DAMAGED', `${file} does not say in how many shards ${name} is divided`, {
    hint: 'restore it, or write {"of":N} with the number of shards that was in use last',
  })
}

/** How it is divided where nothing says so: as the only parts are that have a state, or as the job file wants it. @throws AdflowError STATE_SHARDS */
export async function foundLayout(job: DividedJob, stateDir: string): Promise<Layout> {
  const { name, state: place, baseDir, stream } = job
  const counts =
    place === undefined
      ? await layoutsIn(wholeDirectory(stateDir), name)
      : countsOf(name, await sharedNames({ place, baseDir, name }, 'checkpoint.'))
  if (counts.length === 0 || counts.includes(stream.shards)) return { of: stream.shards }
  const [only, ...others] = counts
  if (only !== undefined && others.length === 0) return { of: only }
  throw new AdflowError(
    'STATE_SHARDS',
    `nobody knows which state of ${name} counts: that of ${counts.join(' or ')} shards`,
    {
      hint: `remove what is old, or run \`adflow recover ${job.file}\` for each part; nothing was touched`,
    },
  )
}

function countsOf(job: string, names: readonly string[]): readonly number[] {
  const counts = names.flatMap((name) => {
    if (name === job) return [1]
    return name.startsWith(`${job}@`) ? (parseShard(name.slice(job.length + 1))?.of ?? []) : []
  })
  return [...new Set(counts)]
}

/** For who has just taken a part of the job. @throws AdflowError STATE_SHARDS where the parts are others now */
export async function requireLayout(job: DividedJob, stateDir: string): Promise<void> {
  if (!mayBeDivided(job, stateDir)) return
  const now = await readLayout(job, stateDir)
  if (now === undefined || (now.of === job.stream.shards && now.next === undefined)) return
  const found = now.next === undefined ? `has ${now.of} shards` : `is being divided into ${now.next} shards`
  throw new AdflowError('STATE_SHARDS', `the job ${job.name} ${found}, and its job file says ${job.stream.shards}`, {
    hint: `\`adflow run ${job.file}\` divides it as the job file says, once none of its parts is run`,
  })
}
