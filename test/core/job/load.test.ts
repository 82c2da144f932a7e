import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { AdflowError } from '../../../src/core/errors.ts'
import type { Job } from '../../../src/core/job/job.ts'
import { loadJob, readJobText } from '../../../src/core/job/load.ts'
import type { Problem } from '../../../src/core/job/problems.ts'
import { fakeRegistry, jobText } from './fake-registry.ts'

const registry = await fakeRegistry()

function read(text: string, env: Record<string, string> = {}): Promise<Job> {
  return readJobText(text, 'jobs/x.yaml', { registry, env })
}

async function failure(text: string, env: Record<string, string> = {}): Promise<AdflowError> {
  const error = await read(text, env).then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  if (error instanceof AdflowError) return error
  throw error ?? new Error('the job file was accepted')
}

async function problems(text: string, env: Record<string, string> = {}): Promise<readonly Problem[]> {
  return (await failure(text, env)).details?.['problems'] as Problem[]
}

describe('a job file', () => {
  it('is read with every default filled in, in bytes and milliseconds', async () => {
    const job = await read(jobText())
    expect(job).toMatchObject({
      name: 'ad_events',
      unknown: 'discard_value',
      steps: [],
      rowRules: [],
      batchRules: [],
      budgets: [],
      tests: [],
      spool: { maxBytes: 10e9, whenFull: 'block' },
      retry: { attempts: 5, initialMs: 200, maxMs: 30_000 },
      resources: {
        memoryLimitBytes: 512e6,
        threads: availableParallelism(),
        chunkBytes: 64e6,
        parallel: 4,
        inFlight: 2,
        maxRecordBytes: 16e6,
      },
    })
    expect(job.extract).toEqual([
      {
        id: 'ads',
        type: 'files',
        optional: false,
        priority: 50,
        options: { paths: ['ads.ndjson'], format: 'ndjson', header: true, window: 900_000 },
        path: ['extract', 'ads'],
      },
    ])
    expect(job.load[0]).toMatchObject({ id: 'warehouse', input: undefined, optional: false })
    expect(job.columns[0]).toEqual({
      name: 'event_id',
      type: 'bigint',
      required: false,
      from: 'event_id',
      format: undefined,
      description: undefined,
      personal: false,
      path: ['contract', 'columns', 'event_id'],
    })
  })

  it('says where any value stands, and the nearest place for what is not there', async () => {
    const job = await read(jobText({ transform: 'transform:\n  - derive:\n      spend: cost / 2' }))
    expect(job.at(['transform', 0, 'derive', 'spend'])).toBe('jobs/x.yaml:11:14')
    expect(job.at(['transform', 0, 'derive', 'missing'])).toBe('jobs/x.yaml:10:5')
    expect(job.at([])).toBe('jobs/x.yaml:1:1')
    expect(job.excerpt(['transform', 0, 'derive', 'spend'])).toBe('11 |       spend: cost / 2\n   |              ^')
  })

  it('sorts sources by priority and rules by stage, otherwise in the order of the file', async () => {
    const job = await read(
      jobText({
        extract: `extract:
  a: { type: files, paths: [a] }
  b: { type: files, paths: [b], priority: 90 }
  c: { type: files, paths: [c] }`,
        validate: `validate:
  - { id: late, check: "true" }
  - { id: early, check: "true", stage: format }
  - { id: last, check: "true", on_fail: drop }`,
      }),
    )
    expect(job.extract.map(({ id }) => id)).toEqual(['b', 'a', 'c'])
    expect(job.rowRules.map(({ id }) => id)).toEqual(['early', 'late', 'last'])
    expect(job.rowRules[0]?.check).toEqual({ sql: 'true', path: ['validate', 1, 'check'] })
  })

  it('splits rules by kind', async () => {
    const job = await read(
      jobText({
        validate: `validate:
  - { id: sql, batch: "count(*) > 0", on_fail: warn }
  - { id: many, rows: { min: 1 } }
  - { id: filled, null_ratio: { column: cost, max: 0.5 } }
  - { id: once, unique: [event_id] }
  - { id: fresh, freshness: { column: event_time, within: 6h } }
  - { budget: { ratio: 0.001, per: 1h, then: warn, min_rows: 10 } }
  - { budget: { ratio: 0.1 } }`,
      }),
    )
    expect(job.batchRules.map(({ path: _, description: __, ...rule }) => rule)).toEqual([
      { id: 'sql', onFail: 'warn', kind: 'batch', check: { sql: 'count(*) > 0', path: ['validate', 0, 'batch'] } },
      { id: 'many', onFail: 'fail', kind: 'rows', min: 1, max: undefined },
      { id: 'filled', onFail: 'fail', kind: 'null_ratio', column: 'cost', max: 0.5 },
      { id: 'once', onFail: 'fail', kind: 'unique', columns: ['event_id'] },
      { id: 'fresh', onFail: 'fail', kind: 'freshness', column: 'event_time', withinMs: 21_600_000 },
    ])
    expect(job.budgets.map(({ path: _, ...budget }) => budget)).toEqual([
      { ratio: 0.001, per: 3_600_000, onExhausted: 'warn', minRows: 10 },
      { ratio: 0.1, per: 'run', onExhausted: 'fail', minRows: 0 },
    ])
  })

  it('takes the id of a step from beside the verb or from named options; a map of columns may have a column `id`', async () => {
    const job = await read(
      jobText({
        transform: `transform:
  - derive: { id: event_id }
  - derive: { x: "1" }
    id: beside
  - dedupe: { id: inside, key: [event_id] }
  - aggregate: { id: declared, select: { n: "count(*)" } }
  - filter: cost > 0
  - derive: { y: "2" }`,
        load: 'load:\n  warehouse: { type: duckdb, table: t, input: declared }\n  rest: { type: duckdb, table: r, input: main }',
      }),
    )
    expect(job.steps.map(({ id, named }) => [id, named])).toEqual([
      ['derive_1', false],
      ['beside', true],
      ['inside', true],
      ['declared', true],
      ['filter_1', false],
      ['derive_2', false],
    ])
    expect(job.steps[0]?.options).toEqual({ id: 'event_id' })
    expect(job.steps[2]?.options).toEqual({ key: ['event_id'] })
    expect(job.steps[3]?.options).toEqual({ id: 'declared', select: { n: 'count(*)' } })
    expect(job.steps[4]?.path).toEqual(['transform', 4, 'filter'])
  })

  it('reads tests with exact integers, raw lines and the expected quarantine', async () => {
    const job = await read(
      jobText({
        tests: `tests:
  - name: keeps large ids
    clock: 2026-03-01T12:00:00+02:00
    given:
      ads: [{ event_id: 9223372036854775807, cost: 1.5, exact: 12345678901234567.25 }]
    expect:
      warehouse: [{ event_id: 9223372036854775807 }]
      quarantine: [{ rule: type, field: cost }]
  - name: reads lines
    given: { ads: { lines: ['{"a":', ''] } }
    expect: { main: [] }`,
      }),
    )
    expect(job.tests[0]).toMatchObject({
      clock: '2026-03-01T10:00:00.000Z',
      given: [{ source: 'ads', rows: [{ event_id: 9223372036854775807n, cost: 1.5, exact: '12345678901234567.25' }] }],
      expect: [{ output: 'warehouse', rows: [{ event_id: 9223372036854775807n }] }],
      quarantine: [{ rule: 'type', field: 'cost' }],
    })
    expect(job.tests[1]).toMatchObject({ given: [{ source: 'ads', lines: ['{"a":', ''] }], quarantine: undefined })
  })

  it('shares options by type, and a mistake in them is found where they stand', async () => {
    const shared = 'defaults:\n  extract:\n    files: { format: csv, header: false }'
    const job = await read(
      jobText({ defaults: shared, extract: 'extract:\n  ads: { type: files, paths: [x], header: true }' }),
    )
    expect(job.extract[0]?.options).toMatchObject({ format: 'csv', header: true })
    expect(job.at(['extract', 'ads', 'format'])).toBe('jobs/x.yaml:11:22')
    const [wrong] = await problems(jobText({ defaults: shared.replace('csv', 'cvs') }))
    expect(wrong).toMatchObject({ at: 'jobs/x.yaml:11:22', suggestion: 'did you mean `csv`?' })
    const [idle] = await problems(jobText({ defaults: 'defaults:\n  load:\n    duckbd: { table: t }' }))
    expect(idle).toMatchObject({ at: 'jobs/x.yaml:11:5', suggestion: 'did you mean `duckdb`?' })
  })
})

