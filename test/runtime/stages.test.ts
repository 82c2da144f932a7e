import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable, Writable } from 'node:stream'
import { pino } from 'pino'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { loadJob } from '../../src/core/job/load.ts'
import { loadRegistry, type Registry } from '../../src/core/registry.ts'
import { type ExtractOptions, extractStage } from '../../src/runtime/extract-stage.ts'
import { type LoadOptions, loadStage } from '../../src/runtime/load-stage.ts'
import { recoverJob } from '../../src/runtime/recover.ts'
import { RejectsFile } from '../../src/runtime/rejects.ts'
import { PipeClosed, RowOutput } from '../../src/runtime/row-output.ts'
import { runJob } from '../../src/runtime/run.ts'
import type { StageSummary } from '../../src/runtime/stage-summary.ts'
import { type StageInput, transformStage, validateStage } from '../../src/runtime/stages.ts'
import { duckdbRows } from '../harness/engine.ts'
import { LINES, STAGE_JOB, writeStageJob } from '../harness/stage-job.ts'

let folder: string
let registry: Registry

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'adflow-stages-'))
  registry = await loadRegistry()
  await writeStageJob(folder)
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const log = pino({ level: 'silent' })

async function options(text: string, warehouse = 'none.duckdb') {
  const file = join(folder, 'job.yaml')
  writeFileSync(file, text)
  const env = { WAREHOUSE: join(folder, warehouse) }
  return { job: await loadJob(file, { registry, env }), registry, log, signal: new AbortController().signal }
}

const input = (text: string): StageInput => ({ name: 'stdin', open: () => Readable.from([Buffer.from(text)]) })

interface Outcome {
  readonly summary: StageSummary
  readonly lines: string[]
  readonly rejects: Record<string, unknown>[]
}

/** Runs a stage and collects what it writes. */
async function collect(
  work: (streams: { rows: RowOutput; rejects?: RejectsFile }) => Promise<StageSummary>,
  withRejects: boolean,
): Promise<Outcome> {
  const pieces: Buffer[] = []
  const stream = new Writable({
    write: (piece: Buffer, _, done) => {
      pieces.push(Buffer.from(piece))
      done()
    },
  })
  const path = join(folder, 'rejects.ndjson')
  const rejects = withRejects ? { rejects: await RejectsFile.open(path) } : {}
  try {
    const summary = await work({ rows: new RowOutput(stream, 'memory'), ...rejects })
    return { summary, lines: split(Buffer.concat(pieces).toString()), rejects: withRejects ? readRejects(path) : [] }
  } finally {
    await rejects.rejects?.close()
  }
}

const split = (text: string) => text.split('\n').filter((line) => line !== '')
const readRejects = (path: string) =>
  split(readFileSync(path, 'utf8')).map((line) => JSON.parse(line) as Record<string, unknown>)

async function rowStage(
  stage: typeof validateStage | typeof transformStage,
  rows: string,
  { text = STAGE_JOB, rejects = false, output }: { text?: string; rejects?: boolean; output?: string } = {},
): Promise<Outcome> {
  const common = { ...(await options(text)), inputs: [input(rows)], ...(output === undefined ? {} : { output }) }
  return collect((streams) => stage({ ...common, ...streams }), rejects)
}

async function extracted(more: Partial<ExtractOptions> = {}, rejects = false, text = STAGE_JOB): Promise<Outcome> {
  const common = await options(text)
  return collect((streams) => extractStage({ ...common, ...streams, ...more }), rejects)
}

