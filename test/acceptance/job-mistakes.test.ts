/** Mistakes in a job file: `run` and `lint` say the same, at the same line; the stores hold no trace of the attempt. */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { temporaryFolder } from '../harness/cli.ts'
import { SmallJob } from '../harness/small-job.ts'

const JOB = `version: 1
name: rows
extract:
  input: { type: files, path: "data/*" }
contract:
  columns:
    id: { type: bigint, required: true }
    n: integer
    name: varchar
    seen: timestamp
validate:
  - { id: positive, check: "n >= 0" }
  - { id: enough, batch: "count(*) > 0" }
transform:
  - derive: { twice: "n * 2" }
  - lookup:
      table: names
      from: { type: files, path: names.csv }
      on: { id: id }
      select: { label: label }
load:
  warehouse: { type: duckdb, path: out/warehouse.duckdb, table: rows }
  archive:
    type: files
    format: parquet
    path: out/archive
    partition: { d: "strftime(seen, '%Y')" }
`

interface Mistake {
  readonly what: string
  /** Text of the job that is replaced, and by what. The mistake stands where the replacement begins, or `at` it. */
  readonly from: string
  readonly to: string
  /** Part of the job's text with the mistake, where the place is said to be; default: \`to\`. */
  readonly at?: string
  readonly code?: string
  readonly message: RegExp
  readonly suggestion?: RegExp
  /** Only data shows it. */
  readonly lint?: false
}

const CHECK = 'check: "n >= 0"'
const TWICE = 'twice: "n * 2"'
const WAREHOUSE = 'table: rows }'