describe('a mistake', () => {
  /** [what is wrong, sections with ▸ before the place of the mistake, message, suggestion] */
  const cases: readonly [string, Record<string, string>, string | RegExp, (string | RegExp)?][] = [
    ['unknown key at the top', { x: '▸transfrom: []' }, 'unknown key `transfrom`', 'did you mean `transform`?'],
    ['wrong version', { version: 'version: ▸2' }, '`version`: expected `1`, got the number 2'],
    ['missing version', { version: '' }, 'missing key `version`'],
    ['missing section', { load: '' }, 'missing key `load`', /Stores/],
    ['empty section', { load: 'load: ▸{}' }, '`load`: needs at least one loader'],
    ['section without value', { load: 'load:▸' }, '`load`: expected a map, got nothing'],
    ['bad job name', { name: 'name: ▸Ad-Events' }, /must be lower_snake/],
    ['bad id', { extract: 'extract:\n  ▸My: { type: files, paths: [a] }' }, /`My`: must be lower_snake/],
    ['no pattern of times', { x: 'schedule: { cron: ▸x }' }, /a pattern has 5 fields/],
    ['a minute that is none', { x: 'schedule: { cron: ▸"61 * * * *" }' }, /Invalid value for minute: 61/],
    ['a time that never comes', { x: 'schedule: { cron: ▸"0 0 31 2 *" }' }, /names no time that will ever come/],
    ['no time zone', { x: 'schedule: { cron: "@daily", timezone: ▸Mars/Base }' }, /is no time zone/],
    ['neither cron nor after', { x: 'schedule: ▸{ priority: 60 }' }, /either `cron` or `after`/],
    ['cron and after', { x: 'schedule: ▸{ cron: "@daily", after: [x] }' }, /either `cron` or `after`/],
    [
      'for ever, at times',
      { x: 'until: forever\n▸schedule: { cron: "@daily" }' },
      /has no schedule/,
      /the daemon starts/,
    ],
    [
      'shards of a job that ends',
      { x: 'stream: { ▸shards: 4 }' },
      /only a job with `until: forever` has shards/,
      /leave out `shards`/,
    ],
    ['wrong word in reconcile', { x: 'reconcile: { heal: ▸some }' }, /none.*missing.*all/, /did you mean/],
    ['wrong duration in reconcile', { x: 'reconcile: { window: ▸1 hour }' }, /expected a duration/],
    ['no consumer', { x: 'distribute: ▸{}' }, '`distribute`: needs at least one consumer'],
    [
      'unknown type of consumer',
      { x: 'distribute:\n  hook: { type: ▸webhok, url: a }' },
      /no consumer of the type `webhok`/,
      /`webhook`/,
    ],
    [
      'unknown option of a consumer',
      { x: 'distribute:\n  hook: { type: webhook, url: a, ▸secrt: b }' },
      /unknown key `secrt`/,
      /`secret`/,
    ],
    [
      'unknown input of a consumer',
      { x: 'distribute:\n  hook: { type: webhook, url: a, input: ▸mian }' },
      'no step has the id `mian`',
      /`main`/,
    ],
    [
      'pause without a unit',
      { x: 'distribute:\n  hook: { type: webhook, url: a, retry: { max: ▸5 } }' },
      /`max`: expected a duration with its unit/,
    ],
    [
      'consumer with the id of a loader',
      { x: 'distribute:\n  ▸warehouse: { type: webhook, url: a }' },
      'the id `warehouse` is already taken by a loader',
    ],
    [
      'unknown type',
      { extract: 'extract:\n  ads: { type: files, paths: [a] }\n  more: { type: ▸flies, paths: [a] }' },
      /no extractor of the type `flies`/,
      /`files`/,
    ],
    [
      'mistyped `type`',
      { extract: 'extract:\n  ads: { type: files, paths: [a] }\n  more: { ▸tpye: files, paths: [a] }' },
      'unknown key `tpye`',
      /`type`/,
    ],
    [
      'missing type',
      { extract: 'extract:\n  ads: { type: files, paths: [a] }\n  ▸more: { paths: [a] }' },
      'missing key `type`',
      /Type of the component/,
    ],
    [
      'type no text',
      { extract: 'extract:\n  ads: { type: files, paths: [a] }\n  more: { type: ▸5 }' },
      '`type`: expected text, got the number 5',
      'put it in quotes',
    ],
    [
      'source no map',
      { extract: 'extract:\n  ads: { type: files, paths: [a] }\n  more: ▸files' },
      '`more`: expected a map, got `files`',
    ],
    [
      'unknown option',
      { extract: 'extract:\n  ads: { type: files, paths: [a] }\n  more: { type: files, ▸path: [a] }' },
      'unknown key `path`',
      'did you mean `paths`?',
    ],
    [
      'unknown option far off',
      { extract: 'extract:\n  ads: { type: files, paths: [a] }\n  more: { type: files, paths: [a], ▸zzz: 1 }' },
      'unknown key `zzz`',
      /known here: `paths`,/,
    ],
    [
      'unknown nested option',
      {
        extract:
          'extract:\n  ads: { type: files, paths: [a] }\n  more: { type: files, paths: [a], cursor: { ▸feild: x } }',
      },
      'unknown key `feild`',
      /`field`/,
    ],
    [
      'missing option',
      { extract: 'extract:\n  ads: { type: files, paths: [a] }\n  ▸more: { type: files }' },
      'missing key `paths`',
      'Globs',
    ],
    [
      'empty list',
      { extract: 'extract:\n  ads: { type: files, paths: [a] }\n  more: { type: files, paths: ▸[] }' },
      '`paths`: needs at least 1 entry',
    ],
    [
      'empty text',
      { extract: 'extract:\n  ads: { type: files, paths: [a] }\n  more: { type: files, paths: [▸""] }' },
      '`paths`: must not be empty',
    ],
    [
      'text for a list',
      { extract: 'extract:\n  ads: { type: files, paths: [a] }\n  more: { type: files, paths: ▸a }' },
      '`paths`: expected a list, got `a`',
    ],
    [
      'word not in the list',
      { extract: 'extract:\n  ads: { type: files, paths: [a] }\n  more: { type: files, paths: [a], format: ▸cvs }' },
      '`format`: expected `ndjson`, `csv` or `parquet`, got `cvs`',
      'did you mean `csv`?',
    ],
    [
      'text for a boolean',
      { extract: 'extract:\n  ads: { type: files, paths: [a] }\n  more: { type: files, paths: [a], header: ▸"yes" }' },
      '`header`: expected `true` or `false`, got `yes`',
    ],
    [
      'fraction for a whole number',
      { extract: 'extract:\n  ads: { type: files, paths: [a] }\n  more: { type: files, paths: [a], port: ▸1.5 }' },
      '`port`: expected a whole number, got the number 1.5',
    ],
    [
      'number out of range',
      { extract: 'extract:\n  ads: { type: files, paths: [a] }\n  more: { type: files, paths: [a], port: ▸0 }' },
      '`port`: must be at least 1, got the number 0',
    ],
    [
      'duration without unit',
      { extract: 'extract:\n  ads: { type: files, paths: [a] }\n  more: { type: files, paths: [a], window: ▸15 }' },
      /`window`: expected a duration with its unit/,
    ],
    [
      'bad duration',
      { extract: 'extract:\n  ads: { type: files, paths: [a] }\n  more: { type: files, paths: [a], window: ▸15x }' },
      /expected a duration .*got `15x`/,
    ],
    [
      'bad size',
      { extract: 'extract:\n  ads: { type: files, paths: [a] }\n  more: { type: files, paths: [a], max_size: ▸64QB }' },
      /expected a size .*got `64QB`/,
    ],
    [
      'column without type',
      { contract: 'contract:\n  columns: { a: { ▸requird: true, type: int } }' },
      'unknown key `requird`',
      /`required`/,
    ],
    ['column no type', { contract: 'contract:\n  columns: { a: ▸[int] }' }, '`a`: expected text or a map, got a list'],
    [
      'column names in two cases',
      { contract: 'contract:\n  columns: { a: int, ▸A: int }' },
      /`A` and `a` are one column/,
    ],
    ['reserved column name', { contract: 'contract:\n  columns: { ▸__row: int }' }, /start with `__` are reserved/],
    ['no columns', { contract: 'contract: { columns: ▸{} }' }, /needs at least one column/],
    [
      'format for a number',
      { contract: 'contract:\n  columns: { a: { type: bigint, format: ▸epoch_s } }' },
      /`format` is for dates and timestamps/,
    ],
    [
      'wrong unknown',
      { contract: 'contract: { columns: { a: int }, unknown: ▸freze }' },
      /`unknown`: expected `evolve`/,
      /`freeze`/,
    ],
    [
      'unknown verb',
      { transform: 'transform:\n  - ▸dervie: { a: b }' },
      'there is no step `dervie`',
      'did you mean `derive`?',
    ],
    ['step without verb', { transform: 'transform:\n  - ▸{}' }, 'a step needs a verb', /`derive`/],
    [
      'two verbs',
      { transform: 'transform:\n  - ▸derive: { a: b }\n    filter: a' },
      /a step has one verb, found `derive`, `filter`/,
    ],
    ['step no map', { transform: 'transform: [▸dedupe]' }, '`transform`: expected a map, got `dedupe`'],
    ['option of a step', { transform: 'transform:\n  - dedupe: { key: ▸id }' }, '`key`: expected a list, got `id`'],
    [
      'unknown option of a step',
      { transform: 'transform:\n  - dedupe: { ▸keys: [id] }' },
      'unknown key `keys`',
      /`key`/,
    ],
    [
      'two ids',
      { transform: 'transform:\n  - dedupe: { ▸id: a, key: [id] }\n    id: b' },
      'the step has an `id` twice',
    ],
    ['bad step id', { transform: 'transform:\n  - dedupe: { id: ▸A b, key: [id] }' }, /`id`: must be lower_snake/],
    [
      'step id taken by a source',
      { transform: 'transform:\n  - filter: a\n    id: ▸ads' },
      /`ads` is already taken by a source/,
    ],
    [
      'loader id taken by a source',
      { load: 'load:\n  ▸ads: { type: duckdb, table: t }' },
      /`ads` is already taken by a source/,
    ],
    ['reserved id', { load: 'load:\n  ▸quarantine: { type: duckdb, table: t }' }, /taken by the quarantine/],
    [
      'unknown input',
      { load: 'load:\n  w: { type: duckdb, table: t, input: ▸mian }' },
      'no step has the id `mian`',
      /`main`/,
    ],
    ['rule without kind', { validate: 'validate:\n  - ▸{ id: a }' }, 'the rule does not say what it checks', /`check`/],
    ['mistyped kind', { validate: 'validate:\n  - { id: a, ▸chek: b }' }, 'unknown key `chek`', /`check`/],
    [
      'two kinds',
      { validate: 'validate:\n  - ▸{ id: a, check: b, rows: { min: 1 } }' },
      /one kind, found `check` and `rows`/,
    ],
    [
      'rule id twice',
      { validate: 'validate:\n  - { id: a, check: b }\n  - { id: ▸a, rows: { min: 1 } }' },
      /a second rule with the id `a`; the first is at line 10/,
    ],
    ['rule id of the contract', { validate: 'validate:\n  - { id: ▸required, check: b }' }, /taken by the contract/],
    ['rule without id', { validate: 'validate:\n  - ▸{ check: b }' }, 'missing key `id`'],
    [
      'repair is not there yet',
      { validate: 'validate:\n  - { id: a, check: b, ▸on_fail: repair, repair: {} }' },
      '`repair` is not available yet',
    ],
    [
      'wrong on_fail',
      { validate: 'validate:\n  - { id: a, check: b, on_fail: ▸quarantin }' },
      /`on_fail`: expected/,
      /`quarantine`/,
    ],
    [
      'wrong on_fail of a batch rule',
      { validate: 'validate:\n  - { id: a, rows: { min: 1 }, on_fail: ▸drop }' },
      '`on_fail`: expected `fail` or `warn`, got `drop`',
    ],
    ['empty check', { validate: 'validate:\n  - { id: a, check: ▸" " }' }, '`check`: must not be empty'],
    ['rows without bound', { validate: 'validate:\n  - { id: a, rows: ▸{} }' }, '`rows`: needs `min`, `max` or both'],
    [
      'ratio above one',
      { validate: 'validate:\n  - { id: a, null_ratio: { column: cost, max: ▸2 } }' },
      '`max`: must be at most 1, got the number 2',
    ],
    [
      'unknown column of a rule',
      { validate: 'validate:\n  - { id: a, unique: [▸evnt_id] }' },
      'the contract has no column `evnt_id`',
      /`event_id`/,
    ],
    [
      'bad budget period',
      { validate: 'validate:\n  - { budget: { ratio: 0.1, per: ▸1x } }' },
      '`per`: expected `run` or a duration with its unit, such as `1h`',
    ],
    ['size without unit', { x: 'resources: { chunk: ▸64 }' }, /`chunk`: expected a size with its unit/],
    ['a chunk of nothing', { x: 'resources: { chunk: ▸0B }' }, /`chunk`: a chunk has 1kB to 2GB/],
    ['a chunk beyond the index of records', { x: 'resources: { chunk: ▸5GB }' }, /`chunk`: a chunk has 1kB to 2GB/],
    [
      'test of an unknown source',
      { tests: 'tests:\n  - { name: t, given: { ▸asd: [] }, expect: {} }' },
      'there is no source `asd`',
      /`ads`/,
    ],
    [
      'test of an unknown loader',
      { tests: 'tests:\n  - { name: t, given: {}, expect: { ▸warehose: [] } }' },
      'there is no loader, consumer or step `warehose`',
      /`warehouse`/,
    ],
    [
      'test rows that are none',
      { tests: 'tests:\n  - { name: t, given: { ads: [▸5] }, expect: {} }' },
      /expected a map, got the number 5/,
    ],
    [
      'test with a local time',
      { tests: 'tests:\n  - { name: t, clock: ▸2026-03-01 12:00, given: {}, expect: {} }' },
      /point in time with its offset/,
    ],
    [
      'test name twice',
      { tests: 'tests:\n  - { name: t, given: {}, expect: {} }\n  - { name: ▸t, given: {}, expect: {} }' },
      'a second test called `t`',
    ],
  ]

  it.each(cases)('%s', async (_, parts, message, suggestion) => {
    const marked = jobText(parts)
    const before = marked.slice(0, Math.max(marked.indexOf('▸'), 0)).split('\n')
    const found = await problems(marked.replace('▸', ''))
    expect(found.map((problem) => [problem.at, problem.message, problem.suggestion])).toEqual([
      [
        `jobs/x.yaml:${before.length}:${(before.at(-1)?.length ?? 0) + 1}`,
        typeof message === 'string' ? message : expect.stringMatching(message),
        suggestion === undefined ? found[0]?.suggestion : expect.stringMatching(suggestion),
      ],
    ])
  })

  it('comes with all the others in one error that shows each line', async () => {
    const error = await failure(
      jobText({
        extract: 'extract:\n  ads: { type: flies }',
        validate: 'validate:\n  - { id: a, chek: b }',
        load: 'load:\n  w: { type: duckdb, tabel: t }',
      }),
    )
    expect(error).toMatchObject({ code: 'JOB_INVALID', exit: 78 })
    expect(error.message).toBe(`jobs/x.yaml has 3 mistakes

jobs/x.yaml:4:16  there is no extractor of the type \`flies\` — did you mean \`files\`?
    4 |   ads: { type: flies }
      |                ^

jobs/x.yaml:8:22  unknown key \`tabel\` — did you mean \`table\`?
    8 |   w: { type: duckdb, tabel: t }
      |                      ^

jobs/x.yaml:10:14  unknown key \`chek\` — did you mean \`check\`?
    10 |   - { id: a, chek: b }
       |              ^`)
  })

  it('at the top hides none further down', async () => {
    const found = await problems(
      jobText({
        name: 'name: A',
        contract: 'contract:\n  columns: { a: int, A: { type: int, requird: true } }',
        tests: 'tests:\n  - { name: t, given: { asd: [] }, expect: {} }',
      }),
    )
    expect(found.map((problem) => problem.message.slice(0, 24))).toEqual([
      '`name`: must be lower_sn',
      'unknown key `requird`',
      'there is no source `asd`',
    ])
  })

  it('in an empty value is not repeated by what depends on it', async () => {
    const found = await problems(jobText({ extract: 'extract: []' }))
    expect(found.map((problem) => problem.message)).toEqual(['`extract`: expected a map, got a list'])
  })
})

