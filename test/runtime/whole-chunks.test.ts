import {
  appendFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import pino from 'pino'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { LoadBatch } from '../../src/core/contracts.ts'
import type { ExtractorDefinition, LoaderDefinition } from '../../src/core/definitions.ts'
import { loadJob } from '../../src/core/job/load.ts'
import { loadRegistry } from '../../src/core/registry.ts'
import filesSource from '../../src/extractors/files.ts'
import files from '../../src/loaders/files.ts'
import { runJob } from '../../src/runtime/run.ts'
import type { RunSummary } from '../../src/runtime/summary.ts'
import { duckdbRows } from '../harness/engine.ts'
import type { Quarantined } from '../harness/small-job.ts'

const ROWS = 4000
const log = pino({ level: 'silent' })

let folder: string
let hook: { encoding?: (batch: LoadBatch) => void; encoded?: (batch: LoadBatch) => void }

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'adflow-whole-'))
  mkdirSync(join(folder, 'data'))
  hook = {}
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

/** The loader `files`, watched: what a batch is when the engine begins to write it, and when it is written but not published. */
const watched: LoaderDefinition = {
  ...(files as LoaderDefinition),
  create(options, env) {
    const loader = (files as LoaderDefinition).create(options, env)
    const write = loader.write.bind(loader)
    loader.write = (batch, context) => {
      const encode: LoadBatch['encode'] = async (format, how) => {
        hook.encoding?.(batch)
        const rows = await batch.encode(format, how)
        hook.encoded?.(batch)
        return rows
      }
      return write(Object.assign(Object.create(batch), { encode }), context)
    }
    return loader
  },
}

/** The extractor `files`, watched: how often it is told to begin before the run is open. */
let begun = 0
const watchedSource: ExtractorDefinition = {
  ...(filesSource as ExtractorDefinition),
  create(options, env) {
    const extractor = (filesSource as ExtractorDefinition).create(options, env)
    const { ahead } = extractor
    extractor.ahead = (context) => {
      begun += 1
      ahead?.call(extractor, context)
    }
    return extractor
  },
}
const registry = await loadRegistry({ extra: { loader: { files: watched }, extractor: { files: watchedSource } } })

const JOB = `version: 1
name: whole
extract: { ads: { type: files, path: "data/*", settle: 0s } }
contract: { columns: { id: { type: bigint, required: true }, cost: bigint } }
validate: [ { id: positive, check: "cost >= 0" } ]
load: { out: { type: files, format: parquet, path: out } }
resources: { chunk: 8KB, max_record: 1KB }
`

const record = (id: number, cost = id % 50) => `${JSON.stringify({ id, cost })}\n`
const records = (from: number, to: number) =>
  Array.from({ length: to - from }, (_, index) => record(from + index)).join('')
const data = (name = 'a.ndjson') => join(folder, 'data', name)

async function run(yaml = JOB): Promise<RunSummary> {
  const file = join(folder, 'job.yaml')
  writeFileSync(file, yaml)
  const job = await loadJob(file, { registry })
  return runJob({ job, registry, stateDir: join(folder, 'state'), log, command: 'test', version: '0' })
}

/** Rows, distinct ids and their sum, as plain DuckDB finds them in the store. */
async function stored(): Promise<unknown> {
  const [row] = await duckdbRows(
    `SELECT count(*)::INT AS n, count(DISTINCT id)::INT AS ids, sum(id)::INT AS total FROM read_parquet('${folder}/out/*.parquet')`,
  )
  return row
}
const all = (n: number, less = 0) => ({ n, ids: n, total: (ROWS * (ROWS - 1)) / 2 - less })

function lines<T>(...path: string[]): T[] {
  const place = join(folder, 'state', 'whole', ...path)
  const texts = readdirSync(place).map((name) => readFileSync(join(place, name), 'utf8'))
  return texts.flatMap((text) => text.split('\n').filter(Boolean)).map((line) => JSON.parse(line) as T)
}

interface LedgerLine {
  readonly type: string
  readonly from: string
  readonly to: string
  readonly digest: string
}

