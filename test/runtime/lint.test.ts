import { existsSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { defineExtractor, defineLoader } from '../../src/core/define.ts'
import { loadRegistry } from '../../src/core/registry.ts'
import { type LintedFile, lintJobs } from '../../src/runtime/lint.ts'

const unused = (): never => {
  throw new Error('lint reads nothing')
}
const memory = defineExtractor({
  summary: 'Nothing.',
  options: z.strictObject({}).describe('None.'),
  example: {},
  create: unused,
})
const leaky = defineLoader({
  summary: 'Takes everything twice.',
  options: z.strictObject({}).describe('None.'),
  example: {},
  create: () => ({
    replay: 'duplicates',
    order: 'none',
    dataset: () => ({ namespace: 'none', name: 'none' }),
    open: unused,
    write: unused,
    close: unused,
  }),
})
const registry = await loadRegistry({ extra: { extractor: { memory }, loader: { leaky } } })
const log = pino({ level: 'silent' })

let folder = ''
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'adflow-lint-test-'))
})
afterAll(() => rm(folder, { recursive: true }))

const MASK = '- mask: { user_id: hmac, key: "0123456789abcdef" }'

async function lint(parts: { contract?: string; transform?: string; load?: string; validate?: string }) {
  const file = join(folder, 'job.yaml')
  const lines = [
    'version: 1',
    'name: linted',
    'extract: { ads: { type: memory } }',
    `contract: { columns: { ${parts.contract ?? 'event_id: bigint, user_id: { type: varchar, personal: true }, event_time: timestamp, tags: "varchar[]"'} } }`,
    `validate: [${parts.validate ?? ''}]`,
    ...(parts.transform === undefined ? [] : ['transform:', ...parts.transform.split('\n').map((line) => `  ${line}`)]),
    `load: { ${parts.load ?? 'warehouse: { type: duckdb, path: w.duckdb, table: events }'} }`,
  ]
  await writeFile(file, `${lines.join('\n')}\n`)
  const report = await lintJobs([file], { registry, log, rate: 1000, env: {} })
  return report.files[0] as LintedFile
}

const warned = ({ warnings }: LintedFile) => warnings.map(({ rule }) => rule)

