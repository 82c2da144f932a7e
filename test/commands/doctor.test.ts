import { createHash } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import Doctor from '../../src/commands/doctor.ts'
import Run from '../../src/commands/run.ts'
import { EXIT } from '../../src/core/errors.ts'
import { jobFiles } from '../../src/core/job/find.ts'
import type { DoctorReport } from '../../src/runtime/doctor.ts'
import { lockJob } from '../../src/runtime/lock.ts'
import { ROOT } from '../harness/repository.ts'
import { ROWS_JOB, SmallJob } from '../harness/small-job.ts'
import { SECRET } from '../harness/webhook-receiver.ts'
import { runCommand } from './run-command.ts'

/** Fits any disk. */
const JOB = `${ROWS_JOB}spool: { max_bytes: 1MB }\n`
/** How the machine under the test is counts for nothing here. */
const OF_THIS_MACHINE = new Set(['memory', 'disk'])

let folder = ''
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'adflow-doctor-'))
})
afterEach(() => rm(folder, { recursive: true }))

const withData = (yaml = JOB) => {
  const job = new SmallJob(folder, yaml)
  job.put('data/a.ndjson', '{"id":1,"n":2,"name":"x"}\n')
  return job
}
const state = () => ['--state-dir', join(folder, 'state')]
const run = async ({ file }: SmallJob) =>
  expect((await runCommand('run', Run, [file, ...state(), '--quiet'])).exit).toBe(EXIT.done)
const doctor = async ({ file }: { file: string }, ...flags: string[]) => {
  const { stdout, stderr, exit } = await runCommand('doctor', Doctor, [file, ...state(), '--json', ...flags])
  expect(stderr).toBe('')
  return { exit, report: JSON.parse(stdout) as DoctorReport, stdout }
}
const badly = ({ findings }: DoctorReport) =>
  findings.filter(({ check, status }) => status !== 'ok' && !OF_THIS_MACHINE.has(check))

/** Digest and time of every file and folder. */
function everything(): Record<string, string> {
  const paths = readdirSync(folder, { recursive: true, encoding: 'utf8' }).map((name) => join(folder, name))
  return Object.fromEntries(
    [folder, ...paths].map((path) => {
      const stats = statSync(path)
      const bytes = stats.isFile() ? createHash('sha256').update(readFileSync(path)).digest('hex') : 'no file'
      return [path, `${stats.mtimeMs} ${stats.size} ${bytes}`]
    }),
  )
}

describe('a job that could run', () => {
  it('is well, before its first run and after it, and nothing is made or changed', async () => {
    const job = withData(`${JOB}distribute:\n  partner: { type: files, format: ndjson, path: partner }\n`)
    for (const step of ['before', 'after']) {
      if (step === 'after') await run(job)
      const before = everything()
      const { exit, report } = await doctor(job)
      expect(badly(report), step).toEqual([])
      expect({ exit, code: report.code }).toEqual({ exit: EXIT.done, code: null })
      expect(everything(), step).toEqual(before)
    }
  })

  it('is shown by component, each finding on a line', async () => {
    const { stdout, exit } = await runCommand('doctor', Doctor, [withData().file, ...state()])
    expect(exit).toBe(EXIT.done)
    expect(stdout).toMatch(/^✔ this machine\n {2}✔ node +Node\.js v/m)
    expect(stdout).toMatch(
      /^✔ loader warehouse \(duckdb\) at .+warehouse\.duckdb\n {2}✔ target +would be made: the file/m,
    )
    expect(stdout).toMatch(/\n✔ rows: 0 failed, \d+ warnings?, \d+ well\n$/)
  })

  it('may be held by its run, which is named', async () => {
    const job = withData()
    await run(job)
    const lock = await lockJob(job.state, { command: 'adflow run job.yaml', run: 'r1' })
    try {
      const { report, exit } = await doctor(job)
      expect(report.findings.find(({ check }) => check === 'lock')?.found).toContain(`process ${process.pid}`)
      expect(exit).toBe(EXIT.done)
    } finally {
      await lock.close()
    }
  })
})

