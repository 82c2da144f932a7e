/**
 * Divides a job anew where its number of shards has changed: positions and plans of lanes go to the parts that have these lanes now. A kill at any
 * place is mended by the next run of any part, for what is to be done follows from the layout, and what was done is done again.
 *
 * 1. All parts are free: whoever runs one of them is told of, or has lost its lease by this, and is refused whatever it writes yet.
 * 2. The layout says that they are being made anew: nobody takes a part any more.
 * 3. What old parts owe is paid. They are not changed otherwise.
 * 4. New parts are written, each from all old ones.
 * 5. The layout says that these count.
 */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { writeDurably } from '../core/durable.ts'
import { AdflowError, localIoError } from '../core/errors.ts'
import type { Job } from '../core/job/job.ts'
import type { Shard } from '../core/shard.ts'
import { type CarriedPart, readPart, writePart } from './carry.ts'
import { type HeldJob, holdJob } from './hold.ts'
import {
  foundLayout,
  LAYOUT_FILE,
  type Layout,
  mayBeDivided,
  readLayout,
  sharedLayout,
  writtenLayout,
} from './layout.ts'
import { lockJob } from './lock.ts'
import type { RunOptions } from './run.ts'
import { takeFolder } from './shared-folder.ts'
import { layoutFolder, shardDirectory, shardsOf, wholeDirectory } from './state-dir.ts'
import type { RunSummary } from './summary.ts'

/** Of a run of any part, or of the whole job. */
export interface DivideOptions extends RunOptions {
  readonly run: (options: RunOptions, held: HeldJob, run: string) => Promise<RunSummary>
}

const PAUSE_MS = 200

/** Resolves when the job is divided as its file says. @throws AdflowError JOB_LOCKED, STORE_OWED, STATE_* */
export async function divide(options: DivideOptions): Promise<void> {
  const { job, stateDir, drain } = options
  if (!mayBeDivided(job, stateDir)) return
  // Parts that begin at the same time wait for the one that divides.
  while (drain?.aborted !== true) {
    if (isAsWanted((await readLayout(job, stateDir)) ?? (await foundLayout(job, stateDir)), job)) return
    const held = await holdLayout(options)
    if (held === undefined) {
      await delay(PAUSE_MS, undefined, { signal: drain }).catch(() => undefined) // aborted: the loop ends
      continue
    }
    try {
      await divideAnew(options, held)
    } finally {
      await held.close()
    }
  }
}

function isAsWanted({ of, next }: Layout, { stream }: Job): boolean {
  return of === stream.shards && next === undefined
}

interface HeldLayout {
  write(layout: Layout): Promise<void>
  /** Call with a part in hand. @throws AdflowError FENCED where another machine divides the job now, or may: it has that part, or gets it after this. */
  check(): void
  close(): Promise<void>
}

/** undefined: somebody else has it. */
async function holdLayout({ job, stateDir, command }: DivideOptions): Promise<HeldLayout | undefined> {
  const path = layoutFolder(wholeDirectory(stateDir), job.name)
  await mkdir(path, { recursive: true, mode: 0o700 }).catch((error: unknown) => {
    throw localIoError(error, `make the folder ${path}`)
  })
  const lock = await lockJob(path, { command, run: 'divide' }).catch((error: unknown) => {
    if (error instanceof AdflowError && error.code === 'JOB_LOCKED') return undefined
    throw error
  })
  if (lock === undefined) return undefined
  const shared = sharedLayout(job)
  try {
    const taken = shared && (await takeFolder({ ...shared, path }, { command, more: {} }))
    if (shared === undefined || taken !== undefined)
      return {
        write: (layout) => writeDurably(join(path, LAYOUT_FILE), `${JSON.stringify(layout)}\n`),
        check: () => taken?.check(),
        close: async () => {
          await taken?.close()
          await lock.close()
        },
      }
  } catch (error) {
    await lock.close()
    throw error
  }
  await lock.close()
  return undefined
}

async function divideAnew(options: DivideOptions, layout: HeldLayout): Promise<void> {
  const { job, log } = options
  const { of, next } = (await writtenLayout(job, options.stateDir)) ?? (await foundLayout(job, options.stateDir))
  const to = job.stream.shards
  // Until the end the old parts are what they were: going back, or elsewhere, is always possible.
  if (of === to) return next === undefined ? undefined : layout.write({ of })
  const from = shardsOf(of)
  if (next === undefined) for (const shard of from) await inPart(options, layout, shard, of, async () => undefined)
  if (next !== to) await layout.write({ of, next: to })
  const carried: CarriedPart[] = []
  for (const shard of from)
    carried.push(
      await inPart(options, layout, shard, of, (part, about) =>
        readPart(part.state, about.job, () => settle(options, part, about)),
      ),
    )
  for (const shard of shardsOf(to))
    await inPart(options, layout, shard, to, (part) => writePart(part, { job, from: carried, of }))
  await layout.write({ of: to })
  log.warn(`${job.name} had ${of} shards, and has ${to} now: positions and plans went with their lanes`)
}

/** A run that reads nothing: what was left open in stores is decided, and what is owed to them and to consumers is paid. */
async function settle(
  { run, registry, log, command, version, drain, distribution }: DivideOptions,
  held: HeldJob,
  part: { readonly job: Job; readonly stateDir: string },
): Promise<void> {
  const about = { ...part, registry, log, command, version, only: [], until: 'forever' as const }
  const signals = { ...(drain === undefined ? {} : { drain }), ...(distribution === undefined ? {} : { distribution }) }
  const { error, stores } = await run({ ...about, ...signals }, held, held.run)
  if (error !== undefined)
    throw new AdflowError(error.code, error.message, error.hint === undefined ? {} : { hint: error.hint })
  const [id, down] = Object.entries(stores).find(([, { reason }]) => reason !== undefined) ?? []
  if (id === undefined) return
  throw new AdflowError(
    'STORE_OWED',
    `${part.job.name} cannot be divided anew: batches are under way, and ${id} cannot be asked for them: ${down?.reason}`,
    { hint: `mend the store, or put \`stream.shards\` back to ${part.job.stream.shards}; nothing was changed` },
  )
}

async function inPart<T>(
  { job, stateDir, command }: DivideOptions,
  layout: HeldLayout,
  shard: Shard | undefined,
  count: number,
  work: (held: HeldJob, part: { readonly job: Job; readonly stateDir: string }) => Promise<T>,
): Promise<T> {
  const whole = wholeDirectory(stateDir)
  const part = {
    job: { ...job, stream: { ...job.stream, shards: count } },
    stateDir: shard === undefined ? whole : shardDirectory(whole, job.name, shard),
  }
  const held = await holdJob({ ...part, command, dividing: true })
  try {
    layout.check()
    return await work(held, part)
  } finally {
    await held.close()
  }
}
