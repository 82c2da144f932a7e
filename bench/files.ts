/**
 * NDJSON → contract, four rules, two derived columns → Parquet, whole processes, time over time.
 *
 * hand        one DuckDB statement from Node: read_json with types, the four rules in WHERE, the two columns, COPY to Parquet.
 *             It keeps no rejected record and no books.
 * hand_rejects the same work as adflow's on data with defects: rejected rows are kept with their reason.
 * zod         readline, JSON.parse, zod, the rules and columns in JavaScript, per row; on a tenth of the rows, rate over rate.
 */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { generateSample } from '../src/sample/generate.ts'
import { type Contender, inTurn, type Measured, median, ratio } from './measure.ts'
import type { BenchOptions } from './run.ts'

export const defaultRows = 5_000_000

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const folder = join(tmpdir(), 'adflow-bench-files')

const CONTRACT = `
  event_id: { type: bigint, required: true }
  event_type: { type: varchar, required: true }
  event_time: { type: timestamp, required: true }
  received_at: { type: timestamp, required: true }
  campaign_id: { type: bigint, required: true }
  crid: varchar
  impid: varchar
  publisher: varchar
  user_id: varchar
  ip: varchar
  os: varchar
  country: varchar
  city: varchar
  cost_micros: { type: bigint, required: true }`

const job = (data: string) => `version: 1
name: bench_files
extract: { events: { type: files, path: "${data}/events-*.ndjson", settle: 0s } }
contract:
  columns:${CONTRACT.replaceAll('\n', '\n  ')}
validate:
  - { id: known, check: "event_type in ('impression', 'click', 'conversion')" }
  - { id: cost, check: "cost_micros between 0 and 50000000" }
  - { id: late, check: "event_time >= received_at - interval 6 hours" }
  - { id: future, check: "event_time <= received_at + interval 5 minutes" }
transform:
  - derive: { spend: "cost_micros / 1000000::decimal(18, 6)", hour: "date_trunc('hour', event_time)" }
load: { out: { type: files, format: parquet, compression: snappy, path: "${folder}/out" } }
resources: { memory_limit: 512MB, threads: ${cpus().length} }
`

export async function bench({ rows, runs, only }: BenchOptions): Promise<void> {
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  const cases = [
    { name: 'one_file', files: 1, defects: 'none' },
    { name: 'many_files', files: Math.ceil(rows / 250_000), defects: 'none' },
    { name: 'defects', files: 1, defects: '0.001' },
  ] as const
  for (const { name, files, defects } of cases) {
    if (only !== undefined && only !== name) continue
    const data = join(folder, name)
    process.stderr.write(`\n${name}: ${rows} events in ${files} files, defects ${defects}\n`)
    await generateSample({ dir: data, rows, seed: 1, format: 'ndjson', files, defects })
    const ours = adflow(data)
    const rivals = [defects === 'none' ? byHand(data, 'hand') : byHand(data, 'hand_rejects')]
    const measured = await inTurn([ours, ...rivals], runs)
    const own = measured.get(ours.name) as Measured[]
    for (const rival of rivals) {
      const theirs = measured.get(rival.name) as Measured[]
      print(`files.${name}`, ratio(own, theirs), rival.name)
      process.stdout.write(`cpu   files.${name} ${ratio(own, theirs, 'cpuSeconds').toFixed(2)} vs ${rival.name}\n`)
    }
    process.stdout.write(
      `peak  files.${name} ${(Math.max(...own.map(({ peakBytes }) => peakBytes)) / 2 ** 20).toFixed(0)} MiB\n`,
    )
    if (name === 'one_file') await againstZod(rows, own, runs)
    rmSync(data, { recursive: true, force: true })
  }
  rmSync(folder, { recursive: true, force: true })
}

async function againstZod(rows: number, own: readonly Measured[], runs: number): Promise<void> {
  const tenth = Math.ceil(rows / 10)
  const data = join(folder, 'tenth')
  await generateSample({ dir: data, rows: tenth, seed: 1, format: 'ndjson', files: 1, defects: 'none' })
  const zod: Contender = {
    name: 'zod',
    argv: [
      process.execPath,
      join(root, 'bench', 'peers', 'zod-rows.ts'),
      join(data, 'events-0001.ndjson'),
      join(folder, 'zod.ndjson'),
    ],
    prepare: () => rmSync(join(folder, 'zod.ndjson'), { force: true }),
  }
  const measured = (await inTurn([zod], Math.min(runs, 5))).get('zod') as Measured[]
  const theirs = tenth / median(measured.map(({ seconds }) => seconds))
  print('files.one_file', rows / median(own.map(({ seconds }) => seconds)) / theirs, 'zod (rate over rate)')
}

function adflow(data: string): Contender {
  const file = join(folder, 'job.yaml')
  return {
    name: 'adflow',
    argv: [process.execPath, join(root, 'bin', 'run.js'), 'run', file, '--state-dir', join(folder, 'state'), '--quiet'],
    prepare: () => {
      for (const name of ['state', 'out']) rmSync(join(folder, name), { recursive: true, force: true })
      writeFileSync(file, job(data))
    },
  }
}

function byHand(data: string, how: 'hand' | 'hand_rejects'): Contender {
  return {
    name: how,
    argv: [process.execPath, join(root, 'bench', 'peers', 'by-hand.ts'), how, data, join(folder, 'hand')],
    prepare: () => {
      rmSync(join(folder, 'hand'), { recursive: true, force: true })
      mkdirSync(join(folder, 'hand'))
    },
  }
}

function print(name: string, value: number, peer: string): void {
  process.stdout.write(`ratio ${name} ${value.toFixed(2)} vs ${peer}\n`)
}
