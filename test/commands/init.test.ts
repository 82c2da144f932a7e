import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import Init from '../../src/commands/init.ts'
import Lint from '../../src/commands/lint.ts'
import Plan from '../../src/commands/plan.ts'
import { EXIT } from '../../src/core/errors.ts'
import { runCommand } from './run-command.ts'

let folder = ''
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'adflow-init-command-'))
})
afterAll(() => rm(folder, { recursive: true }))

describe('adflow init', () => {
  it('says what it made and what to do next; lint and plan take it as it is', async () => {
    const dir = join(folder, 'ads')
    const made = await runCommand('init', Init, [dir])
    expect(made).toMatchObject({ exit: EXIT.done, stderr: '' })
    expect(made.stdout).toContain('+ jobs/ads.yaml')
    expect(made.stdout).toContain('adflow run --job ads')
    const file = join(dir, 'jobs', 'ads.yaml')
    expect((await runCommand('lint', Lint, [file, '--strict'])).exit).toBe(EXIT.done)
    const plan = await runCommand('plan', Plan, [file])
    expect(plan.stdout).toContain('ad_server → warehouse: exactly once')
    expect((await runCommand('init', Init, [dir])).exit).toBe(EXIT.usage)
  })

  it('drafts from a file and gives the result as JSON', async () => {
    const file = join(folder, 'clicks.csv')
    await writeFile(file, 'id,when\n1,2026-03-01\n2,2026-03-02\n')
    const { stdout } = await runCommand('init', Init, [join(folder, 'drafted'), '--from', file, '--json'])
    expect(JSON.parse(stdout)).toMatchObject({ schema_version: 1, job: 'clicks', records: 2 })
  })
})