describe('lint', () => {
  it('finds nothing in a clean job, and leaves nothing behind', async () => {
    const { problems, warnings, job } = await lint({
      transform: MASK,
      load: 'archive: { type: files, path: made_by_nobody, format: parquet }, w: { type: duckdb, path: w.duckdb, table: t }',
    })
    expect({ problems, warnings, job }).toEqual({ problems: [], warnings: [], job: 'linted' })
    expect(existsSync(join(folder, 'made_by_nobody'))).toBe(false)
    expect(existsSync(join(folder, 'w.duckdb'))).toBe(false)
  })

  it('lists every mistake with its place, a caret and what was probably meant', async () => {
    const { problems, job } = await lint({
      validate: '{ id: known, check: "event_idd > 0" }, { id: odd, check: "event_id + 1" }',
      transform: '- derive: { late: "evnt_time > now()" }',
    })
    expect(job).toBeNull()
    expect(problems.map(({ at }) => at.replace(/.*job\.yaml/, ''))).toEqual([':5:32', ':5:69', ':7:21'])
    expect(problems[0]?.message).toContain('event_idd')
    expect(problems[0]?.excerpt).toMatch(/\n +\| +\^/)
    expect(problems[1]?.message).toBe('a check must be true or false; this is BIGINT')
  })

  it('refuses what a step sets aside and nobody reads, and a name that is taken', async () => {
    const transform = '- window: { id: w, time: event_time, every: 1m, select: { n: count(*) }, late: { to: NAME } }'
    const unread = await lint({ transform: transform.replace('NAME', 'late') })
    expect(unread.problems[0]).toMatchObject({
      message: 'nothing reads `late`: its rows would be lost',
      suggestion: 'give a loader `input: late`',
    })
    const load = 'warehouse: { type: duckdb, input: NAME, path: w.duckdb, table: events }'
    expect(
      await lint({ transform: transform.replace('NAME', 'late'), load: load.replace('NAME', 'late') }),
    ).toMatchObject({
      problems: [],
    })
    const taken = await lint({ transform: transform.replace('NAME', 'w'), load: load.replace('NAME', 'w') })
    expect(taken.problems[0]?.message).toBe('there is another output or step w')
  })

  it('finds what a loader would refuse at its first write', async () => {
    const { problems } = await lint({
      transform: MASK,
      load: 'w: { type: duckdb, path: w.duckdb, table: t, write: merge, key: [evnt_id] }, a: { type: files, path: a, format: csv, partition: { dt: "nowhere + 1" } }',
    })
    expect(problems.map(({ message }) => message)).toEqual([
      'the key column evnt_id does not reach the loader',
      expect.stringContaining('nowhere'),
    ])
    expect(problems[0]?.suggestion).toBe('did you mean `event_id`?')
  })

  it('says that a file that is not there is not there', async () => {
    const report = await lintJobs([join(folder, 'none.yaml')], { registry, log, rate: 1, env: {} })
    expect(report.files[0]?.problems[0]?.message).toMatch('cannot read the job file')
  })

  it.each([
    ['the column itself', undefined, ['user_id']],
    ['a copy made before the mask', `- derive: { uid: "upper(user_id)" }\n${MASK}`, ['uid']],
    ['another name', '- rename: { user_id: person }', ['person']],
    ['an aggregate that picks a value', '- aggregate: { by: [event_id], select: { who: "max(user_id)" } }', ['who']],
    ['the name of another column', '- sql: "select event_id, user_id as tags from input"', ['tags']],
    ['nothing: it is masked', MASK, []],
    ['nothing: derived after the mask', `${MASK}\n- derive: { uid: "upper(user_id)" }`, []],
    ['nothing: a truth value and a count', `- derive: { known: "user_id is not null" }\n${MASK}`, []],
    ['nothing: counted', '- aggregate: { by: [event_id], select: { users: "count(distinct user_id)" } }', []],
    ['nothing: left out', '- map: { event_id: event_id }', []],
  ])('personal data that reach a store: %s', async (_, transform, columns) => {
    const found = await lint(transform === undefined ? {} : { transform })
    expect(found.problems).toEqual([])
    expect(warned(found)).toEqual(columns.map(() => 'personal_data'))
    for (const [index, column] of columns.entries())
      expect(found.warnings[index]?.message).toContain(`column ${column}`)
  })

  it('warns of state without a bound, with its growth at the stated rate', async () => {
    const unbounded = await lint({ transform: `${MASK}\n- dedupe: { key: [event_id] }` })
    expect(warned(unbounded)).toEqual(['unbounded_state'])
    expect(unbounded.state).toEqual([
      { step: 'dedupe_1', bytes_per_row: 40, kept_seconds: null, bytes: 40 * 86_400 * 1000 },
    ])
    expect(unbounded.warnings[0]?.message).toContain('3.5 GB more a day')
    const bounded = await lint({ transform: `${MASK}\n- dedupe: { key: [event_id], time: event_time, within: 1d }` })
    expect(warned(bounded)).toEqual([])
    expect(bounded.state[0]).toMatchObject({ kept_seconds: 2 * 86_400, bytes: 40 * 2 * 86_400 * 1000 })
  })

  it('warns of a store that takes a batch twice, and of types that a format cannot hold', async () => {
    const found = await lint({
      transform: `${MASK}\n- derive: { total: "event_id::hugeint" }`,
      load: 'l: { type: leaky }, c: { type: files, path: c, format: csv }, p: { type: files, path: p, format: parquet }',
    })
    expect(warned(found).sort()).toEqual(['duplicates', 'loader', 'loader'])
    expect(found.warnings.map(({ message }) => message).sort()).toEqual([
      'csv cannot hold column tags (VARCHAR[]): it is written as text',
      'parquet cannot hold column total (HUGEINT): it is written as DECIMAL(38,0)',
      'the store l takes a batch twice when a run is repeated after a crash',
    ])
  })
})

describe('a job in shards', () => {
  const KAFKA = '{ type: kafka, brokers: "127.0.0.1:1", topics: t }'
  const sharded = async (more: string, source = KAFKA) => {
    const file = join(folder, 'sharded.yaml')
    await writeFile(
      file,
      `version: 1\nname: sharded\nuntil: forever\nstream: { shards: 4 }\nextract: { ads: ${source} }\ncontract: { columns: { event_id: bigint, event_time: timestamp } }\n${more}`,
    )
    const report = await lintJobs([file], { registry, log, rate: 1000, env: {} })
    return (report.files[0] as LintedFile).problems.map(({ at, message }) => `${at.replace(/.*yaml/, '')} ${message}`)
  }
  const FILES = 'load: { a: { type: files, format: parquet, path: a } }\n'

  it('may not remember records, count a run, find columns, load into one file, or read what cannot be shared', async () => {
    expect(await sharded(FILES)).toEqual([])
    expect(
      await sharded(
        'validate: [{ id: enough, rows: { min: 1 } }]\ntransform: [{ dedupe: { key: [event_id], time: event_time, within: 1d } }]\nload: { w: { type: duckdb, path: w.duckdb, table: t } }\n',
        '{ type: files, path: "x/*" }',
      ),
    ).toEqual([
      expect.stringMatching(/^:5:\d+ the source ads cannot be shared: .*kafka$/),
      expect.stringMatching(/^:8:\d+ the step dedupe_1 remembers records/),
      expect.stringMatching(/^:7:\d+ rule enough counts the rows of a run/),
      expect.stringMatching(/^:9:\d+ the store w is a file that one process/),
    ])
  })
})