describe('extractStage', () => {
  it('passes records of NDJSON as they are, and the others as objects or as text', async () => {
    const { lines, summary } = await extracted()
    expect(lines.slice(0, LINES.length)).toEqual(LINES)
    expect(lines.slice(LINES.length)).toEqual([
      '{ "id": 21,     "kind": "click" }',
      '{"id": 22, "kind": "view"}',
      '{"id":"11","time":{"at":"2024-01-02 03:04:05"},"amount":"1.5","dev":{"os":"a","v":["9"]},"name":"","kind":"click","extra":"x"}',
      '{"id":"13","time":{"at":null},"amount":"0.000000000000000001","dev":null,"name":"two\\nlines","kind":"view","extra":null}',
      '"12,2024-01-02 03:04:05,1.5,,,click,x,one too many"',
      ...[0, 1, 2, 3].map(
        (n) =>
          `{"id":${9007199254741000n + BigInt(n)},"seen":"1704049200000.001","amount":"1.500000000000000000","dev":{"os":"p","v":[1,null]},"name":"n${n}","kind":"${n === 2 ? 'other' : 'click'}","score":"-inf","extra":5}`,
      ),
    ])
    expect(summary).toMatchObject({ read: 19, written: 19, exit: 0 })
  })

  it('sets aside what is no record, where there is a place for it', async () => {
    const { lines, rejects, summary } = await extracted({ sources: ['table'] }, true)
    expect(lines).toHaveLength(2)
    expect(summary).toMatchObject({ read: 3, written: 2, quarantined_by: { malformed: 1 } })
    const raw = '12,2024-01-02 03:04:05,1.5,,,click,x,one too many'
    expect(rejects).toMatchObject([{ source: 'table', rule: 'malformed', line: 3, raw }])
  })

  it.each([
    ['lines', 4],
    ['array', 1],
    ['table', 2],
    ['columns', 3],
  ])('stops after the limit in %s', async (source, limit) => {
    const { lines, summary } = await extracted({ sources: [source], limit })
    expect([lines.length, summary.read]).toEqual([limit, limit])
  })

  it('tells a source that cannot be read, and reads the others', async () => {
    const { lines, summary } = await extracted({}, false, STAGE_JOB.replace('in/a.ndjson', 'in/none.ndjson'))
    expect(summary).toMatchObject({ exit: 69, gaps: [{ source: 'lines', code: 'SOURCE_MISSING' }] })
    expect(lines).toHaveLength(9)
  })

  it('names the sources when one is unknown', async () => {
    await expect(extracted({ sources: ['none'] })).rejects.toMatchObject({
      code: 'USAGE',
      hint: 'sources: lines, array, table, columns',
    })
  })
})

describe('validateStage', () => {
  it('writes typed rows under the names of the contract, and refused records with place and rule', async () => {
    const { lines, rejects } = await rowStage(validateStage, LINES.join('\n'), { rejects: true })
    expect(lines[0]).toBe(
      '{"id":9007199254740993,"ts":"2024-01-02T03:04:05.123456Z","seen":"2024-01-02T03:04:05.123456Z","amount":"12345678901234567890.123456789012345678","device":{"os":"ios","v":[1,9007199254740993]},"name":"Žofie 😀","kind":"click","score":1.5}',
    )
    expect(rejects.map(({ line, rule, raw }) => [line, rule, raw])).toEqual([
      [2, 'type', LINES[1]],
      [3, 'malformed', LINES[2]],
      [6, 'known_kind', LINES[5]],
      [9, 'required', LINES[8]],
    ])
  })

  it('takes an empty stream for no rows', async () => {
    const { lines, summary } = await rowStage(validateStage, '')
    expect([lines, summary.read, summary.exit]).toEqual([[], 0, 0])
  })

  it('refuses a stream of which nothing passes', async () => {
    await expect(rowStage(validateStage, 'x\ny\n')).rejects.toMatchObject({ code: 'NOTHING_ACCEPTED' })
  })

  const withRule = (rule: string) => STAGE_JOB.replace('transform:\n', `  - ${rule}\ntransform:\n`)

  it.each([
    ['the error budget', '{ budget: { ratio: 0.1, then: fail } }', 'the error budget is used up: 1 of 2'],
    ['a rule over rows', '{ id: few, rows: { min: 5 } }', '1 rows passed, expected 5'],
    ['a rule over a batch', '{ id: many, batch: "count(*) > 1" }', 'batch rule many does not hold'],
    ['a rule that fails', '{ id: big, check: "id > 1", on_fail: fail }', 'rule big does not hold for record 1'],
  ])('stops where %s says so', async (_, rule, message) => {
    const failure = rowStage(validateStage, '{"id":1}\nx\n', { text: withRule(rule) })
    await expect(failure).rejects.toMatchObject({ code: 'DATA_REJECTED', message: expect.stringContaining(message) })
  })
})

