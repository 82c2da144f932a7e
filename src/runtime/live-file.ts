/** What a run that goes on for ever says of itself while it does: one small file in its state directory, for the daemon and people. */
import { readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { redact } from '../core/job/secrets.ts'
import type { Phases } from './phases.ts'
import type { Store } from './store.ts'
import type { RunSummary } from './summary.ts'

const live = z.object({
  schema_version: z.literal(1),
  run: z.string(),
  pid: z.int(),
  /** ISO 8601 UTC. */
  started_at: z.string(),
  at: z.string(),
  /** Since the run began: bytes and records. */
  bytes: z.number(),
  batches: z.number(),
  read: z.number(),
  passed: z.number(),
  quarantined: z.number(),
  filtered: z.number(),
  deduplicated: z.number(),
  /** Records per second, since the file was written before. */
  rate: z.number(),
  gaps: z.number(),
  /** Records that wait in the sources, where these tell. */
  lag: z.number().nullable().default(null),
  /** How long batches were in each phase, in milliseconds. */
  timing: z
    .record(
      z.string(),
      z.object({
        batches: z.number(),
        mean_ms: z.number(),
        p50_ms: z.number(),
        p99_ms: z.number(),
        max_ms: z.number(),
      }),
    )
    .default({}),
  stores: z.record(
    z.string(),
    z.object({
      loaded: z.number(),
      owed: z.number(),
      /** Why nothing is written to it. */
      down: z.string().nullable(),
    }),
  ),
})

export type LiveRun = z.output<typeof live>

/** Not synced: after a crash of the machine nobody needs it. @throws what the file system says */
export async function writeLive(
  folder: string,
  summary: RunSummary,
  stores: readonly Store[],
  rate: number,
  phases: Phases,
): Promise<void> {
  const { run, started_at, bytes, batches, read, passed, quarantined, filtered, deduplicated, gaps } = summary
  const found: LiveRun = {
    schema_version: 1,
    ...{ run, pid: process.pid, started_at, at: new Date().toISOString() },
    ...{ bytes, batches, read, passed, quarantined, filtered, deduplicated, rate },
    gaps: gaps.length,
    lag: lagOf(summary),
    timing: phases.timings(),
    stores: Object.fromEntries(
      stores.map(({ id, loaded, spool, down }) => {
        return [id, { loaded, owed: spool.rows, down: down === undefined ? null : redact(down.message) }]
      }),
    ),
  }
  const path = pathIn(folder)
  await writeFile(`${path}.next`, `${JSON.stringify(found)}\n`, { mode: 0o600 })
  await rename(`${path}.next`, path)
}

function lagOf({ sources }: RunSummary): number | null {
  const told = Object.values(sources).flatMap(({ lag }) => lag ?? [])
  return told.length === 0 ? null : told.reduce((total, lag) => total + lag, 0)
}

/** undefined: no such run has said anything, or not in this form. */
export async function readLive(folder: string): Promise<LiveRun | undefined> {
  const text = await readFile(pathIn(folder), 'utf8').catch(() => '{}') // no run yet
  try {
    return live.safeParse(JSON.parse(text)).data
  } catch {
    return undefined
  }
}

function pathIn(folder: string): string {
  return join(folder, 'live.json')
}