describe('a job that could not run', () => {
  it('has each thing that is wrong in one report, and ends with the code of what a person must mend first', async () => {
    const job = new SmallJob(folder, JOB)
    writeFileSync(join(folder, 'warehouse.duckdb'), 'x'.repeat(10_000))
    writeFileSync(join(folder, 'archive'), '')
    const { exit, report } = await doctor(job)
    expect(badly(report)).toMatchObject([
      { kind: 'extractor', component: 'input', check: 'target', status: 'failed', code: 'SOURCE_MISSING' },
      { kind: 'loader', component: 'warehouse', check: 'reachable', status: 'failed', code: 'STORE_DAMAGED' },
      { kind: 'loader', component: 'archive', check: 'target', status: 'failed', code: 'LOCAL_IO' },
    ])
    expect(badly(report).every(({ mend }) => mend !== null)).toBe(true)
    expect({ exit, code: report.code }).toEqual({ exit: EXIT.localIo, code: 'LOCAL_IO' })
  })

  it('names what has no value, all of it, and shows no value of what has', async () => {
    const job = withData(
      `${JOB}transform:\n  - mask: { name: hmac, key: "\${ADFLOW_TEST_NO_SUCH_KEY}" }\n  - derive: { a: "'\${ADFLOW_TEST_NO_SUCH_NAME}'", b: "'\${file:no-such-secret}'" }\n`,
    )
    const { exit, report } = await doctor(job)
    expect(exit).toBe(EXIT.config)
    const lacking = report.findings.filter(({ check }) => check === 'secrets')
    expect(lacking.map(({ status, code }) => [status, code])).toEqual([
      ['failed', 'VARIABLE_MISSING'],
      ['failed', 'VARIABLE_MISSING'],
      ['failed', 'SECRET_UNREADABLE'],
    ])
    const texts = lacking.map(({ found }) => found)
    for (const name of ['ADFLOW_TEST_NO_SUCH_KEY', 'ADFLOW_TEST_NO_SUCH_NAME', 'no-such-secret'])
      expect(texts.some((text) => text.includes(name))).toBe(true)

    process.env['ADFLOW_TEST_KEY'] = 'a value that nobody may see'
    try {
      const other = withData(`${JOB}transform: [{ mask: { name: hmac, key: "\${ADFLOW_TEST_KEY}" } }]\n`)
      const well = await doctor(other)
      expect(well.report.findings.find(({ check }) => check === 'secrets')?.found).toBe('ADFLOW_TEST_KEY is set')
      expect(well.stdout).not.toContain('nobody may see')
    } finally {
      delete process.env['ADFLOW_TEST_KEY']
    }
  })

  it('asks all but the components that lack a value, and says which those are', async () => {
    const bare = 'load:\n  pg: { type: postgres, url: "${ADFLOW_TEST_NO_SUCH_URL}", table: t }\n'
    const secret = '  hidden: { type: files, format: csv, path: "${ADFLOW_TEST_NO_SUCH_PATH}" }\n'
    const { report, exit } = await doctor(withData(JOB.replace('load:\n', bare + secret)))
    const found = Object.fromEntries(badly(report).map(({ component, ...rest }) => [component, rest]))
    expect(found['pg']).toMatchObject({ status: 'unknown', found: expect.stringContaining('ADFLOW_TEST_NO_SUCH_URL') })
    expect(found['hidden']).toMatchObject({ status: 'unknown', mend: expect.stringContaining('set it') })
    expect(report.findings.filter(({ component }) => component === 'warehouse').length).toBeGreaterThan(1)
    expect(exit).toBe(EXIT.config)
  })

  it('has a file with mistakes, each of which is told', async () => {
    const { report, exit } = await doctor(
      withData(JOB.replace('type: duckdb', 'type: ducdb').replace('type: files', 'type: filez')),
    )
    expect(report).toMatchObject({ job: null, state_dir: null, code: 'JOB_INVALID' })
    expect(badly(report).length).toBe(2)
    expect(exit).toBe(EXIT.config)
  })

  it('has SQL that does not compile; what it names is asked all the same', async () => {
    const { exit, report } = await doctor(withData(`${JOB}transform: [{ derive: { x: "no_such_column + 1" } }]\n`))
    expect(badly(report)).toMatchObject([{ kind: 'job', check: 'job', status: 'failed' }])
    expect(report.findings.filter(({ kind }) => kind === 'loader').length).toBeGreaterThan(0)
    expect(exit).toBe(EXIT.config)
  })

  it('has a damaged slot, two of them, a damaged ledger', async () => {
    const job = withData()
    await run(job)
    job.put('data/b.ndjson', '{"id":2}\n')
    await run(job)
    writeFileSync(join(job.state, 'checkpoint.a'), 'x')
    const one = await doctor(job, '--strict')
    expect(badly(one.report)).toMatchObject([{ kind: 'state', check: 'checkpoint', status: 'warning' }])
    expect(one.exit).toBe(EXIT.warnings)
    writeFileSync(join(job.state, 'checkpoint.b'), 'x')
    writeFileSync(join(job.state, 'ledger', '000001.ndjson'), 'x\n')
    const both = await doctor(job)
    expect(badly(both.report)).toMatchObject([
      { check: 'checkpoint', code: 'STATE_DAMAGED', mend: expect.stringContaining('adflow recover') },
      { check: 'ledger', code: 'LEDGER_DAMAGED' },
    ])
    expect(both.exit).toBe(EXIT.config)
  })

  it('is owed more than the spool may hold', async () => {
    const job = withData(`${ROWS_JOB}spool: { max_bytes: 1kB }\n`)
    mkdirSync(join(job.state, 'spool', 'archive'), { recursive: true })
    const batch = {
      token: 't',
      sequence: '1',
      source: 'clicks',
      range: { lane: 'a.ndjson', from: '0', to: '9' },
      rows: 1,
    }
    const owed = (bytes: number) =>
      writeFileSync(join(job.state, 'spool', 'archive', 't.json'), JSON.stringify({ ...batch, bytes }))
    owed(900)
    expect(badly((await doctor(job)).report)).toMatchObject([{ check: 'owed', status: 'warning' }])
    owed(1000)
    const { exit, report } = await doctor(job)
    expect(badly(report)).toMatchObject([
      { check: 'owed', code: 'SPOOL_FULL', found: '1.0 kB for the store archive; up to 1.0 kB for each' },
    ])
    expect(exit).toBe(EXIT.unavailable)
  })

  it('may not write its state', async () => {
    const job = withData()
    writeFileSync(join(folder, 'state'), '')
    const { exit, report } = await doctor(job)
    expect(badly(report)).toMatchObject([
      { kind: 'state', check: 'state', code: 'LOCAL_IO', mend: expect.stringContaining('--state-dir') },
    ])
    expect(exit).toBe(EXIT.localIo)
  })
})

