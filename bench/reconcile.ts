/**
 * Five rows of a warehouse were tampered with (one deleted, one changed, one doubled, one lost with one doubled): how long until each is
 * named. Whole processes, time over time.
 *
 * digest     adflow on stores that are clean: exactly one digest of each side, and nothing to look into.
 * full_join  both sides joined in full by hand in DuckDB from Node, on the key, every column compared; reads NDJSON with types, keeps no
 *            books, knows no rules, and does not see doubled rows.
 * reladiff   reladiff 0.6.0 from PyPI on the two DuckDB files, hashdiff; installed into a venv under the temporary folder.
 */
import { execFileSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Contender, inTurn, type Measured, ratio } from './measure.ts'
import type { BenchOptions } from './run.ts'

export const defaultRows = 5_000_000

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const folder = join(tmpdir(), 'adflow-bench-reconcile')
const peer = join(root, 'bench', 'peers', 'full-join.ts')
const venv = join(tmpdir(), 'adflow-bench-reladiff')

const JOB = `version: 1
name: bench_reconcile
extract: { events: { type: files, path: "data/*.ndjson", settle: 0s } }
contract:
  columns:
    id: { type: bigint, required: true }
    seen: { type: timestamp, required: true }
    kind: varchar
    publisher: varchar
    cost: bigint
validate: [ { id: positive, check: "cost >= 0" } ]
transform: [ { derive: { spend: "cost::decimal(18, 0) * 0.000001" } } ]
load:
  good: { type: duckdb, path: good.duckdb, table: events }
  bad: { type: duckdb, path: bad.duckdb, table: events }
reconcile: { column: seen, key: [id], window: 1h }
resources: { memory_limit: 512MB, chunk: 32MB, threads: ${cpus().length} }
`

export async function bench({ rows, runs }: BenchOptions): Promise<void> {
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(join(folder, 'data'), { recursive: true })
  writeFileSync(join(folder, 'job.yaml'), JOB)
  const node = (...args: readonly string[]) => execFileSync(process.execPath, args, { cwd: folder, stdio: 'inherit' })
  node(peer, 'make', String(rows))
  node(join(root, 'bin', 'run.js'), 'run', 'job.yaml', '--state-dir', 'state', '--quiet')
  node(peer, 'tamper', String(rows))

  const digest = adflow('digest', ['--against', 'good'], 0)
  const sources = adflow('adflow', ['--against', 'bad'], 11)
  const fromSource = await inTurn([sources, digest, byHand('source')], runs)
  const own = fromSource.get('adflow') as Measured[]
  print('reconcile.sources', ratio(own, fromSource.get('digest') as Measured[]), 'one digest per side')
  print('reconcile.sources', ratio(own, fromSource.get('full_join') as Measured[]), 'full_join')
  peak('sources', own)

  const clean = adflow('digest', ['--store', 'good', '--against', 'same'], 0)
  const stores = adflow('adflow', ['--store', 'good', '--against', 'bad'], 11)
  const { argv } = clean
  // The same table on both sides is a usage error, so the clean pair is a copy of the file under the name of the bad one.
  const [bad, kept, good] = ['bad.duckdb', 'kept.duckdb', 'good.duckdb'].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ]
  copyFileSync(bad, kept)
  const twin: Contender = {
    ...clean,
    argv: argv.map((word) => (word === 'same' ? 'bad' : word)),
    prepare: () => copyFileSync(good, bad),
  }
  const between = await inTurn(
    [{ ...stores, prepare: () => copyFileSync(kept, bad) }, byHand('stores'), reladiff(), twin],
    runs,
  )
  const ours = between.get('adflow') as Measured[]
  print('reconcile.stores', ratio(ours, between.get('digest') as Measured[]), 'one digest per side')
  print('reconcile.stores', ratio(ours, between.get('full_join') as Measured[]), 'full_join')
  print('reconcile.stores', ratio(ours, between.get('reladiff') as Measured[]), 'reladiff 0.6.0')
  peak('stores', ours)
  rmSync(folder, { recursive: true, force: true })
}

function adflow(name: string, args: readonly string[], exit: number): Contender {
  const command = [
    join(root, 'bin', 'run.js'),
    'reconcile',
    join(folder, 'job.yaml'),
    '--state-dir',
    join(folder, 'state'),
  ]
  return { name, argv: [process.execPath, ...command, ...args], exit, prepare: () => undefined }
}

function byHand(what: 'source' | 'stores'): Contender {
  return { name: 'full_join', argv: [process.execPath, peer, what, folder], prepare: () => undefined }
}

function reladiff(): Contender {
  const program = join(venv, 'bin', 'reladiff')
  if (!existsSync(program)) {
    execFileSync('python3', ['-m', 'venv', venv], { stdio: 'inherit' })
    execFileSync(join(venv, 'bin', 'pip'), ['--quiet', 'install', 'reladiff==0.6.0', 'duckdb==1.5.6'], {
      stdio: 'inherit',
    })
  }
  const columns = ['seen', 'kind', 'publisher', 'cost', 'spend'].flatMap((name) => ['-c', name])
  const url = (name: string) => `duckdb://${join(folder, name)}`
  return {
    name: 'reladiff',
    argv: [program, url('good.duckdb'), 'events', url('bad.duckdb'), 'events', '-k', 'id', ...columns, '--json'],
    prepare: () => undefined,
  }
}

function peak(name: string, measured: readonly Measured[]): void {
  const most = Math.max(...measured.map(({ peakBytes }) => peakBytes)) / 2 ** 20
  process.stdout.write(`peak  reconcile.${name} ${most.toFixed(0)} MiB\n`)
}

function print(name: string, value: number, rival: string): void {
  process.stdout.write(`ratio ${name} ${value.toFixed(2)} vs ${rival}\n`)
}
