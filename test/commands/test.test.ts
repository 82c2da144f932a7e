import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { adflow, temporaryFolder } from '../harness/cli.ts'

const job = (name: string, tests: string) => `version: 1
name: ${name}
extract: { web: { type: files, path: "*.ndjson" } }
contract: { columns: { id: bigint, cost: "decimal(9,2)" } }
load: { store: { type: duckdb, path: w.duckdb, table: t } }
${tests}`

const GOOD = `tests:
  - { name: keeps costs, given: { web: [{ id: 1, cost: 1.25 }] }, expect: { store: [{ id: 1, cost: 1.25 }] } }
`
const BAD = `${GOOD}  - { name: doubles costs, given: { web: [{ id: 1, cost: 1.25 }] }, expect: { store: [{ id: 1, cost: 2.5 }] } }
`

let folder: ReturnType<typeof temporaryFolder>

beforeAll(() => {
  folder = temporaryFolder('test')
  mkdirSync(join(folder.path, 'jobs'))
  writeFileSync(join(folder.path, 'jobs/good.yaml'), job('good', GOOD))
  writeFileSync(join(folder.path, 'jobs/untested.yaml'), job('untested', ''))
  writeFileSync(join(folder.path, 'bad.yaml'), job('bad', BAD))
  writeFileSync(join(folder.path, 'broken.yaml'), job('broken', GOOD).replace('bigint', 'bigunt'))
})
afterAll(() => folder.remove())

const run = (...args: string[]) => adflow(['test', ...args], { cwd: folder.path })
/** Without times. */
const plain = (text: string) => text.replaceAll(/\(\d+ ms\)/g, '(0 ms)')

describe('adflow test', () => {
  it('runs the tests of all jobs, and names the jobs that have none', async () => {
    const { code, stdout, stderr } = await run()
    expect(plain(stdout)).toBe(`good — jobs/good.yaml
  ✔ keeps costs (0 ms)
no tests: jobs/untested.yaml
✔ 1 passed
`)
    expect([code, stderr]).toEqual([0, ''])
  })

  it('shows what differs, and exits with 1', async () => {
    const { code, stdout } = await run('bad.yaml')
    expect(plain(stdout)).toBe(`bad — bad.yaml
  ✔ keeps costs (0 ms)
  ✖ doubles costs (0 ms) — bad.yaml:8:5
      store: expected 1 row, got 1
        ~ differs:      {id: 1}
            cost: expected "2.50", got "1.25"
✖ 1 passed, 1 failed
`)
    expect(code).toBe(1)
  })

  it('goes on after a job that does not compile', async () => {
    const { code, stdout } = await run('broken.yaml', 'good')
    expect(stdout).toContain('✖ broken.yaml cannot be tested: JOB_INVALID')
    expect(stdout).toContain('`bigunt` is not a type')
    expect(stdout).toContain('✔ keeps costs')
    expect(code).toBe(1)
  })

  it('gives everything as JSON', async () => {
    const { code, json } = await run('bad.yaml', '--json', '--filter', 'DOUBLES')
    expect(json()).toMatchObject({
      schema_version: 1,
      passed: 0,
      failed: 1,
      without_tests: [],
      jobs: [{ job: 'bad', tests: [{ name: 'doubles costs', ok: false, at: 'bad.yaml:8:5' }] }],
    })
    expect(code).toBe(1)
  })

  it('says that no test has the text of --filter', async () => {
    const { code, stderr } = await run('--filter', 'nothing')
    expect([code, stderr.includes('no test has `nothing` in its name')]).toEqual([2, true])
  })
})
