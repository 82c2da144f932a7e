/** A job of a few lines over files of a few records, run by the CLI; and what it left behind, for whoever looks for every byte. */
import type { ChildProcess } from 'node:child_process'
import { type Dirent, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { RunSummary } from '../../src/runtime/summary.ts'
import { adflow, type CliOptions, type CliResult } from './cli.ts'
import { duckdbRows } from './engine.ts'

export const ROWS_JOB = `version: 1
name: rows
extract:
  input: { type: files, path: "data/*", settle: 0s }
contract:
  columns:
    id: { type: bigint, required: true }
    n: integer
    name: varchar
load:
  warehouse: { type: duckdb, path: warehouse.duckdb, table: rows }
  archive: { type: files, format: parquet, path: archive }
`

/** One line of a quarantine file. */
export interface Quarantined {
  readonly origin: string
  readonly byte_from: number
  readonly byte_to: number
  readonly line: number
  readonly rule: string
  readonly field: string | null
  readonly reason: string
  readonly raw: string | null
  readonly raw_base64: string | null
}

export class SmallJob {
  readonly folder: string
  readonly file: string

  constructor(folder: string, yaml = ROWS_JOB) {
    this.folder = folder
    this.file = join(folder, 'job.yaml')
    this.put('job.yaml', yaml)
  }

  get state(): string {
    return join(this.folder, 'state', 'rows')
  }

  /** Writes a file of the job's folder; returns its path. */
  put(name: string, content: string | Buffer): string {
    const path = join(this.folder, name)
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(path, content)
    return path
  }

  command(args: readonly string[], options: CliOptions = {}): Promise<CliResult> {
    const env = { ADFLOW_STATE_DIR: join(this.folder, 'state'), ...options.env }
    return adflow(args, { ...options, env })
  }

  run(args: readonly string[] = [], options: CliOptions = {}): Promise<CliResult> {
    return this.command(['run', this.file, '--json', ...args], options)
  }

  /** Of a run; its exit code is that of the process. */
  async summary(options: CliOptions = {}): Promise<RunSummary> {
    const result = await this.run([], options)
    const summary = result.json<RunSummary>()
    if (summary.exit !== result.code) throw new Error(`exit ${result.code}: ${result.stdout}\n${result.stderr}`)
    return summary
  }

  /** In the order of their places. */
  quarantine(): Quarantined[] {
    const folder = join(this.state, 'quarantine')
    if (!existsSync(folder)) return []
    const files = readdirSync(folder).filter((name) => name.endsWith('.ndjson'))
    const lines = files.flatMap((name) => readFileSync(join(folder, name), 'utf8').split('\n').filter(Boolean))
    const found = lines.map((line) => JSON.parse(line) as Quarantined)
    return found.sort((a, b) => a.origin.localeCompare(b.origin) || a.byte_from - b.byte_from)
  }

  warehouse(
    select = 'SELECT * EXCLUDE (_batch) FROM w.rows ORDER BY id',
    file = 'warehouse.duckdb',
  ): Promise<Record<string, unknown>[]> {
    return duckdbRows(select, [`ATTACH '${join(this.folder, file)}' AS w (READ_ONLY)`])
  }

  archive(select = 'SELECT * FROM archive ORDER BY id'): Promise<Record<string, unknown>[]> {
    return duckdbRows(select, [
      `CREATE VIEW archive AS SELECT * FROM read_parquet('${this.folder}/archive/**/*.parquet', union_by_name = true)`,
    ])
  }

  /** Batches that the ledger has closed, over all runs. */
  closedBatches(): number {
    return this.events('batch_closed')
  }

  /** Events of a type in the ledger, over all runs. */
  events(type: string, more = ''): number {
    const folder = join(this.state, 'ledger')
    if (!existsSync(folder)) return 0
    const lines = readdirSync(folder).flatMap((name) => readFileSync(join(folder, name), 'utf8').split('\n'))
    return lines.filter((line) => line.includes(`"type":"${type}"`) && line.includes(more)).length
  }

  /** Of both slots. */
  checkpointText(): string {
    const slots = ['a', 'b'].map((slot) => join(this.state, `checkpoint.${slot}`))
    return slots.map((slot) => (existsSync(slot) ? readFileSync(slot, 'utf8') : '')).join('')
  }

  /** For `started` of CliOptions: acts on the running process once the ledger has closed more than so many batches. */
  onceClosed(batches: number, act: (child: ChildProcess) => void): NonNullable<CliOptions['started']> {
    return this.once(() => this.closedBatches() > batches, act)
  }

  /** For `started` of CliOptions: acts on the running process once this holds. */
  once(holds: () => boolean, act: (child: ChildProcess) => void): NonNullable<CliOptions['started']> {
    return (child) => {
      const timer = setInterval(() => {
        if (!holds()) return
        clearInterval(timer)
        act(child)
      }, 5)
      child.once('exit', () => clearInterval(timer))
    }
  }

  /** Paths, relative to the folder, of everything that is neither the job file nor data. */
  traces(): string[] {
    const entries: Dirent[] = readdirSync(this.folder, { recursive: true, withFileTypes: true })
    const paths = entries.filter((entry) => !entry.isDirectory()).map(({ parentPath, name }) => join(parentPath, name))
    return paths
      .map((path) => path.slice(this.folder.length + 1))
      .filter((path) => path !== 'job.yaml' && !path.startsWith('data/'))
      .sort()
  }
}

/** The bytes of a quarantined record, as it was kept. */
export function bytesOf({ raw, raw_base64 }: Quarantined): Buffer {
  return raw_base64 === null ? Buffer.from(raw ?? '') : Buffer.from(raw_base64, 'base64')
}

/** Highest resident size of a process, in bytes, asked for until it ends. */
export class PeakMemory {
  bytes = 0

  /** For `started` of CliOptions. */
  readonly watch: NonNullable<CliOptions['started']> = (child) => {
    const look = () => {
      try {
        const [, kilobytes] = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8')) ?? []
        this.bytes = Math.max(this.bytes, Number(kilobytes ?? 0) * 1024)
      } catch {
        clearInterval(timer) // the process has ended
      }
    }
    const timer = setInterval(look, 20)
    child.once('exit', () => clearInterval(timer))
  }
}
