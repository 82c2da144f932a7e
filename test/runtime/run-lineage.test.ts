import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { z } from 'zod'
import { loadJob } from '../../src/core/job/load.ts'
import { loadRegistry } from '../../src/core/registry.ts'
import type { TransportDefinition } from '../../src/core/transport.ts'
import { runJob } from '../../src/runtime/run.ts'
import type { RunSummary } from '../../src/runtime/summary.ts'
import { eventsOf, facetNames, mistakesIn } from '../harness/openlineage.ts'

/** Never answers; ends when it is told to. */
const hanging: TransportDefinition = {
  kind: 'transport',
  summary: 'Never answers.',
  options: z.strictObject({}),
  example: {},
  create: () => ({
    send: (_event, { signal }) =>
      new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error))),
    close: async () => undefined,
  }),
}
const registry = await loadRegistry({ extra: { transport: { hanging } } })

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'adflow-run-lineage-'))
  mkdirSync(join(folder, 'data'))
  writeFileSync(join(folder, 'campaigns.csv'), 'id,name\n7,Spring\n')
  put('a', [{ click_id: 1, campaign: { id: 7 }, user_id: 'u', cost_micros: 5 }, { click_id: 'x' }])
})
afterEach(() => {
  vi.unstubAllEnvs()
  rmSync(folder, { recursive: true, force: true })
})

const FILE = '{ type: file, log_file_path: out/lineage.ndjson }'
const path = () => join(folder, 'out', 'lineage.ndjson')
const put = (name: string, records: readonly object[]) =>
  writeFileSync(join(folder, 'data', `${name}.ndjson`), records.map((record) => `${JSON.stringify(record)}\n`).join(''))

const JOB = `version: 1
name: clicks
description: Clicks of the ad server.
extract:
  ad_server: { type: files, path: "data/*.ndjson", settle: 0s }
contract:
  columns:
    click_id: { type: bigint, required: true }
    campaign_id: { type: bigint, from: "campaign.id", description: Of the booking system }
    user_id: { type: varchar, personal: true }
    cost_micros: bigint
validate:
  - { id: negative_cost, check: "cost_micros >= 0" }
  - { id: many, batch: "count(*) > 10", on_fail: warn }
  - { id: some, rows: { min: 1 }, on_fail: warn }
transform:
  - dedupe: { key: [click_id] }
  - filter: "campaign_id is not null"
  - derive: { spend: "cost_micros / 1000000", rich: "spend > 1", cid: campaign_id }
  - lookup: { table: campaigns, from: { type: files, path: campaigns.csv }, on: { campaign_id: id }, select: { campaign: name } }
  - id: by_campaign
    aggregate: { by: [campaign], select: { n: "count(*)", spend: "sum(spend)" } }
  - mask: { user_id: hmac, key: "a key of many bytes" }
load:
  warehouse: { type: duckdb, path: warehouse.duckdb, table: clicks }
  totals: { type: duckdb, path: warehouse.duckdb, table: totals, input: by_campaign }
  archive: { type: files, format: parquet, path: archive }
`

async function run(transport = FILE, { yaml = JOB, more = '' } = {}): Promise<RunSummary> {
  const file = join(folder, 'job.yaml')
  writeFileSync(file, `${yaml}lineage: { transport: ${transport}${more} }\n`)
  const job = await loadJob(file, { registry })
  const log = pino({ level: 'silent' })
  return runJob({ job, registry, stateDir: join(folder, 'state'), log, command: 'test', version: '1.2.3' })
}

const outbox = () => {
  const left = join(folder, 'state', 'clicks', 'lineage')
  return existsSync(left) ? readdirSync(left) : []
}

const module = (name: string) => JSON.stringify(new URL(`../../src/${name}.ts`, import.meta.url).href)

