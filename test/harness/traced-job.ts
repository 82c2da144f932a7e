/** A job over files of several formats with everything that can become of a record, run in this process; for tests that follow records. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { DuckDBInstance } from '@duckdb/node-api'
import pino from 'pino'
import type { Job } from '../../src/core/job/job.ts'
import { loadJob } from '../../src/core/job/load.ts'
import { loadRegistry } from '../../src/core/registry.ts'
import { runJob } from '../../src/runtime/run.ts'
import type { RunSummary } from '../../src/runtime/summary.ts'
import { duckdbRows } from './engine.ts'

const registry = await loadRegistry()
const log = pino({ level: 'silent' })

export const TRACED_JOB = `version: 1
name: clicks
extract: { ads: { type: files, path: "data/*", settle: 0s } }
contract: { columns: { id: { type: bigint, required: true }, at: timestamp, cost: bigint, city: varchar } }
validate:
  - { id: positive, check: "cost >= 0" }
  - { id: known, check: "city <> 'Atlantis'", on_fail: drop }
transform:
  - dedupe: { key: [id], within: 1d, time: at }
  - filter: "id % 7 <> 0"
  - derive: { spend: "cost * 2", stamp: "now()::timestamp" }
load:
  wh: { type: duckdb, path: wh.duckdb, table: clicks }
  archive: { type: files, format: parquet, path: archive }
resources: { chunk: 8KB }
`

/** One field of a record by its number: every 10th is broken, every 11th negative, every 13th a duplicate, every 17th of no city. */
export function fields(i: number): { id: number; at: string; cost: number; city: string } {
  return {
    id: i % 13 === 5 ? i - 1 : i,
    at: '2026-03-01T10:00:00Z',
    cost: i % 11 === 2 ? -1 : i,
    city: i % 17 === 3 ? 'Atlantis' : `city ${i % 5}`,
  }
}

export function ndjson(from: number, to: number): string {
  const lines = Array.from({ length: to - from }, (_, index) => index + from).map((i) =>
    i % 10 === 3 ? `{"id": ${i}, broken` : JSON.stringify(fields(i)),
  )
  return `${lines.join('\n')}\n`
}

function csv(from: number, to: number): string {
  const lines = Array.from({ length: to - from }, (_, index) => Object.values(fields(index + from)).join(','))
  return `id,at,cost,city\n${lines.join('\n')}\n`
}

export class TracedJob {
  readonly folder = mkdtempSync(join(tmpdir(), 'adflow-traced-'))
  env: Readonly<Record<string, string>> = {}

  constructor(yaml = TRACED_JOB) {
    mkdirSync(join(this.folder, 'data'))
    this.put('clicks.yaml', yaml)
  }

  get stateDir(): string {
    return join(this.folder, 'state')
  }

  get state(): string {
    return join(this.stateDir, 'clicks')
  }

  put(name: string, content: string | Buffer): string {
    const path = join(this.folder, name)
    writeFileSync(path, content)
    return path
  }

  /** NDJSON, CSV and gzip, `records` in each. */
  fill(records: number): void {
    this.put('data/a.ndjson', ndjson(1, records + 1))
    this.put('data/b.csv', csv(1_000_001, 1_000_001 + records))
    this.put('data/c.ndjson.gz', gzipSync(ndjson(2_000_001, 2_000_001 + records)))
  }

  job(): Promise<Job> {
    return loadJob(join(this.folder, 'clicks.yaml'), { registry, env: this.env })
  }

  async options() {
    const { stateDir, env } = this
    return { job: await this.job(), registry, stateDir, log, env, signal: new AbortController().signal }
  }

  async run(): Promise<RunSummary> {
    return runJob({ ...(await this.options()), command: 'test', version: '0.0.0' })
  }

  /** As plain DuckDB sees the warehouse. */
  rows(select: string): Promise<Record<string, unknown>[]> {
    return duckdbRows(select, [`ATTACH '${join(this.folder, 'wh.duckdb')}' AS w (READ_ONLY)`, 'USE w'])
  }

  /** What somebody else does to the warehouse. */
  async change(...statements: readonly string[]): Promise<void> {
    const instance = await DuckDBInstance.create(join(this.folder, 'wh.duckdb'))
    const connection = await instance.connect()
    for (const statement of statements) await connection.run(statement)
    connection.closeSync()
    instance.closeSync()
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true })
  }
}
