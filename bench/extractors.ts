/**
 * The same rows out of each source: adflow against the plain client of the source, which reads them and does nothing with
 * them. Whole processes, rate over rate: 0.7 means 0.7 rows in the time in which the client gets one. `<source>.chunks` is the extractor alone, as a
 * run reads it: it cuts records, counts and sums them, and keeps durably what must be kept. `<source>` is `adflow extract`, which also writes all of
 * them out, those of CSV as JSON. `<source>.job` is a whole run, which also parses, types and books them and writes a Parquet file: what the work on
 * the rows costs, whatever the source. With `.cpu` the same of user and system time, which other work on the machine does not change as much.
 *
 * bench/sources/<source>.ts says how the source gets the rows, and what its plain clients are.
 */
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { generateSample } from '../src/sample/generate.ts'
import { type Contender, inTurn, type Measured, median, ratio } from './measure.ts'
import type { BenchOptions } from './run.ts'
import type { BenchSource } from './sources/source.ts'
import { COLUMNS } from './stores/store.ts'

export const defaultRows = 1_000_000

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const folder = join(tmpdir(), 'adflow-bench-extractors')
const sources = readdirSync(join(root, 'bench', 'sources'))
  .map((name) => name.replace('.ts', ''))
  .filter((name) => name !== 'source')
  .sort()

export async function bench({ rows, runs, only }: BenchOptions): Promise<void> {
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  await generateSample({ dir: folder, rows, seed: 1, format: 'ndjson', files: 1, defects: 'none' })
  for (const name of sources) {
    if (only !== undefined && only !== name) continue
    const own = join(folder, name)
    mkdirSync(own)
    const module = (await import(`./sources/${name}.ts`)) as BenchModule
    if ('bench' in module) {
      await module.bench({ rows, runs }, own)
      continue
    }
    const { source } = module
    const running = await source.start({ path: join(folder, 'events-0001.ndjson'), rows, folder: own })
    try {
      const { clients, extract } = running
      const contenders = [
        ...ours(own, extract, rows),
        ...clients.map((client) => ({ ...client, prepare: () => undefined })),
      ]
      told(name, rows, await inTurn(contenders, runs))
    } finally {
      await running.end()
    }
  }
  rmSync(folder, { recursive: true, force: true })
}

/** A source that is compared in another way says how. */
type BenchModule = { readonly source: BenchSource } | { bench(options: BenchOptions, folder: string): Promise<void> }

function ours(own: string, extract: Readonly<Record<string, unknown>>, rows: number): readonly Contender[] {
  const [text, states, out] = [join(own, 'job.yaml'), join(own, 'states'), join(own, 'out')]
  writeFileSync(
    text,
    `version: 1
name: bench_extractors
extract: { events: ${JSON.stringify(extract)} }
contract: { columns: ${JSON.stringify(COLUMNS)} }
load: { out: { type: files, format: parquet, path: ${JSON.stringify(out)} } }
resources: { memory_limit: 512MB, threads: ${cpus().length} }
`,
  )
  const { type, ...options } = extract
  const alone = [join(root, 'bench', 'peers', 'read-chunks.ts'), String(type), JSON.stringify(options)]
  const program = [process.execPath, join(root, 'bin', 'run.js')]
  return [
    {
      name: 'extractor',
      argv: [process.execPath, ...alone, join(own, 'alone'), String(rows)],
      prepare: () => rmSync(join(own, 'alone'), { recursive: true, force: true }),
    },
    { name: 'adflow extract', argv: [...program, 'extract', text, '--quiet'], prepare: () => undefined },
    {
      name: 'adflow run',
      argv: [...program, 'run', text, '--state-dir', states, '--quiet'],
      prepare: () => {
        for (const path of [states, out]) rmSync(path, { recursive: true, force: true })
      },
    },
  ]
}

function told(name: string, rows: number, measured: ReadonlyMap<string, Measured[]>): void {
  const [[, alone = []] = [], [, extract = []] = [], [, run = []] = [], ...clients] = measured
  for (const [client, theirs] of clients)
    for (const [what, own] of Object.entries({ '.chunks': alone, '': extract, '.job': run })) {
      process.stdout.write(`ratio extractors.${name}${what} ${ratio(theirs, own).toFixed(2)} vs ${client}\n`)
      process.stdout.write(
        `ratio extractors.${name}${what}.cpu ${ratio(theirs, own, 'cpuSeconds').toFixed(2)} vs ${client}\n`,
      )
    }
  for (const [contender, all] of measured) {
    const seconds = median(all.map((one) => one.seconds))
    process.stdout.write(`rate  extractors.${name} ${Math.round(rows / seconds / 1000)} thousand rows/s ${contender}\n`)
  }
  const peak = Math.max(...[...extract, ...run].map(({ peakBytes }) => peakBytes))
  process.stdout.write(`peak  extractors.${name} ${(peak / 2 ** 20).toFixed(0)} MiB\n`)
}