/** Runs the job over a transport that writes the event and kills the process. */
const DEADLY = `const { loadJob } = await import(${module('core/job/load')})
  const { loadRegistry } = await import(${module('core/registry')})
  const { runJob } = await import(${module('runtime/run')})
  const { default: pino } = await import('pino')
  const { z } = await import('zod')
  const { appendFileSync, mkdirSync } = await import('node:fs')
  const { dirname } = await import('node:path')
  const [, file, stateDir, events, fatal] = process.argv
  mkdirSync(dirname(events), { recursive: true })
  const send = async (event) => {
    appendFileSync(events, JSON.stringify(event) + '\\n')
    if (event.eventType === fatal) process.kill(process.pid, 'SIGKILL')
  }
  const create = () => ({ send, close: async () => undefined })
  const deadly = { kind: 'transport', summary: 'Deadly.', options: z.strictObject({}), example: {}, create }
  const registry = await loadRegistry({ extra: { transport: { deadly } } })
  const job = await loadJob(file, { registry })
  await runJob({ job, registry, stateDir, log: pino({ level: 'silent' }), command: 'test', version: '0' })`

describe('a run', () => {
  test('says START and COMPLETE in events that fit the published schemas', async () => {
    const summary = await run()
    expect(summary).toMatchObject({ status: 'done', read: 2, quarantined: 1 })
    const events = eventsOf(path())
    expect(events.map(({ eventType }) => eventType)).toEqual(['START', 'COMPLETE'])
    for (const event of events) expect(mistakesIn(event), event.eventType).toEqual([])
    expect(new Set(events.map(({ run }) => run.runId))).toEqual(new Set([summary.run]))
    expect(facetNames(events[1])).toEqual(
      [
        'columnLineage',
        'dataQualityAssertions',
        'dataQualityMetrics',
        'dataSource',
        'documentation',
        'inputStatistics',
        'jobType',
        'outputStatistics',
        'processing_engine',
        'schema',
        'sql',
        'tags',
      ].sort(),
    )
    expect(outbox()).toEqual([])
  })

  test('the published schemas refuse an event that does not fit', async () => {
    await run()
    const [start] = eventsOf(path())
    const broken = JSON.parse(JSON.stringify(start))
    broken.run.runId = 'run 1'
    broken.outputs[0].facets.columnLineage.fields.click_id.inputFields[0] = { field: 'x' }
    broken.inputs[0].facets.dataSource._schemaURL = 'https://openlineage.io/spec/facets/9-9-9/None.json'
    const mistakes = mistakesIn(broken)
    for (const mistake of [
      '/run/runId must match format "uuid"',
      '/inputs/0/facets/dataSource: there is no schema https://openlineage.io/spec/facets/9-9-9/None.json',
      "/outputs/0/facets/columnLineage/fields/click_id/inputFields/0 must have required property 'namespace'",
    ])
      expect(mistakes).toContain(mistake)
  })

  test('names data sets, columns and where they come from', async () => {
    await run()
    const [, end] = eventsOf(path())
    const source = { namespace: 'file', name: join(folder, 'data/*.ndjson') }
    const campaigns = { namespace: 'file', name: join(folder, 'campaigns.csv') }
    expect(end?.inputs).toMatchObject([source, campaigns])
    expect(end?.inputs[0].facets.schema.fields[1]).toEqual({
      name: 'campaign.id',
      type: 'BIGINT',
      description: 'Of the booking system',
      ordinal_position: 2,
    })
    expect(end?.inputs[0].facets.tags.tags).toEqual([
      { key: 'personal', value: 'true', source: 'ADFLOW', field: 'user_id' },
    ])
    const [warehouse, totals, archive] = end?.outputs ?? []
    expect(archive.name).toBe(join(folder, 'archive'))
    const how = (
      output: { facets: { columnLineage: { fields: Record<string, { inputFields: unknown }> } } },
      column: string,
    ) => output.facets.columnLineage.fields[column]?.inputFields
    const direct = (subtype: string, masking = false) => ({ type: 'DIRECT', subtype, masking })
    expect(how(warehouse, 'cid')).toEqual([{ ...source, field: 'campaign.id', transformations: [direct('IDENTITY')] }])
    expect(how(warehouse, 'rich')).toEqual([
      { ...source, field: 'cost_micros', transformations: [direct('TRANSFORMATION')] },
    ])
    expect(how(warehouse, 'user_id')).toEqual([
      { ...source, field: 'user_id', transformations: [direct('TRANSFORMATION', true)] },
    ])
    expect(how(warehouse, 'campaign')).toEqual([
      { ...source, field: 'campaign.id', transformations: [{ type: 'INDIRECT', subtype: 'JOIN', masking: false }] },
      { ...campaigns, field: 'name', transformations: [direct('IDENTITY')] },
    ])
    expect(how(totals, 'spend')).toEqual([
      { ...source, field: 'cost_micros', transformations: [direct('AGGREGATION')] },
    ])
    expect(how(totals, 'n')).toEqual([])
    const deciding = (field: string, ...subtypes: string[]) => ({
      field,
      transformations: subtypes.map((subtype) => ({ type: 'INDIRECT', subtype })),
    })
    expect(totals.facets.columnLineage.dataset).toMatchObject([
      deciding('cost_micros', 'FILTER'),
      deciding('click_id', 'FILTER'),
      deciding('campaign.id', 'FILTER', 'GROUP_BY'),
      deciding('name', 'GROUP_BY'),
    ])
    expect(warehouse.facets.tags).toBeUndefined()
  })

  test('says what was read, what every rule found, and what each store got', async () => {
    await run()
    const [start, end] = eventsOf(path())
    expect(start?.inputs[0].inputFacets).toEqual({})
    const { inputStatistics, dataQualityAssertions } = end?.inputs[0].inputFacets ?? {}
    const { size } = { size: readFileSync(join(folder, 'data', 'a.ndjson')).length }
    expect(inputStatistics).toMatchObject({ rowCount: 2, size, fileCount: 1 })
    const found = Object.fromEntries(
      dataQualityAssertions.assertions.map((each: { name: string }) => [each.name, each]),
    )
    expect(found.type).toMatchObject({ success: false, actual: '1 of 2 records', assertion: 'valid_type' })
    expect(found.required).toMatchObject({ success: true, assertion: 'not_null', column: 'click_id' })
    expect(found.negative_cost).toMatchObject({ success: true, column: 'cost_micros', content: 'cost_micros >= 0' })
    expect(found.many).toMatchObject({ success: false, actual: expect.stringContaining('found 1 rows') })
    expect(found.some).toMatchObject({ success: true, assertion: 'row_count', expected: '1 to any number of rows' })
    const [warehouse, totals, archive] = end?.outputs ?? []
    expect(warehouse.outputFacets.outputStatistics).toMatchObject({ rowCount: 1 })
    expect(totals.outputFacets.outputStatistics).toMatchObject({ rowCount: 1 })
    const [file = ''] = readdirSync(join(folder, 'archive')).filter((name) => name.endsWith('.parquet'))
    expect(archive.outputFacets.outputStatistics).toMatchObject({
      rowCount: 1,
      fileCount: 1,
      size: readFileSync(join(folder, 'archive', file)).length,
    })
    await run()
    expect(
      eventsOf(path())
        .at(-1)
        ?.outputs.map(({ outputFacets }) => outputFacets),
    ).toEqual([{}, {}, {}])
  })

  test('says FAIL, and why, when a rule stops it', async () => {
    const yaml = JOB.replace('"cost_micros >= 0" }', '"cost_micros >= 0", on_fail: fail }')
    put('b', [{ click_id: 2, campaign: { id: 7 }, cost_micros: -1 }])
    expect((await run(FILE, { yaml })).exit).toBe(65)
    const event = eventsOf(path()).at(-1)
    expect(mistakesIn(event)).toEqual([])
    expect(event?.eventType).toBe('FAIL')
    expect(event?.run.facets['errorMessage']).toMatchObject({
      programmingLanguage: 'TypeScript',
      message: expect.stringContaining('DATA_REJECTED: rule negative_cost does not hold'),
    })
    const { assertions } = event?.inputs[0].inputFacets.dataQualityAssertions ?? { assertions: [] }
    expect(assertions.find(({ name }: { name: string }) => name === 'negative_cost')).toMatchObject({
      success: false,
      severity: 'error',
    })
  })

  test('two stores on one data set are one output, with the rows of both', async () => {
    const yaml = JOB.replace(
      'path: archive }',
      'path: archive }\n  again: { type: files, format: parquet, path: archive, name: again- }',
    )
    await run(FILE, { yaml })
    const event = eventsOf(path()).at(-1)
    expect(mistakesIn(event)).toEqual([])
    expect(event?.outputs).toHaveLength(3)
    expect(event?.outputs[2].outputFacets.outputStatistics).toMatchObject({ rowCount: 2, fileCount: 2 })
  })

  test('without a transport in job or environment nothing is written', async () => {
    writeFileSync(join(folder, 'job.yaml'), JOB)
    const job = await loadJob(join(folder, 'job.yaml'), { registry })
    const log = pino({ level: 'silent' })
    await runJob({ job, registry, stateDir: join(folder, 'state'), log, command: 'test', version: '0' })
    expect(existsSync(path())).toBe(false)
    expect(outbox()).toEqual([])
  })
})