/** Ranges of the batches that the ledger has closed. */
function closed(): LedgerLine[] {
  const events = lines<LedgerLine & { event?: LedgerLine }>('ledger').map((line) => line.event ?? line)
  return events.filter(({ type }) => type === 'batch_closed')
}

/** State and store as they are now: what a kill at this instant leaves behind. */
function snapshot(): void {
  for (const name of ['state', 'out'])
    cpSync(join(folder, name), join(folder, `${name}-then`), { recursive: true, force: true })
}

function backTo(...names: readonly ('state' | 'out')[]): void {
  for (const name of names) {
    rmSync(join(folder, name), { recursive: true })
    cpSync(join(folder, `${name}-then`), join(folder, name), { recursive: true })
  }
}

describe('a settled file far larger than a chunk', () => {
  beforeEach(() => writeFileSync(data(), records(0, ROWS)))

  it('is one batch, read where it is, with a count and a digest of its own', async () => {
    let chunks: string[] = []
    hook.encoding = () => {
      chunks = readdirSync(join(folder, 'state', 'whole', 'chunks'))
    }
    expect(await run()).toMatchObject({ exit: 0, batches: 1, read: ROWS, passed: ROWS, unaccounted: 0 })
    expect(await stored()).toEqual(all(ROWS))
    expect(chunks).toHaveLength(1)
    const bytes = readFileSync(data())
    expect(closed()).toMatchObject([
      { from: '0', to: String(bytes.length), digest: `crc32:${crc32(bytes).toString(16).padStart(8, '0')}` },
    ])
    expect(await run()).toMatchObject({ batches: 0, read: 0 })
  })

  it('is read on where it has grown, and its lines are counted on', async () => {
    await run()
    appendFileSync(data(), `${record(ROWS)}{"id": "x"}\n${record(ROWS + 1)}`)
    expect(await run()).toMatchObject({ exit: 0, read: 3, passed: 2, quarantined: 1 })
    expect(lines<Quarantined>('quarantine')).toMatchObject([{ line: ROWS + 2, rule: 'type' }])
  })

  it('is cut into chunks where the job says so, or its records cannot be streamed', async () => {
    expect((await run(JOB.replace('chunk: 8KB', 'chunk: 8KB, whole_file: 10KB'))).batches).toBeGreaterThan(5)
    rmSync(join(folder, 'state'), { recursive: true })
    rmSync(join(folder, 'out'), { recursive: true })
    expect((await run(JOB.replace('load:', 'transform: [ { filter: "id >= 0" } ]\nload:'))).batches).toBeGreaterThan(5)
    expect(await stored()).toEqual(all(ROWS))
  })

  it.each([
    ['the one store takes it whole', 'type: files, format: parquet, path: out', 1],
    [
      'the one store divides its rows',
      'type: files, format: parquet, path: out, partition: { part: "(id % 2)::VARCHAR" }',
      0,
    ],
    ['the one store takes chunks', 'type: duckdb, path: out/db.duckdb, table: t', 0],
  ])('is begun to be counted before the run is open only where it may be one batch: %s', async (_when, load, times) => {
    begun = 0
    expect(await run(JOB.replace('type: files, format: parquet, path: out', load))).toMatchObject({ read: ROWS })
    expect(begun).toBe(times)
  })

  it('is loaded once when the run is killed after the engine has written it', async () => {
    hook.encoded = snapshot
    await run()
    backTo('state', 'out')
    hook = {}
    expect(await run()).toMatchObject({ exit: 0, batches: 1, read: ROWS })
    expect(await stored()).toEqual(all(ROWS))
    expect(await run()).toMatchObject({ read: 0 })
  })

  it('is loaded once when the run is killed after the store has it', async () => {
    hook.encoded = snapshot
    await run()
    backTo('state')
    hook = {}
    expect(await run()).toMatchObject({ exit: 0, batches: 1, stores: { out: { repeated: ROWS, loaded: 0 } } })
    expect(await stored()).toEqual(all(ROWS))
  })

  it('is not cut otherwise after a kill when some store has it, whatever the rules are now', async () => {
    hook.encoded = snapshot
    await run()
    backTo('state')
    hook = {}
    expect(await run(JOB.replace('cost >= 0', 'cost >= 10'))).toMatchObject({ error: { code: 'UNACCOUNTED' } })
    expect(await stored()).toEqual(all(ROWS))
    expect(await run()).toMatchObject({ exit: 0, stores: { out: { repeated: ROWS } } })
  })

  it('takes the rules of today after a kill when no store has it', async () => {
    hook.encoded = snapshot
    await run()
    backTo('state', 'out')
    hook = {}
    const summary = await run(JOB.replace('cost >= 0', 'cost <> 49'))
    expect(summary).toMatchObject({ exit: 0, read: ROWS, quarantined: ROWS / 50 })
    expect(summary.batches).toBeGreaterThan(5)
    expect(await stored()).toMatchObject({ n: ROWS - ROWS / 50, ids: ROWS - ROWS / 50 })
  })

  it.each([
    [
      'grows',
      () => appendFileSync(data(), record(ROWS)),
      { n: ROWS + 1, ids: ROWS + 1, total: (ROWS * (ROWS + 1)) / 2 },
    ],
    // The same bytes in number: only the time of the change tells.
    ['is rewritten', () => writeFileSync(data(), records(1, ROWS) + record(0)), all(ROWS)],
    [
      'is cut off',
      () => truncateSync(data(), records(0, 3000).length),
      { n: 3000, ids: 3000, total: (3000 * 2999) / 2 },
    ],
  ])('is read again in chunks, as it is then, when it %s while it is read', async (_, change, expected) => {
    hook.encoding = () => {
      hook = {}
      change()
    }
    expect(await run()).toMatchObject({ exit: 0, read: expected.n, gaps: [], unaccounted: 0 })
    expect(await stored()).toEqual(expected)
    expect(closed().length).toBeGreaterThan(5)
    expect(await run()).toMatchObject({ read: 0 })
  })
})

