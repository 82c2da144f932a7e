import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { loadRegistry } from '../../src/core/registry.ts'
import { type LintedFile, lintJobs } from '../../src/runtime/lint.ts'

const SECRET = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'
const HOOK = `type: webhook, url: "https://x.example/h", secret: ${SECRET}`
let folder = ''

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'adflow-consumer-lint-'))
})
afterAll(() => rmSync(folder, { recursive: true }))

async function lint(consumer: string): Promise<LintedFile> {
  const file = join(folder, 'job.yaml')
  const lines = [
    'version: 1',
    'name: linted',
    'extract: { ads: { type: files, path: "*.ndjson" } }',
    'contract: { columns: { id: bigint, user_id: { type: varchar, personal: true } } }',
    'transform: [{ aggregate: { id: totals, by: [id], select: { n: "count(*)" } } }, { derive: { twice: "id * 2" } }]',
    'load: { w: { type: duckdb, input: totals, path: w.duckdb, table: t } }',
    'distribute:',
    `  hook: { ${consumer} }`,
  ]
  writeFileSync(file, `${lines.join('\n')}\n`)
  const report = await lintJobs([file], {
    registry: await loadRegistry(),
    log: pino({ level: 'silent' }),
    rate: 1000,
    env: {},
  })
  return report.files[0] as LintedFile
}

describe('lint of a consumer', () => {
  it.each([
    ['a column that is not there', `${HOOK}, where: "idd > 1"`, /no column idd/],
    ['a `where` that is no truth value', `${HOOK}, where: "id + 1"`, /must be true or false; this is BIGINT/],
    ['an aggregate in `select`', `${HOOK}, select: { n: "count(*)" }`, /aggregate/],
    ['an expression that does not repeat', `${HOOK}, select: { n: "random()" }`, /random/],
    ['a column that is selected twice', `${HOOK}, select: { n: id, N: twice }`, /N is selected twice/],
    ['a key of another output', `${HOOK}, input: totals, key: twice`, /no column twice/],
    ['a private address', `type: webhook, url: "http://10.0.0.7/h", secret: ${SECRET}`, /10\.0\.0\.7 is not a public/],
    ['this machine', `type: webhook, url: "http://localhost:8080/h", secret: ${SECRET}`, /localhost is not a public/],
    ['no URL', `type: webhook, url: "ftp://x.example/h", secret: ${SECRET}`, /begins with https/],
    ['no secret', 'type: webhook, url: "https://x.example/h", secret: whsec_short', /`whsec_` and the base64/],
    [
      'rows that cannot be in headers',
      `${HOOK}, format: cloudevents_binary, batch: { rows: 2 }`,
      /one row to a request/,
    ],
  ])('finds %s, at its place', async (_, consumer, message) => {
    const { problems, job } = await lint(consumer)
    expect(job).toBeNull()
    expect(problems.map((problem) => problem.message).join('\n')).toMatch(message)
    expect(problems[0]?.at).toMatch(/:8:\d+$/)
  })

  it('takes what is right, and never shows a secret', async () => {
    const linted = await lint(`${HOOK}, input: totals, where: "n > 1", select: { id: id, n: n }, key: id`)
    expect(linted).toMatchObject({ problems: [], warnings: [] })
  })

  it('warns of personal data that reach it as they are, and of none that it does not select', async () => {
    expect((await lint(HOOK)).warnings).toMatchObject([
      { rule: 'personal_data', message: /reach the consumer hook as they are: column user_id/ },
    ])
    expect((await lint(`${HOOK}, select: { id: id }`)).warnings).toEqual([])
    expect((await lint(`${HOOK}, select: { who: user_id }`)).warnings).toHaveLength(1)
  })

  it('lets a private address pass that the job allows', async () => {
    const own = `type: webhook, url: "http://127.0.0.1:8080/h", secret: ${SECRET}, allow_private: true, select: { id: id }`
    expect(await lint(own)).toMatchObject({ problems: [], warnings: [] })
  })
})