describe('a transport that fails', () => {
  test('leaves the run as it is, is said in one warning, and the next run sends the end', async () => {
    writeFileSync(join(folder, 'out'), 'a file where a folder is wanted')
    const first = await run()
    expect(first).toMatchObject({ status: 'done', exit: 0, passed: 1 })
    expect(first.warnings.filter((text) => text.includes('lineage'))).toEqual([
      expect.stringMatching(/lineage events did not reach the transport file: .*EEXIST|ENOTDIR/),
    ])
    expect(outbox()).toEqual([`${first.run}.json`])
    rmSync(join(folder, 'out'))
    const second = await run()
    expect(second.warnings.filter((text) => text.includes('lineage'))).toEqual([])
    const events = eventsOf(path()).map(({ eventType, run: { runId } }) => `${eventType} ${runId}`)
    expect(events).toEqual([`COMPLETE ${first.run}`, `START ${second.run}`, `COMPLETE ${second.run}`])
    expect(outbox()).toEqual([])
  })

  test('by hanging holds the end of a run for no longer than the timeout', async () => {
    const before = Date.now()
    const first = await run('{ type: hanging }', { more: ', timeout: 200ms' })
    expect(Date.now() - before).toBeLessThan(20_000)
    expect(first).toMatchObject({ status: 'done', exit: 0 })
    expect(first.warnings.at(-1)).toContain('transport hanging: no answer within 0.2 s; the run is not affected')
    const second = await run()
    expect(eventsOf(path()).map(({ eventType, run: { runId } }) => `${eventType} ${runId}`)).toEqual([
      `COMPLETE ${first.run}`,
      `START ${second.run}`,
      `COMPLETE ${second.run}`,
    ])
  })

  test('a line that a crash cut off does not spoil the next event', async () => {
    await run()
    appendFileSync(path(), '{"eventType":"STA')
    await run()
    const lines = readFileSync(path(), 'utf8').trimEnd().split('\n')
    expect(lines.length).toBe(5)
    expect(lines[2]).toBe('{"eventType":"STA')
    for (const line of lines.toSpliced(2, 1)) expect(mistakesIn(JSON.parse(line))).toEqual([])
  })
})

