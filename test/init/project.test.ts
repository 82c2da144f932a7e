import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { loadJob } from '../../src/core/job/load.ts'
import { loadRegistry } from '../../src/core/registry.ts'
import { initProject } from '../../src/init/project.ts'
import { lintJobs } from '../../src/runtime/lint.ts'
import { runJob } from '../../src/runtime/run.ts'
import type { Truth } from '../../src/sample/truth.ts'

const registry = await loadRegistry()
const log = pino({ level: 'silent' })

let folder = ''
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'adflow-project-test-'))
})
afterAll(() => rm(folder, { recursive: true }))

describe('a new project', () => {
  it('lints clean, runs at once, and finds the defects of its sample', async () => {
    const dir = join(folder, 'My Ads!')
    const made = await initProject({ registry, log, dir })
    expect(made).toMatchObject({ job: 'my_ads', kept: [], records: null })
    const path = join(dir, 'jobs', 'my_ads.yaml')
    const linted = await lintJobs([path], { registry, log, rate: 1000, env: {} })
    expect(linted.files[0]).toMatchObject({ problems: [], warnings: [] })
    const job = await loadJob(path, { registry, env: {} })
    const summary = await runJob({ job, registry, stateDir: join(dir, 'state'), log, command: 'test', version: '0' })
    const truth = JSON.parse(await readFile(join(dir, 'data', 'truth.json'), 'utf8')) as Truth
    expect(summary).toMatchObject({
      status: 'done',
      read: truth.expect.read,
      deduplicated: truth.expect.deduplicated,
      unaccounted: 0,
    })
    expect(summary.quarantined_by['negative_cost']).toBe(truth.expect.quarantined.negative_cost)
    expect(summary.quarantined).toBeGreaterThan(0)
  })

  it('overwrites nothing, and adds a job to a project that is there', async () => {
    const dir = join(folder, 'twice')
    await initProject({ registry, log, dir, name: 'ads' })
    const before = await readFile(join(dir, 'jobs', 'ads.yaml'), 'utf8')
    await expect(initProject({ registry, log, dir, name: 'ads' })).rejects.toMatchObject({ code: 'USAGE' })
    await expect(initProject({ registry, log, dir, name: 'other' })).rejects.toThrow(/truth\.json/)
    expect(await readFile(join(dir, 'jobs', 'ads.yaml'), 'utf8')).toBe(before)
    await writeFile(join(dir, 'clicks.csv'), 'id,n\n1,2\n')
    const made = await initProject({ registry, log, dir, from: join(dir, 'clicks.csv') })
    expect(made).toMatchObject({ job: 'clicks', created: [join('jobs', 'clicks.yaml')], records: 1 })
    expect(made.kept).toContain('README.md')
    expect((await readdir(join(dir, 'jobs'))).sort()).toEqual(['ads.yaml', 'clicks.yaml'])
  })

  it('refuses a name that no job can have, and a file that is not there', async () => {
    await expect(initProject({ registry, log, dir: folder, name: 'My Job' })).rejects.toMatchObject({
      code: 'USAGE',
      hint: 'such as --name my_job',
    })
    await expect(initProject({ registry, log, dir: folder, from: join(folder, 'none.csv') })).rejects.toMatchObject({
      code: 'USAGE',
    })
    expect(await readdir(folder)).not.toContain('jobs')
  })
})