describe('transformStage', () => {
  const row = (id: number, more = '') => `{"id":${id},"kind":"click"${more}}\n`

  it('remembers duplicates over the whole stream, however it is cut', async () => {
    const rows = Array.from({ length: 300 }, (_, index) => row(1 + (index % 150))).join('')
    const { lines, summary } = await rowStage(transformStage, rows, { text: `${STAGE_JOB}resources: { chunk: 1kB }\n` })
    expect(lines).toHaveLength(150)
    expect(summary).toMatchObject({ read: 300, written: 150, deduplicated: 150 })
  })

  it('takes out rows that are not of the contract, where there is a place for them', async () => {
    const { lines, rejects } = await rowStage(transformStage, row(1) + row(2, ',"amount":"much"'), { rejects: true })
    expect(lines).toHaveLength(1)
    expect(rejects).toMatchObject([{ line: 2, rule: 'type', field: 'amount' }])
  })

  it('writes another output, and names the outputs when one is unknown', async () => {
    const text = STAGE_JOB.replace(
      'load:\n',
      '  - aggregate: { id: by_kind, by: [kind], select: { n: "count(*)" } }\nload:\n',
    )
    const rows = row(1) + row(2) + row(2)
    expect((await rowStage(transformStage, rows, { text, output: 'by_kind' })).lines).toEqual([
      '{"kind":"click","n":2}',
    ])
    await expect(rowStage(transformStage, rows, { text, output: 'none' })).rejects.toMatchObject({
      code: 'USAGE',
      hint: 'outputs: by_kind, main',
    })
  })

  it('sets a record aside on which an expression fails', async () => {
    const text = STAGE_JOB.replace('day: "ts::date"', 'day: "name::date"')
    const { lines, summary } = await rowStage(transformStage, row(1) + row(2, ',"name":"no day"'), { text })
    expect([lines.length, summary.quarantined_by]).toEqual([1, { derive_1: 1 }])
  })

  it('leaves nothing in the temporary folder', async () => {
    const ours = () => readdirSync(tmpdir()).filter((name) => /^adflow-[A-Za-z0-9]{6}$/.test(name))
    const before = new Set(ours())
    await rowStage(transformStage, row(1))
    const contents = ours().filter((name) => !before.has(name) && readdirSync(join(tmpdir(), name)).includes('clicks'))
    expect(contents).toEqual([])
  })
})

describe('RowOutput', () => {
  it('says that the reader has gone, whenever that is noticed', async () => {
    const gone = Object.assign(new Error('write EPIPE'), { code: 'EPIPE' })
    const output = new RowOutput(new Writable({ write: (_, __, done) => done(gone) }), 'a pipe')
    await expect(output.line('one')).rejects.toBeInstanceOf(PipeClosed)
    await expect(output.line('two')).rejects.toBeInstanceOf(PipeClosed)
  })

  it('names what it cannot write to for any other reason', async () => {
    const full = Object.assign(new Error('ENOSPC: no space left on device'), { code: 'ENOSPC' })
    const output = new RowOutput(new Writable({ write: (_, __, done) => done(full) }), 'standard output')
    await expect(output.line('one')).rejects.toMatchObject({ code: 'DISK_FULL' })
  })
})

