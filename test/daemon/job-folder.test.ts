import { mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { loadRegistry } from '../../src/core/registry.ts'
import { JobFolder } from '../../src/daemon/job-folder.ts'
import { lintJobs } from '../../src/runtime/lint.ts'

const registry = await loadRegistry()
const log = pino({ level: 'silent' })
let folder: string
let jobs: JobFolder
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'adflow-folder-'))
  jobs = open()
})
afterEach(() => rm(folder, { recursive: true }))

describe('a folder of job files', () => {
  it('gives the valid ones, and says of the others what is wrong and where', async () => {
    await put('a', job('first', '{ cron: "@daily" }'))
    await put('b', job('second', '{ cron: "61 * * * *" }'))
    await put('c', job('third', '{ cron: "@daily" }', 'sum(nothing)'))
    await put('d', job('first', ''))
    await writeFile(join(folder, 'notes.txt'), 'no job')
    expect(await jobs.look(false)).toBe(true)
    expect([...jobs.jobs.keys()]).toEqual(['first'])
    const told = jobs.invalid.map(({ file, problems, keeps }) => [file.slice(-6), problems[0]?.at.slice(-5), keeps])
    expect(told).toEqual([
      ['b.yaml', ':9:19', null],
      ['c.yaml', expect.stringMatching(/^.*:\d+:\d+$/), null],
      ['d.yaml', expect.stringMatching(/:2:7$/), null],
    ])
    expect(await jobs.look(true)).toBe(false)
  })

  it('takes up a change once the file has stood still, and keeps a job whose file is broken', async () => {
    await put('a', job('first', '{ cron: "@daily" }'))
    await jobs.look(false)
    await put('a', job('first', '{ cron: "@hourly" }'))
    expect(await jobs.look(true)).toBe(false)
    expect(await jobs.look(true)).toBe(true)
    expect(cron('first')).toBe('@hourly')
    await put('a', job('first', '{ cron: "@never" }'))
    await jobs.look(true)
    await jobs.look(true)
    expect(cron('first')).toBe('@hourly')
    expect(jobs.invalid).toMatchObject([{ keeps: 'first', problems: [{ message: expect.stringContaining('cron') }] }])
    await put('a', job('first', '{ cron: "@weekly" }'))
    await jobs.look(true)
    await jobs.look(true)
    expect([cron('first'), jobs.invalid]).toEqual(['@weekly', []])
    expect(jobs.reloads).toEqual({ ok: 3, failed: 1 })
  })

  it('lets runs read what was accepted, not what somebody is writing', async () => {
    await put('a', job('first', ''))
    await jobs.look(false)
    await put('a', 'version: 1\nname: fir')
    await jobs.look(true)
    await jobs.look(true)
    expect(await readFile(jobs.jobs.get('first')?.text ?? '', 'utf8')).toBe(job('first', ''))
  })

  it('knows after a restart what was accepted before, though the file is broken now', async () => {
    await put('a', job('first', '{ cron: "@daily" }'))
    await put('b', job('second', ''))
    await jobs.look(false)
    await put('a', 'broken: [')
    await rm(join(folder, 'b.yaml'))
    jobs = open()
    expect(await jobs.restore()).toBe(true)
    await jobs.look(false)
    expect([...jobs.jobs.keys()]).toEqual(['first'])
    expect(jobs.invalid).toMatchObject([{ keeps: 'first' }])
  })

  it('follows files that are removed, renamed, or hold another job now', async () => {
    await put('a', job('first', ''))
    await put('b', job('second', ''))
    await jobs.look(false)
    await rename(join(folder, 'a.yaml'), join(folder, 'z.yaml'))
    await put('b', job('third', ''))
    await jobs.look(true)
    await jobs.look(true)
    expect([...jobs.jobs].map(([name, { job: each }]) => [name, each.file.slice(-6)])).toEqual([
      ['third', 'b.yaml'],
      ['first', 'z.yaml'],
    ])
    expect((await readdir(join(folder, 'copies'))).filter((name) => name.endsWith('.yaml'))).toHaveLength(3)
  })

  it('refuses jobs that wait for nobody, or for each other, and keeps them as they were', async () => {
    await put('a', job('first', '{ after: [second] }'))
    await put('b', job('second', ''))
    await put('c', job('alone', '{ after: [nobody] }'))
    await put('d', job('stream', '').replace('name:', 'until: forever\nname:'))
    await put('e', job('late', '{ after: [stream] }'))
    await jobs.look(false)
    expect([...jobs.jobs.keys()].sort()).toEqual(['first', 'second', 'stream'])
    await put('b', job('second', '{ after: [first] }'))
    await jobs.look(true)
    await jobs.look(true)
    expect(jobs.jobs.get('second')?.job.schedule).toBeUndefined()
    const messages = jobs.invalid.map(({ problems }) => problems[0]?.message)
    expect(messages).toEqual([
      expect.stringContaining('there is no job `nobody`'),
      expect.stringContaining('the job `stream` goes on for ever'),
      expect.stringContaining('wait for each other: second → first → second'),
    ])
    await rm(join(folder, 'b.yaml'))
    await jobs.look(true)
    expect([...jobs.jobs.keys()]).toEqual(['stream'])
  })
})

function open(): JobFolder {
  const lint = (files: readonly string[]) => lintJobs(files, { registry, log, rate: 1000 })
  return new JobFolder({ folder, copies: join(folder, 'copies'), registry, log, lint })
}

function put(name: string, text: string): Promise<void> {
  return writeFile(join(folder, `${name}.yaml`), text)
}

function job(name: string, schedule: string, value = 'id + 1'): string {
  return `version: 1
name: ${name}
extract:
  input: { type: files, path: "data/*" }
contract: { columns: { id: bigint } }
transform: [{ derive: { more: "${value}" } }]
load:
  out: { type: files, format: parquet, path: out }
${schedule === '' ? '' : `schedule: ${schedule}\n`}`
}

function cron(name: string): string | undefined {
  return jobs.jobs.get(name)?.job.schedule?.cron
}