describe('variables', () => {
  const withPort = (port: string) => jobText({ extract: `extract:\n  ads: { type: files, paths: [a], port: ${port} }` })

  it('feed numbers and booleans when they are the whole value', async () => {
    const job = await read(
      jobText({
        version: 'version: "${V}"',
        extract:
          'extract:\n  ads: { type: files, paths: ["${DIR}/*.csv"], port: "${PORT}", header: "${HEAD:-false}", priority: "${P}" }',
        resources: 'resources: { parallel: "${LANES}", chunk: "${CHUNK}" }',
      }),
      { V: '1', DIR: '/data', PORT: '8080', P: '7', LANES: '3', CHUNK: '1MiB' },
    )
    expect(job.extract[0]).toMatchObject({
      priority: 7,
      options: { paths: ['/data/*.csv'], port: 8080, header: false },
    })
    expect(job.resources).toMatchObject({ parallel: 3, chunkBytes: 1_048_576 })
  })

  it('stay text when they are part of a value, or in quotes of their own', async () => {
    expect(await problems(withPort('"1${PORT}"'), { PORT: '8' })).toMatchObject([
      { message: '`port`: expected a number, got `18`' },
    ])
    expect(await problems(withPort('"8080"'))).toMatchObject([{ message: '`port`: expected a number, got `8080`' }])
    expect(await problems(withPort('"${PORT}"'), { PORT: 'x' })).toMatchObject([
      { message: '`port`: expected a number, got `x`' },
    ])
  })

  it('never become YAML', async () => {
    const job = await read(jobText({ description: 'description: ${TEXT}' }), { TEXT: 'x\nname: other # [' })
    expect(job).toMatchObject({ name: 'ad_events', description: 'x\nname: other # [' })
  })

  it('that are missing are all named, under their own code, and cause no further mistakes', async () => {
    const error = await failure(withPort('"${PORT:?the port of the server}"').replace('[a]', '["${DIR}"]'))
    expect(error.code).toBe('VARIABLE_MISSING')
    expect(error.details?.['problems']).toMatchObject([
      { at: 'jobs/x.yaml:4:31', message: 'the variable DIR is not set' },
      { at: 'jobs/x.yaml:4:48', message: 'the variable PORT is not set: the port of the server' },
    ])
  })

  it('beside another mistake leave the code JOB_INVALID', async () => {
    expect((await failure(withPort('"${PORT}"').replace('ad_events', 'A'))).code).toBe('JOB_INVALID')
  })

  it('change the digest, secrets do not, and neither do comments and layout', async () => {
    const text = jobText({ description: 'description: "${TEXT} ${DB_PASSWORD}"' })
    const digest = async (source: string, env: Record<string, string>) => (await read(source, env)).digest
    const one = await digest(text, { TEXT: 'a', DB_PASSWORD: 'first-secret' })
    expect(one).toMatch(/^[0-9a-f]{64}$/)
    expect(await digest(text, { TEXT: 'a', DB_PASSWORD: 'other-secret' })).toBe(one)
    expect(await digest(text, { TEXT: 'b', DB_PASSWORD: 'first-secret' })).not.toBe(one)
    const layout = text.replace('{ event_id: bigint,', '{\n    "event_id": bigint, # the id\n   ')
    expect(await digest(layout, { TEXT: 'a', DB_PASSWORD: 'first-secret' })).toBe(one)
  })

  it('that hold secrets do not appear in a message', async () => {
    const error = await failure(withPort('"${API_TOKEN}"'), { API_TOKEN: 'tok-98765' })
    expect(error.message).toContain('got `***`')
    expect(error.message).not.toContain('98765')
  })
})