describe('loadStage', () => {
  const ROWS = '{"id":1,"kind":"click"}\n{"id":2,"kind":"view"}\n'
  // A table with a struct is another matter: see the loader.
  const PLAIN = STAGE_JOB.replace(/ {4}device:.*\n/, '')
  let count = 0
  let warehouse: string

  beforeEach(() => {
    count += 1
    warehouse = `load-${count}.duckdb`
  })

  async function loaded(rows: string, text = PLAIN, more: Partial<LoadOptions> = {}): Promise<StageSummary> {
    return loadStage({ ...(await options(text, warehouse)), inputs: [input(rows)], ...more })
  }

  async function ids(): Promise<unknown> {
    const setup = [`ATTACH '${join(folder, warehouse)}' AS w`]
    const [row] = await duckdbRows('SELECT list(id ORDER BY id) AS ids FROM w.clicks', setup)
    return row?.['ids']
  }

  it('changes nothing when the same rows come again', async () => {
    expect((await loaded(ROWS)).stores).toEqual({ store: { loaded: 2, repeated: 0 } })
    expect((await loaded(ROWS)).stores).toEqual({ store: { loaded: 0, repeated: 2 } })
    expect(await ids()).toEqual(['1', '2'])
    expect((await loaded('{"id":3}\n')).stores).toEqual({ store: { loaded: 1, repeated: 0 } })
    expect(await ids()).toEqual(['1', '2', '3'])
  })

  it('leaves batches that neither a run nor recover takes for its own', async () => {
    const text = `${PLAIN}resources: { chunk: 1kB }\n`
    await loaded(Array.from({ length: 100 }, (_, n) => `{"id":${n},"kind":"click"}\n`).join(''), text)
    const state = { stateDir: join(folder, `state-${count}`), command: 'test', version: '0' }
    const common = { ...(await options(text, warehouse)), ...state }
    const recovery = await recoverJob({ ...common, dryRun: true, force: true, who: 'test' })
    expect(recovery).toMatchObject({ batches: 0, positions: {}, planned: 0 })
    expect(await runJob(common)).toMatchObject({ exit: 0, stores: { store: { loaded: 10, repeated: 0 } } })
  })

  it('replaces a table by all of the rows, those that an earlier load had too', async () => {
    const text = `${PLAIN.replace('table: clicks', 'table: clicks, write: replace')}resources: { chunk: 1kB }\n`
    for (const last of [1000, 2000]) {
      await loaded(
        Array.from({ length: 100 }, (_, n) => `{"id":${n === 99 ? last : n},"kind":"click"}\n`).join(''),
        text,
      )
      expect(await ids()).toHaveLength(100)
    }
  })

  it('loads nothing of a batch with a row that is not of the output', async () => {
    await expect(loaded(`${ROWS}{"id":"x"}\n`)).rejects.toMatchObject({
      code: 'DATA_REJECTED',
      message: expect.stringContaining('line 3 of stdin: id: cannot read x as BIGINT'),
    })
    expect(await ids()).toBeNull()
  })

  it('ends with STORE_DAMAGED and 69 when the one store is no database', async () => {
    writeFileSync(join(folder, warehouse), 'this is no database'.repeat(1000))
    await expect(loaded(ROWS)).rejects.toMatchObject({ code: 'STORE_DAMAGED', exit: 69 })
  })

  it('loads into the store that is whole when another is broken, and says so', async () => {
    const other = `  broken: { type: duckdb, path: broken.duckdb, table: clicks }\n`
    writeFileSync(join(folder, 'broken.duckdb'), 'this is no database'.repeat(1000))
    await expect(loaded(ROWS, PLAIN + other)).rejects.toMatchObject({
      code: 'STORE_DAMAGED',
      message: expect.stringContaining('broken: cannot open the warehouse'),
    })
    expect(await ids()).toEqual(['1', '2'])
    expect((await loaded(ROWS, PLAIN + other, { to: ['store'] })).stores).toEqual({ store: { loaded: 0, repeated: 2 } })
  })

  it('loads the rows of another output into the stores of that output', async () => {
    const text = PLAIN.replace(
      'load:\n',
      '  - aggregate: { id: by_kind, by: [kind], select: { n: "count(*)" } }\nload:\n',
    )
    const more = `  counts: { type: duckdb, input: by_kind, path: "\${WAREHOUSE}", table: counts }\n`
    const summary = await loaded('{"kind":"click","n":2}\n', text + more, { to: ['counts'] })
    expect(summary.stores).toEqual({ counts: { loaded: 1, repeated: 0 } })
    await expect(loaded(ROWS, text + more, { to: ['store', 'counts'] })).rejects.toMatchObject({
      code: 'USAGE',
      hint: 'loaders and what they load: store ← main, counts ← by_kind',
    })
  })

  it('names the loaders when one is unknown', async () => {
    await expect(loaded(ROWS, PLAIN, { to: ['none'] })).rejects.toMatchObject({ hint: 'loaders: store' })
  })
})
