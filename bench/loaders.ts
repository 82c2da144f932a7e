/**
 * The same file into each store: a job of adflow against the bulk tool of the store. Whole processes, rate over rate: 0.8 means that adflow
 * loads 0.8 rows in the time in which the tool loads one. The job reads, types and counts every record, encodes it anew,
 * keeps its books and is exactly once; the tools send the bytes as they are.
 *
 * bench/stores/<store>.ts says what the tool is, and how it is given the rows.
 */
import { execFileSync } from 'node:child_process'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { generateSample } from '../src/sample/generate.ts'
import { type Contender, inTurn, type Measured, ratio } from './measure.ts'
import type { BenchOptions } from './run.ts'
import { store as clickhouse } from './stores/clickhouse.ts'
import { store as kafka } from './stores/kafka.ts'
import { store as postgres } from './stores/postgres.ts'
import { store as redis } from './stores/redis.ts'
import { store as s3 } from './stores/s3.ts'
import { type BenchFile, type BenchStore, COLUMNS } from './stores/store.ts'

export const defaultRows = 1_000_000

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const folder = join(tmpdir(), 'adflow-bench-loaders')
const STORES: Readonly<Record<string, BenchStore>> = { postgres, clickhouse, s3, kafka, redis }

export async function bench({ rows: usualRows, askedRows, runs, only }: BenchOptions): Promise<void> {
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  for (const [name, store] of Object.entries(STORES)) {
    if (only !== undefined && only !== name) continue
    const { format } = store
    const rows = askedRows ?? store.rows ?? usualRows
    const data = join(folder, name)
    await generateSample({ dir: data, rows, seed: 1, format, files: 1, defects: 'none' })
    const path = join(data, `events-0001.${format}`)
    layDown(path)
    const states = join(data, 'states')
    const run: BenchFile['run'] = (job, load) => {
      const text = join(data, `${job}.yaml`)
      writeFileSync(text, jobText(path, store, load))
      return [process.execPath, join(root, 'bin', 'run.js'), 'run', text, '--state-dir', join(states, job), '--quiet']
    }
    const running = await store.start({ path, rows, folder: data, run })
    const prepare = () => {
      rmSync(states, { recursive: true, force: true })
      return running.empty()
    }
    try {
      const ours: Contender = { name: 'adflow', argv: run('job', running.load), prepare }
      const { tools } = running
      const measured = await inTurn([ours, ...tools.map((tool) => ({ ...tool, prepare }))], runs)
      const own = measured.get(ours.name) as Measured[]
      for (const tool of tools) {
        const theirs = measured.get(tool.name) as Measured[]
        process.stdout.write(`ratio loaders.${name} ${ratio(theirs, own).toFixed(2)} vs ${tool.name}, ${rows} rows\n`)
      }
      process.stdout.write(
        `peak  loaders.${name} ${(Math.max(...own.map(({ peakBytes }) => peakBytes)) / 2 ** 20).toFixed(0)} MiB\n`,
      )
    } finally {
      await running.end()
    }
  }
  rmSync(folder, { recursive: true, force: true })
}

/** As a file that was not written just now: a gigabyte that is on its way to the disk would be part of what is measured. The warm-up reads it. */
function layDown(path: string): void {
  execFileSync('sync', [path])
  execFileSync('dd', [`if=${path}`, 'iflag=nocache', 'count=0', 'status=none'])
}

function jobText(path: string, { format, resources }: BenchStore, load: Readonly<Record<string, unknown>>): string {
  return `version: 1
name: bench_loaders
extract: { events: { type: files, path: ${JSON.stringify(path)}, format: ${format}, settle: 0s } }
contract: { columns: ${JSON.stringify(COLUMNS)} }
load: ${JSON.stringify({ out: load })}
resources: ${JSON.stringify({ memory_limit: '512MB', threads: cpus().length, ...resources })}
`
}