describe('loadJob', () => {
  let folder = ''
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'adflow-load-'))
  })
  afterAll(() => rm(folder, { recursive: true }))

  async function load(content: string | Buffer): Promise<Job> {
    const file = join(folder, 'x.yaml')
    await writeFile(file, content)
    return loadJob(file, { registry, env: {} })
  }

  it('knows its file and the folder that relative paths start at', async () => {
    expect(await load(jobText())).toMatchObject({ file: join(folder, 'x.yaml'), baseDir: folder })
  })

  it('refuses what is no text, what is too large and what is not there', async () => {
    await expect(load(Buffer.from([0x6e, 0xff, 0xfe]))).rejects.toMatchObject({
      message: expect.stringContaining('not valid UTF-8'),
    })
    await expect(load(`# ${'x'.repeat(1_000_001)}`)).rejects.toMatchObject({
      message: expect.stringContaining('larger than 1 MB'),
    })
    await expect(load(`# ${'x'.repeat(2_000_001)}`)).rejects.toMatchObject({
      message: expect.stringContaining('at most 1 MB'),
    })
    await expect(loadJob(join(folder, 'none.yaml'), { registry })).rejects.toMatchObject({ code: 'JOB_NOT_FOUND' })
  })

  it('reads secrets from files beside the job file', async () => {
    await writeFile(join(folder, 'secret'), 'from-a-file\n')
    const job = await load(jobText({ description: 'description: "${file:secret}"' }))
    expect(job.description).toBe('from-a-file')
    await expect(load(jobText({ description: 'description: "${file:other}"' }))).rejects.toMatchObject({
      code: 'SECRET_UNREADABLE',
    })
  })
})
