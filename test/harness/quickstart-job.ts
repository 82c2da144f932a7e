/** The quickstart job over data in a folder of its own, and what the truth says it must find. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import pino from 'pino'
import { loadJob } from '../../src/core/job/load.ts'
import { loadRegistry } from '../../src/core/registry.ts'
import { runJob } from '../../src/runtime/run.ts'
import type { RunSummary } from '../../src/runtime/summary.ts'
import type { Truth } from '../../src/sample/truth.ts'
import { adflow, type CliOptions, type CliResult } from './cli.ts'
import { duckdbRows } from './engine.ts'

export const QUICKSTART = fileURLToPath(new URL('../../jobs/quickstart.yaml', import.meta.url))

/** Classes of the generator under the names of the rules that find them. */
const RULE_OF_CLASS: Readonly<Record<string, string>> = { wrong_type: 'type', missing_field: 'required' }

export class QuickstartJob {
  readonly folder: string
  readonly env: Readonly<Record<string, string>>

  constructor(folder: string) {
    this.folder = folder
    this.env = { ADFLOW_QUICKSTART: folder, ADFLOW_STATE_DIR: join(folder, 'state') }
  }

  get data(): string {
    return join(this.folder, 'data')
  }

  get state(): string {
    return join(this.folder, 'state', 'quickstart')
  }

  async sample(...args: readonly string[]): Promise<Truth> {
    const made = await adflow(['sample', '--out', this.data, ...args])
    if (made.code !== 0) throw new Error(made.stderr)
    return this.truth
  }

  get truth(): Truth {
    return JSON.parse(readFileSync(join(this.data, 'truth.json'), 'utf8')) as Truth
  }

  run(args: readonly string[] = [], options: CliOptions = {}): Promise<CliResult> {
    return adflow(['run', QUICKSTART, '--json', ...args], { ...options, env: { ...this.env, ...options.env } })
  }

  /** The same in this process: a tenth of a second instead of one, where it is done by the thousand. */
  async runHere(): Promise<RunSummary> {
    const registry = await loadRegistry()
    const env = { ...process.env, ...this.env }
    const job = await loadJob(QUICKSTART, { registry, env })
    const log = pino({ level: 'silent' })
    const stateDir = join(this.folder, 'state')
    return runJob({ job, registry, stateDir, log, command: 'test', version: '0.0.0' })
  }

  async summary(): Promise<RunSummary> {
    return (await this.run()).json<RunSummary>()
  }

  /** What the truth expects, in the words of a summary. */
  expected(truth: Truth = this.truth) {
    const quarantined = Object.entries(truth.expect.quarantined).filter(([, count]) => count > 0)
    return {
      read: truth.expect.read,
      passed: truth.expect.loaded,
      deduplicated: truth.expect.deduplicated,
      quarantined_by: Object.fromEntries(quarantined.map(([name, count]) => [RULE_OF_CLASS[name] ?? name, count])),
      unaccounted: 0,
    }
  }

  /** Rows, distinct ids, sum of ids and spend in both stores, read by plain DuckDB. */
  async stores(): Promise<Record<'warehouse' | 'archive', Record<string, unknown>>> {
    const what = 'count(*) AS n, count(DISTINCT event_id) AS ids, sum(event_id) AS id_sum, sum(cost_micros) AS spend'
    const [warehouse = {}] = await duckdbRows(`SELECT ${what} FROM w.events`, [
      `ATTACH '${this.folder}/warehouse.duckdb' AS w (READ_ONLY)`,
    ])
    const [archive = {}] = await duckdbRows(`SELECT ${what} FROM read_parquet('${this.folder}/archive/**/*.parquet')`)
    return { warehouse, archive }
  }

  expectedStore(truth: Truth = this.truth): Record<string, unknown> {
    return { n: String(truth.clean), ids: String(truth.clean), id_sum: truth.event_ids.sum, spend: truth.spend_micros }
  }
}