it('the lineage transport that the environment names is asked, and costs no run anything', async () => {
  const job = withData()
  process.env['OPENLINEAGE__TRANSPORT__TYPE'] = 'file'
  process.env['OPENLINEAGE__TRANSPORT__LOG_FILE_PATH'] = 'data'
  try {
    const { exit, report } = await doctor(job)
    expect(badly(report)).toMatchObject([
      { kind: 'transport', component: null, type: 'file', check: 'target', status: 'warning', code: 'LOCAL_IO' },
    ])
    expect(exit).toBe(EXIT.done)
  } finally {
    delete process.env['OPENLINEAGE__TRANSPORT__TYPE']
    delete process.env['OPENLINEAGE__TRANSPORT__LOG_FILE_PATH']
  }
})

it('what is optional fails as a warning, and --strict counts it', async () => {
  const job = withData(JOB.replace('extract:\n', 'extract:\n  gone: { type: files, path: "no/*", optional: true }\n'))
  const { exit, report } = await doctor(job)
  expect(badly(report)).toMatchObject([{ component: 'gone', status: 'warning', code: 'SOURCE_MISSING' }])
  expect(exit).toBe(EXIT.done)
  expect((await doctor(job, '--strict')).exit).toBe(EXIT.warnings)
})

it('systems that are silent cost --timeout once, together', async () => {
  const silent = createServer(() => undefined)
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve))
  const url = `http://127.0.0.1:${(silent.address() as AddressInfo).port}/`
  const consumer = `{ type: webhook, url: "${url}", secret: ${SECRET}, allow_private: true }`
  const names = ['one', 'two', 'three', 'four']
  const job = withData(`${JOB}distribute:\n${names.map((name) => `  ${name}: ${consumer}\n`).join('')}`)
  try {
    const began = performance.now()
    const { exit, report, stdout } = await doctor(job, '--timeout', '1s')
    expect(performance.now() - began).toBeLessThan(3000)
    expect(badly(report).map(({ component, code }) => [component, code])).toEqual(
      names.map((name) => [name, 'CONSUMER_UNAVAILABLE']),
    )
    expect(exit).toBe(EXIT.unavailable)
    expect(stdout).not.toContain(SECRET)
  } finally {
    silent.closeAllConnections()
    silent.close()
  }
})

it('a duration that is none is a mistake of whoever typed it', async () => {
  const { exit, stderr } = await runCommand('doctor', Doctor, [withData().file, '--timeout', 'soon'])
  expect(exit).toBe(EXIT.usage)
  expect(stderr).toContain('--timeout soon')
})

describe('the jobs of this repository', async () => {
  const files = (await jobFiles(ROOT)).filter((file) => file.startsWith('jobs/'))

  it.each(files)('%s is asked whole, and no finding leaves open what to do', async (file) => {
    const { report } = await doctor({ file: join(ROOT, file) }, '--timeout', '2s')
    expect(report.job).not.toBeNull()
    const kinds = new Set(report.findings.map(({ kind }) => kind))
    for (const kind of ['machine', 'job', 'state', 'extractor', 'loader']) expect(kinds).toContain(kind)
    for (const { status, mend, found } of report.findings) {
      expect(found).not.toBe('')
      expect(mend === null).toBe(status === 'ok')
    }
    expect(report.findings.filter(({ status }) => status === 'unknown')).toEqual([])
  })
})