const MISTAKES: readonly Mistake[] = [
  { what: 'broken YAML', from: 'validate:', to: 'validate: [', at: '- { id: positive', message: /not valid YAML/ },
  { what: 'a tab', from: '  input:', to: '\tinput:', at: '\tinput', message: /not valid YAML: Tabs/ },
  {
    what: 'a key written twice',
    from: 'contract:',
    to: 'name: other\ncontract:',
    at: 'name: other',
    message: /written twice/,
  },
  {
    what: 'an unknown section',
    from: 'transform:',
    to: 'transfrom:',
    message: /unknown key `transfrom`/,
    suggestion: /`transform`/,
  },
  {
    what: 'an unknown option',
    from: WAREHOUSE,
    to: 'tabel: rows }',
    message: /unknown key `tabel`/,
    suggestion: /`table`/,
  },
  {
    what: 'an unknown type of source',
    from: 'type: files, path: "data',
    to: 'type: file, path: "data',
    at: 'file, path',
    message: /no extractor of the type `file`/,
    suggestion: /`files`/,
  },
  {
    what: 'an unknown type of store',
    from: 'type: duckdb',
    to: 'type: duckbd',
    at: 'duckbd',
    message: /no loader of the type `duckbd`/,
    suggestion: /`duckdb`/,
  },
  {
    what: 'a missing key',
    from: 'path: out/warehouse.duckdb, ',
    to: '',
    at: 'warehouse: {',
    message: /missing key `path`/,
    suggestion: /The DuckDB file/,
  },
  {
    what: 'a wrong choice',
    from: 'format: parquet',
    to: 'format: parket',
    at: 'parket',
    message: /expected `parquet`, `csv` or `ndjson`, got `parket`/,
    suggestion: /`parquet`/,
  },
  {
    what: 'a wrong fate of rejected rows',
    from: CHECK,
    to: `${CHECK}, on_fail: quarantin`,
    at: 'quarantin ',
    message: /`on_fail`: expected/,
    suggestion: /`quarantine`/,
  },
  {
    what: 'a number for a text',
    from: WAREHOUSE,
    to: 'table: 5 }',
    at: '5 }',
    message: /expected text, got the number 5/,
    suggestion: /quotes/,
  },
  {
    what: 'a bad duration',
    from: '"data/*" }',
    to: '"data/*", settle: 5 minutes }',
    at: '5 minutes',
    message: /expected a duration with its unit.*got `5 minutes`/,
  },
  {
    what: 'a bad size',
    from: 'version: 1',
    to: 'version: 1\nresources: { chunk: 64 }',
    at: '64 }',
    message: /`chunk`: expected a size with its unit/,
  },
  {
    what: 'a schedule without a pattern of times',
    from: 'version: 1',
    to: 'version: 1\nschedule: { cron: "61 * * * *" }',
    at: '"61',
    message: /Invalid value for minute: 61/,
  },
  {
    what: 'a store that is replaced at the end of a run that has none',
    from: 'load:\n  warehouse: { type: duckdb, path: out/warehouse.duckdb, table: rows }',
    to: 'until: forever\nload:\n  warehouse: { type: duckdb, path: out/warehouse.duckdb, table: rows, write: replace }',
    at: 'replace }',
    message: /warehouse is replaced at the end of a run.*has no end/,
  },
  {
    what: 'an id of two things',
    from: '  archive:',
    to: '  input:',
    at: 'input:\n    type',
    message: /`input` is already taken by a source/,
  },
  {
    what: 'an id of two rules',
    from: 'id: enough',
    to: 'id: positive',
    at: 'positive, batch',
    message: /a second rule with the id `positive`; the first is at line 12/,
  },
  {
    what: 'an unknown verb',
    from: '- derive:',
    to: '- drive:',
    at: 'drive',
    message: /there is no step `drive`/,
    suggestion: /`derive`/,
  },
  {
    what: 'an unknown input',
    from: WAREHOUSE,
    to: 'table: rows, input: derived }',
    at: 'derived',
    message: /no step has the id `derived`/,
    suggestion: /`derive_1`/,
  },
  {
    what: 'a missing variable',
    from: '"data/*"',
    to: '"${NO_SUCH_FOLDER}/*"',
    code: 'VARIABLE_MISSING',
    message: /NO_SUCH_FOLDER is not set/,
    suggestion: /default/,
  },
  {
    what: 'a missing variable with a message',
    from: '"data/*"',
    to: '"${NO_SUCH_FOLDER:?name the data folder}"',
    code: 'VARIABLE_MISSING',
    message: /is not set: name the data folder/,
  },
  {
    what: 'an unreadable secret file',
    from: TWICE,
    to: 'twice: "n * ${file:none.txt}"',
    at: '"n * $',
    code: 'SECRET_UNREADABLE',
    message: /cannot read the secret file .*none\.txt/,
  },
  {
    what: 'merge without a key',
    from: WAREHOUSE,
    to: 'table: rows, write: merge }',
    at: 'warehouse: {',
    message: /needs a `key`/,
  },
  {
    what: 'a key that does not reach the store',
    from: WAREHOUSE,
    to: 'table: rows, write: merge, key: [idd] }',
    at: 'idd]',
    message: /key column idd does not reach/,
    suggestion: /`id`/,
  },
  {
    what: 'an unknown type of a column',
    from: 'n: integer',
    to: 'n: integr',
    at: 'integr',
    message: /`integr` is not a type of column n/,
    suggestion: /bigint, varchar/,
  },
  {
    what: 'columns that differ only in case',
    from: '    name: varchar',
    to: '    name: varchar\n    Name: varchar',
    at: 'Name: varchar',
    message: /one column to the engine/,
  },
  {
    what: 'an unknown column in a check',
    from: CHECK,
    to: `check: "naem = 'x'"`,
    at: `"naem`,
    message: /there is no column naem here/,
    suggestion: /`name`/,
  },
  {
    what: 'an unknown column in a rule over columns',
    from: '{ id: enough, batch: "count(*) > 0" }',
    to: '{ id: once, unique: [idd] }',
    at: 'idd]',
    message: /the contract has no column `idd`/,
    suggestion: /`id`/,
  },
  {
    what: 'a check that is no condition',
    from: CHECK,
    to: 'check: "n + 1"',
    at: '"n + 1"',
    message: /must be true or false; this is INTEGER/,
  },
  {
    what: 'a batch rule without an aggregate',
    from: 'batch: "count(*) > 0"',
    to: 'batch: "n > 0"',
    at: '"n > 0"',
    message: /no aggregate function/,
  },
  { what: 'broken SQL', from: TWICE, to: 'twice: "n * * 2"', at: '"n * *', message: /syntax error/ },
  {
    what: 'wrong types in an expression',
    from: TWICE,
    to: 'twice: "seen + name"',
    at: '"seen +',
    message: /No function matches|Cannot|Could not/,
  },
  {
    what: 'an unknown function',
    from: TWICE,
    to: 'twice: "uper(name)"',
    at: '"uper',
    message: /there is no function uper/,
    suggestion: /`upper`/,
  },
  {
    what: 'an aggregate in a row expression',
    from: TWICE,
    to: 'twice: "sum(n)"',
    at: '"sum',
    message: /sum\(\) is an aggregate/,
    suggestion: /`aggregate` step/,
  },
  {
    what: 'a window in a row expression',
    from: TWICE,
    to: 'twice: "row_number() over ()"',
    at: '"row_number',
    message: /window function/,
    suggestion: /`sql` step/,
  },
  {
    what: 'a function that does not repeat',
    from: TWICE,
    to: 'twice: "random()"',
    at: '"random',
    message: /another result each time/,
    suggestion: /hash/,
  },
  {
    what: 'a sub-query',
    from: TWICE,
    to: 'twice: "(select 1)"',
    at: '"(select',
    message: /sub-query cannot stand here/,
    suggestion: /`lookup`/,
  },
  {
    what: 'a function that reads settings',
    from: TWICE,
    to: `twice: "getenv('HOME')"`,
    at: '"getenv',
    message: /getenv\(\) is not allowed/,
  },
  {
    what: 'a missing lookup file',
    from: 'path: names.csv',
    to: 'path: nmes.csv',
    at: 'nmes.csv',
    message: /cannot read the reference data nmes\.csv: there is no file \/.*nmes\.csv$/,
    suggestion: /relative to the job file/,
  },
  {
    what: 'an unknown column of the lookup',
    from: 'on: { id: id }',
    to: 'on: { id: idd }',
    at: 'idd }',
    message: /no column idd in the reference table names/,
    suggestion: /`id`/,
  },
  {
    what: 'keys of the lookup that stand twice',
    from: 'path: names.csv',
    to: 'path: twice.csv',
    at: 'twice.csv',
    message: /`names` has 1 repeated key/,
    suggestion: /must stand once/,
    lint: false,
  },
  {
    what: 'a partition over an unknown column',
    from: 'strftime(seen',
    to: 'strftime(sen',
    at: '"strftime(sen',
    message: /there is no column sen here/,
    suggestion: /`seen`/,
  },
]