describe('integers of a file far larger than a chunk', () => {
  it('may stand in quotes, be null, be missing, and have fractions beside them', async () => {
    const some = '{"id":0,"cost":"7"}\n{"id":1,"cost":null,"x":1.5}\n{"id":2,"X":true,"y":{"z":[1e3]}}\n'
    writeFileSync(data(), `${some}${records(3, ROWS)}`)
    expect(await run()).toMatchObject({ exit: 0, batches: 1, read: ROWS, passed: ROWS })
    expect(await stored()).toEqual(all(ROWS))
  })

  it.each([
    ['begins with', (last: string) => `${last}\n${records(0, ROWS - 1)}`],
    ['ends with', (last: string) => `${records(0, ROWS - 1)}${last}\n`],
  ])('are what they are in any chunk where it %s one that is written otherwise', async (_, file) => {
    for (const last of [`{"id":${ROWS - 1}.0}`, `{"id":"0xF9F","cost":1}`, `{"id":"3_999","cost":1}`]) {
      writeFileSync(data(), file(last))
      expect(await run(), last).toMatchObject({ exit: 0, read: ROWS, passed: ROWS, unaccounted: 0 })
      expect(await stored(), last).toEqual(all(ROWS))
      rmSync(join(folder, 'state'), { recursive: true })
      rmSync(join(folder, 'out'), { recursive: true })
    }
  })

  it.each([
    ['fraction', '{"id":3.5,"cost":1}'],
    ['fraction that is text', '{"id":"3.5","cost":1}'],
    ['truth', '{"id":true,"cost":1}'],
    ['key in an escape', String.raw`{"\u0069d":3.5,"cost":1}`],
    ['number beyond what the type holds', '{"id":9999999999999999999,"cost":1}'],
  ])('with a %s near its end are refused, and nothing else', async (_, bad) => {
    writeFileSync(data(), `${records(0, ROWS - 1)}${bad}\n`)
    expect(await run()).toMatchObject({ exit: 0, read: ROWS, quarantined_by: { type: 1 }, unaccounted: 0 })
    expect(await stored()).toEqual(all(ROWS - 1, ROWS - 1))
    expect(lines<Quarantined>('quarantine')).toMatchObject([{ line: ROWS, rule: 'type', field: 'id' }])
  })

  it('end the work on it as soon as one is known to be none', async () => {
    const bad = '{"id":0,"cost":3.5}\n'
    writeFileSync(data(), `${records(1, 10_000)}${bad}${records(10_000, 1_500_000)}`)
    let given: unknown
    hook.encoding = (batch) => {
      hook = {}
      const { encode } = batch
      Object.assign(batch, {
        encode: (...how: Parameters<typeof encode>) =>
          encode(...how).catch((error: unknown) => {
            given = error
            throw error
          }),
      })
    }
    expect(await run(JOB.replace('chunk: 8KB', 'chunk: 1MB'))).toMatchObject({ read: 1_500_000, quarantined: 1 })
    expect(String(given)).toMatch(/interrupt/i)
  })

  it('do not keep a batch from being known that a store has of a version that read them as text', async () => {
    hook.encoded = snapshot
    writeFileSync(data(), `${records(0, ROWS - 1)}{"id":${ROWS - 1},"cost":"1_0"}\n`)
    expect(await run(JOB.replace('cost: bigint', 'cost: varchar').replace('cost >= 0', 'id >= 0'))).toMatchObject({
      batches: 1,
    })
    backTo('state')
    hook = {}
    expect(await run()).toMatchObject({ exit: 0, read: ROWS, stores: { out: { repeated: ROWS, loaded: 0 } } })
    expect(await stored()).toEqual(all(ROWS))
  })
})