describe('a run that is killed right after its transport took', () => {
  test.each([
    ['START', 'is told as cut off by the next one', ['START', 'ABORT']],
    ['COMPLETE', 'is told as complete again: at least once', ['START', 'COMPLETE', 'COMPLETE']],
  ])('%s %s', async (fatal, _what, told) => {
    writeFileSync(join(folder, 'job.yaml'), `${JOB}lineage: { transport: { type: deadly } }\n`)
    const args = [join(folder, 'job.yaml'), join(folder, 'state'), path(), fatal]
    const child = spawn(process.execPath, ['--input-type=module', '-e', DEADLY, ...args], { stdio: 'inherit' })
    expect(await once(child, 'exit')).toEqual([null, 'SIGKILL'])
    const second = await run()
    const events = eventsOf(path())
    for (const event of events) expect(mistakesIn(event)).toEqual([])
    const [first = ''] = events.map(({ run: { runId } }) => runId)
    const of = (id: string) => events.filter((event) => event.run.runId === id).map(({ eventType }) => eventType)
    expect(of(first)).toEqual(told)
    expect(of(second.run)).toEqual(['START', 'COMPLETE'])
    expect(outbox()).toEqual([])
  })
})

describe('the environment', () => {
  const other = () => join(folder, 'elsewhere.ndjson')
  const parent = '01a21498-0870-7d9a-8ecb-f3919b7267ae'
  const root = '01a21498-0870-7d9a-8ecb-f3919b7267af'

  test('names transport, namespace and parent in the words of the OpenLineage clients', async () => {
    vi.stubEnv('OPENLINEAGE__TRANSPORT__TYPE', 'file')
    vi.stubEnv('OPENLINEAGE__TRANSPORT__LOG_FILE_PATH', other())
    vi.stubEnv('OPENLINEAGE__TRANSPORT__APPEND', 'true')
    vi.stubEnv('OPENLINEAGE_NAMESPACE', 'ads')
    vi.stubEnv('OPENLINEAGE_PARENT_ID', `food://scheduler/daily/${parent}`)
    vi.stubEnv('OPENLINEAGE_ROOT_PARENT_ID', `scheduler/root/${root}`)
    await run()
    expect(existsSync(path())).toBe(false)
    for (const event of eventsOf(other())) {
      expect(mistakesIn(event)).toEqual([])
      expect(event.job).toMatchObject({ namespace: 'ads', name: 'clicks' })
      expect(event.run.facets['parent']).toMatchObject({
        run: { runId: parent },
        job: { namespace: 'food://scheduler', name: 'daily' },
        root: { run: { runId: root }, job: { namespace: 'scheduler', name: 'root' } },
      })
    }
  })

  test('gives the parent as JSON too', async () => {
    const context = { parent: { run: { runId: parent }, job: { namespace: 'n', name: 'j' } } }
    vi.stubEnv('OPENLINEAGE_CONTEXT', JSON.stringify(context))
    await run()
    const [event] = eventsOf(path())
    expect(mistakesIn(event)).toEqual([])
    expect(event?.run.facets['parent']).toMatchObject(context.parent)
  })

  test('turns everything off', async () => {
    vi.stubEnv('OPENLINEAGE_DISABLED', 'true')
    expect((await run()).warnings.filter((text) => text.includes('lineage'))).toEqual([])
    expect(existsSync(path())).toBe(false)
  })

  test.each([
    ['OPENLINEAGE__TRANSPORT__TYPE', 'pigeon', /TYPE is pigeon; there are: file, hanging/],
    ['OPENLINEAGE__TRANSPORT__TYPE', 'file', /does not fit the transport file: .*log_file_path/s],
    ['OPENLINEAGE_PARENT_ID', 'nobody', /OPENLINEAGE_PARENT_ID is not <namespace>/],
    ['OPENLINEAGE_CONTEXT', '{', /OPENLINEAGE_CONTEXT does not hold a parent/],
  ])('that is wrong (%s=%s) is said in a warning, and the job file holds', async (name, value, warning) => {
    vi.stubEnv(name, value)
    const summary = await run()
    expect(summary.exit).toBe(0)
    expect(summary.warnings.filter((text) => text.includes('lineage'))).toEqual([expect.stringMatching(warning)])
    expect(eventsOf(path())).toHaveLength(2)
  })
})