interface Problem {
  readonly at: string
  readonly message: string
  readonly suggestion?: string
  readonly excerpt: string
}

let folder: ReturnType<typeof temporaryFolder>
let job: SmallJob

beforeEach(() => {
  folder = temporaryFolder('job-mistakes')
  job = new SmallJob(folder.path, JOB)
  job.put('data/a.ndjson', '{"id":1,"n":1,"name":"a","seen":"2026-01-01"}\n')
  job.put('names.csv', 'id,label\n1,one\n')
  job.put('twice.csv', 'id,label\n1,one\n1,uno\n')
})

afterEach(() => folder.remove())

/** Line and column, both from 1, of a part of the text. */
function placeOf(text: string, part: string): string {
  const before = text.slice(0, text.indexOf(part)).split('\n')
  expect(text, `the job does not hold ${part}`).toContain(part)
  return `${before.length}:${(before.at(-1) ?? '').length + 1}`
}

describe('a job without mistakes', () => {
  it('runs, and lint has nothing to say', async () => {
    const lint = await job.command(['lint', job.file, '--json'])
    expect(lint.code, lint.stdout).toBe(0)
    expect(await job.summary()).toMatchObject({ status: 'done', exit: 0, passed: 1 })
    expect(await job.warehouse('SELECT id, twice, label FROM w.rows', 'out/warehouse.duckdb')).toEqual([
      { id: '1', twice: 2, label: 'one' },
    ])
  })
})

