/**
 * What it costs that every row can be traced and every batch proven: bytes per million rows, and time over time.
 *
 * without     the same job with `batch_column: false`: rows do not know their batch, and nothing is read back when they are written.
 * The bytes are those of the ledger, of the pins, of the warehouse beyond that of `without`, and for scale of the warehouse itself;
 * a warehouse is measured in blocks of 256 KiB, so a column of one number per batch may cost nothing, or less.
 */
import { readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { cpus, tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { DuckDBInstance } from '@duckdb/node-api'
import { generateSample } from '../src/sample/generate.ts'
import { type Contender, inTurn, type Measured, measure, ratio } from './measure.ts'
import type { BenchOptions } from './run.ts'

export const defaultRows = 1_000_000

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const folder = join(tmpdir(), 'adflow-bench-lineage')
const TRACED = 10_000

const job = (name: string, more: string) => `version: 1
name: ${name}
extract: { events: { type: files, path: "${folder}/data/events-*.ndjson", settle: 0s } }
contract:
  columns:
    event_id: { type: bigint, required: true }
    event_type: varchar
    event_time: timestamp
    received_at: timestamp
    campaign_id: bigint
    crid: varchar
    impid: varchar
    publisher: varchar
    user_id: varchar
    ip: varchar
    os: varchar
    country: varchar
    city: varchar
    cost_micros: bigint
transform: [ { derive: { spend: "cost_micros / 1000000::decimal(18, 6)" } } ]
load: { wh: { type: duckdb, path: "${folder}/${name}.duckdb", table: events${more} } }
resources: { memory_limit: 512MB, threads: ${cpus().length} }
`

export async function bench({ rows, runs }: BenchOptions): Promise<void> {
  rmSync(folder, { recursive: true, force: true })
  await generateSample({ dir: join(folder, 'data'), rows, seed: 1, format: 'ndjson', files: 4, defects: 'none' })
  const [traced, without] = [adflow('traced', ''), adflow('without', ', batch_column: false')]
  const measured = await inTurn([traced, without], runs)
  print('load', ratio(measured.get('traced') as Measured[], measured.get('without') as Measured[]), 'without')
  const million = rows / 1_000_000
  const state = join(folder, 'state', 'traced')
  const [own, bare] = [await settled('traced'), await settled('without')]
  bytes('ledger', sizeOf(join(state, 'ledger')) / million)
  bytes('pins', sizeOf(join(state, 'pins')) / million)
  bytes('warehouse_more', (own - bare) / million)
  bytes('warehouse', own / million)
  for (const [name, ...args] of [
    ['trace_10000', 'trace', '--sample', String(TRACED), '--json'],
    ['prove', 'prove', '--json'],
  ] as const) {
    const [command, ...flags] = args
    const argv = [process.execPath, join(root, 'bin', 'run.js'), command, join(folder, 'traced.yaml'), ...flags]
    const { seconds } = await measure({
      name,
      argv: [...argv, '--state-dir', join(folder, 'state')],
      prepare: () => undefined,
    })
    process.stdout.write(`seconds lineage.${name} ${seconds.toFixed(2)} over ${rows} rows\n`)
  }
  rmSync(folder, { recursive: true, force: true })
}

function adflow(name: string, more: string): Contender {
  const file = join(folder, `${name}.yaml`)
  return {
    name,
    argv: [process.execPath, join(root, 'bin', 'run.js'), 'run', file, '--state-dir', join(folder, 'state'), '--quiet'],
    prepare: () => {
      rmSync(join(folder, 'state', name), { recursive: true, force: true })
      for (const ending of ['', '.wal']) rmSync(join(folder, `${name}.duckdb${ending}`), { force: true })
      writeFileSync(file, job(name, more))
    },
  }
}

/** Size of the warehouse in the blocks that it uses. */
async function settled(name: string): Promise<number> {
  const instance = await DuckDBInstance.create(join(folder, `${name}.duckdb`))
  const connection = await instance.connect()
  await connection.run('CHECKPOINT')
  const reader = await connection.runAndReadAll('SELECT used_blocks * block_size AS size FROM pragma_database_size()')
  const size = Number(reader.getRowObjects()[0]?.['size'])
  connection.closeSync()
  instance.closeSync()
  return size
}

function sizeOf(path: string): number {
  return readdirSync(path, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .reduce((total, { parentPath, name }) => total + statSync(join(parentPath, name)).size, 0)
}

function bytes(what: string, value: number): void {
  process.stdout.write(`bytes lineage.${what} ${Math.round(value)} per million rows\n`)
}

function print(what: string, value: number, peer: string): void {
  process.stdout.write(`ratio lineage.${what} ${value.toFixed(2)} vs ${peer}\n`)
}
