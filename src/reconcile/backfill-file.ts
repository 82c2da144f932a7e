/**
 * A backfill on disk: `backfills/<id>.plan.json`, which never changes, and `backfills/<id>.json`, which is written after it and
 * makes it exist. What of the plan is done stands in the ledger alone.
 */
import { hash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { writeDurably } from '../core/durable.ts'
import { AdflowError, localIoError } from '../core/errors.ts'
import type { StateDir } from '../runtime/state-dir.ts'

const position = z.string().regex(/^(0|[1-9]\d*)$/)

const item = z.object({
  /** `first`: no run has read the range. `restore`: it was loaded, and is gone from `stores`. */
  kind: z.enum(['first', 'restore']),
  source: z.string(),
  lane: z.string(),
  from: position,
  to: position,
  /** The extractor's evidence at the end and at the beginning of the range. */
  mark: z.string().optional(),
  markFrom: z.string().optional(),
  token: z.string(),
  sequence: position,
  clock: z.string(),
  bytes: z.number(),
  records: z.number(),
  stores: z.array(z.string()),
})

const head = z.object({
  version: z.literal(1),
  id: z.string(),
  job: z.string(),
  created_at: z.string(),
  who: z.string(),
  command: z.string(),
  /** `running` of a process that is gone means: killed, and to be resumed. */
  status: z.enum(['planned', 'running', 'paused', 'incomplete', 'failed', 'done', 'cancelled']),
  updated_at: z.string(),
  /** Run id of the process that works on it, or worked on it last. */
  run: z.string().optional(),
  message: z.string().optional(),
  first: z.number(),
  restore: z.number(),
  bytes: z.number(),
  records: z.number(),
  /** sha256 of the plan. */
  plan: z.string(),
})

export type BackfillItem = z.infer<typeof item>
export type BackfillHead = z.infer<typeof head>

function backfillFolder(state: StateDir): string {
  return join(state.path, 'backfills')
}

export async function writeBackfill(
  state: StateDir,
  about: Omit<BackfillHead, 'version' | 'plan' | 'updated_at'>,
  items: readonly BackfillItem[],
): Promise<BackfillHead> {
  const folder = backfillFolder(state)
  await mkdir(folder, { recursive: true, mode: 0o700 }).catch((error: unknown) => {
    throw localIoError(error, `make the folder ${folder}`)
  })
  const plan = JSON.stringify(items)
  await writeDurably(join(folder, `${about.id}.plan.json`), plan)
  const made: BackfillHead = { version: 1, ...about, updated_at: about.created_at, plan: hash('sha256', plan) }
  await writeDurably(join(folder, `${about.id}.json`), JSON.stringify(made))
  return made
}

export async function saveHead(
  state: StateDir,
  { message: _, ...before }: BackfillHead,
  change: Partial<BackfillHead>,
): Promise<BackfillHead> {
  const after: BackfillHead = { ...before, ...change, updated_at: new Date().toISOString() }
  await writeDurably(join(backfillFolder(state), `${after.id}.json`), JSON.stringify(after))
  return after
}

/** Oldest first. */
export async function listBackfills(state: StateDir): Promise<readonly BackfillHead[]> {
  const folder = backfillFolder(state)
  if (!existsSync(folder)) return []
  const names = (await readdir(folder)).filter((name) => /^[0-9a-f-]+\.json$/.test(name)).sort()
  return Promise.all(names.map(async (name) => read(join(folder, name), head)))
}

/** By its id, the beginning of it, or `last`. @throws AdflowError USAGE, STATE_DAMAGED */
export async function findBackfill(state: StateDir, wanted: string): Promise<BackfillHead> {
  const all = await listBackfills(state)
  const found = wanted === 'last' ? all.slice(-1) : all.filter(({ id }) => id.startsWith(wanted))
  const [only, ...others] = found
  if (only !== undefined && others.length === 0) return only
  const ids = (others.length > 0 ? found : all).slice(-5).map(({ id, status }) => `${id} (${status})`)
  throw new AdflowError(
    'USAGE',
    others.length > 0 ? `${wanted} is not one backfill` : `there is no backfill ${wanted}`,
    {
      hint: ids.length === 0 ? 'the job has none yet' : `backfills: ${ids.join(', ')}`,
    },
  )
}

/** @throws AdflowError STATE_DAMAGED where the plan is not what was written */
export async function readPlan(state: StateDir, { id, plan }: BackfillHead): Promise<readonly BackfillItem[]> {
  const path = join(backfillFolder(state), `${id}.plan.json`)
  return read(path, z.array(item), plan)
}

async function read<T>(path: string, schema: z.ZodType<T>, digest?: string): Promise<T> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    throw localIoError(error, `read ${path}`)
  }
  try {
    if (digest === undefined || hash('sha256', text) === digest) return schema.parse(JSON.parse(text))
  } catch (error) {
    if (!(error instanceof SyntaxError || error instanceof z.ZodError)) throw error
  }
  throw new AdflowError('STATE_DAMAGED', `${path} is not what adflow wrote there`, {
    hint: 'restore it from a backup, or remove it and plan the backfill anew: what it has loaded stands in the ledger',
  })
}