describe('a mistake in a job file', () => {
  it.each(MISTAKES)('$what: 78 at its line, with a way out, and no trace', async (mistake) => {
    const { from, to, at = to, code = 'JOB_INVALID', message, suggestion } = mistake
    expect(JOB).toContain(from)
    const text = JOB.replace(from, to)
    job.put('job.yaml', text)
    const before = job.traces()
    const place = placeOf(text, at)

    const run = await job.run()
    expect(run.code, run.stdout + run.stderr).toBe(78)
    expect(run.stderr).toBe('')
    const { error } = run.json<{ error: { code: string; message: string; details: { problems: Problem[] } } }>()
    const [problem, ...others] = error.details.problems
    expect(error.code).toBe(code)
    expect(problem?.message).toMatch(message)
    expect(problem?.at).toBe(`${job.file}:${place}`)
    expect(problem?.suggestion ?? '').toMatch(suggestion ?? /^/)
    expect(problem?.excerpt).toContain('^')
    if (mistake.what !== 'broken YAML') expect(others).toEqual([])
    expect(error.message).toContain(`${problem?.at}  ${problem?.message}`)
    // Neither a store nor a chunk, a checkpoint or a spool; the ledger may have been opened.
    expect(job.traces().filter((path) => !path.startsWith('state/rows/ledger/'))).toEqual(before)

    if (mistake.lint === false) return
    const lint = await job.command(['lint', job.file, '--json'])
    expect(lint.code).toBe(78)
    const [file] = lint.json<{ files: { problems: Problem[] }[] }>().files
    expect(file?.problems).toEqual(error.details.problems)
  })

  it('is listed with every other', async () => {
    const text = JOB.replace(CHECK, 'check: "nn >= 0"').replace(TWICE, 'twice: "uper(name)"').replace('seen, ', 'sen, ')
    job.put('job.yaml', text)
    const run = await job.run()
    const { error } = run.json<{ error: { message: string; details: { problems: Problem[] } } }>()
    expect(error.details.problems.map(({ at }) => at.split(':').at(-2))).toEqual(['12', '15'])
    expect(error.message).toContain('has 2 mistakes')
    const human = await job.command(['run', job.file])
    expect(human.code).toBe(78)
    expect(human.stderr).toContain('error JOB_INVALID')
    expect(human.stderr).toContain('there is no column nn here — did you mean `n`?')
    expect(human.stderr).toContain('docs/errors.md#job_invalid')
  })

  it.each([
    ['is not there', () => 'none.yaml', /no job file|no such/i],
    ['is a folder', () => mkdirSync(join(folder.path, 'folder.yaml')) ?? 'folder.yaml', /folder/i],
  ])('a job file that %s: 78', async (_, file, message) => {
    const run = await job.command(['run', join(folder.path, file()), '--json'])
    expect(run.code, run.stdout).toBe(78)
    const { error } = run.json<{ error: { code: string; message: string } }>()
    expect(error).toMatchObject({ code: 'JOB_NOT_FOUND', message: expect.stringMatching(message) })
  })

  it.each([
    ['an unknown flag', ['--quite']],
    ['a source that the job does not have', ['--only', 'inptu']],
    ['a time that is none', ['--from', 'yesterday']],
  ])('%s on the command line: 2', async (_, args) => {
    const run = await job.run(args)
    expect(run.code, run.stdout + run.stderr).toBe(2)
    expect(job.traces().filter((path) => path.startsWith('out/'))).toEqual([])
  })
})
