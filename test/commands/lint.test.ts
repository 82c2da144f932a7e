import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import Lint from '../../src/commands/lint.ts'
import { EXIT } from '../../src/core/errors.ts'
import { runCommand } from './run-command.ts'

const job = (transform: string) => `version: 1
name: linted
extract: { ads: { type: files, path: data/*.ndjson } }
contract: { columns: { id: bigint } }
transform: [${transform}]
load: { archive: { type: files, path: out, format: csv } }
`

let folder = ''
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'adflow-lint-command-'))
  await mkdir(join(folder, 'jobs'))
  await writeFile(join(folder, 'jobs', 'good.yaml'), job(''))
  await writeFile(join(folder, 'jobs', 'warned.yaml'), job('{ dedupe: { key: [id] } }'))
  await writeFile(join(folder, 'wrong.yaml'), job('{ filter: "idd > 0" }'))
})
afterAll(() => rm(folder, { recursive: true }))

const lint = (...argv: string[]) => runCommand('lint', Lint, argv, folder)
const at = (name: string) => join(folder, name)

describe('adflow lint', () => {
  it('ends with 0, 10 or 78', async () => {
    expect((await lint(at('jobs/good.yaml'), '--strict')).exit).toBe(EXIT.done)
    expect((await lint(at('jobs/warned.yaml'))).exit).toBe(EXIT.done)
    expect((await lint(at('jobs/warned.yaml'), '--strict')).exit).toBe(EXIT.warnings)
    expect((await lint(at('wrong.yaml'), at('jobs/warned.yaml'), '--strict')).exit).toBe(EXIT.config)
  })

  it('shows the place, the line and what was probably meant', async () => {
    const { stdout } = await lint(at('wrong.yaml'))
    expect(stdout).toMatch(/wrong\.yaml:5:23 {2}error: there is no column idd here/)
    expect(stdout).toContain('1 mistake, no warnings')
  })

  it('sizes state for the stated rate', async () => {
    const { stdout } = await lint(at('jobs/warned.yaml'), '--rate', '20000')
    expect(stdout).toContain('at 20000 new keys a second')
  })

  it('gives one object under --json', async () => {
    const report = JSON.parse((await lint(at('jobs/good.yaml'), at('wrong.yaml'), '--json')).stdout)
    expect(report.schema_version).toBe(1)
    expect(
      report.files.map(({ job, problems }: { job: string | null; problems: unknown[] }) => [job, problems.length]),
    ).toEqual([
      ['linted', 0],
      [null, 1],
    ])
  })

  it('says when there is no such job', async () => {
    const { exit, stderr } = await lint('nothing')
    expect(exit).toBe(EXIT.config)
    expect(stderr).toContain('JOB_NOT_FOUND')
  })
})