describe('a file far larger than a chunk with a record that is not clean', () => {
  it.each([
    ['malformed', '{"id": 3, "cos\n'],
    ['type', '{"id": "three", "cost": 1}\n'],
    ['positive', record(ROWS - 1, -1)],
    ['record_too_large', `{"id": 3, "pad": "${'x'.repeat(2000)}"}\n`],
  ])('near its end (%s) is cut into chunks, and nothing is lost or doubled', async (rule, bad) => {
    writeFileSync(data(), `${records(0, ROWS - 1)}${bad}`)
    const size = statSync(data()).size
    let attempts = 0
    hook.encoding = ({ range }) => {
      attempts += Number(range.to) - Number(range.from) === size ? 1 : 0
    }
    const summary = await run()
    expect(summary).toMatchObject({ exit: 0, read: ROWS, passed: ROWS - 1, quarantined: 1, unaccounted: 0 })
    expect(summary.quarantined_by).toEqual({ [rule]: 1 })
    expect(await stored()).toEqual(all(ROWS - 1, ROWS - 1))
    expect(lines<Quarantined>('quarantine')).toMatchObject([{ line: ROWS, rule }])
    expect(attempts).toBe(1)
    for (const { from, to } of closed()) expect(Number(to) - Number(from)).toBeLessThan(9000 + 2000)
    expect(await run()).toMatchObject({ read: 0 })
  })

  it('goes on inside it after a kill', async () => {
    writeFileSync(data(), `${records(0, ROWS - 1)}{"id": 3, "cos\n`)
    let batches = 0
    hook.encoded = () => {
      batches += 1
      if (batches === 4) snapshot()
    }
    await run()
    backTo('state', 'out')
    hook = {}
    const second = await run()
    expect(second).toMatchObject({ exit: 0, quarantined: 1 })
    expect(second.read).toBeLessThan(ROWS)
    expect(await stored()).toEqual(all(ROWS - 1, ROWS - 1))
  })

  it('costs the other files of the source no more than being cut too, and a gap is told once', async () => {
    writeFileSync(data('a.ndjson'), `${records(0, 1000)}{"id": 3, "cos\n`)
    writeFileSync(data('b.ndjson'), records(1000, 2000))
    writeFileSync(data('c.ndjson'), records(2000, 3000))
    writeFileSync(data('d.ndjson'), records(3000, ROWS))
    writeFileSync(data('e.parquet'), 'not Parquet')
    const summary = await run(JOB.replace('chunk: 8KB', 'chunk: 8KB, parallel: 1, in_flight: 1'))
    expect(summary).toMatchObject({ status: 'gaps', read: ROWS + 1, passed: ROWS, quarantined: 1 })
    expect(summary.gaps).toHaveLength(1)
    expect(await stored()).toEqual(all(ROWS))
  })
})
