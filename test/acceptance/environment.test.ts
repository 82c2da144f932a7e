/** What the machine does to a run: full and read-only disks, signals, other processes, stores that are down, state that is lost. */
import { execFileSync, spawn } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { sealSlot } from '../../src/runtime/checkpoint-slot.ts'
import type { RunSummary } from '../../src/runtime/summary.ts'
import { type CliResult, temporaryFolder } from '../harness/cli.ts'
import { ROWS_JOB, SmallJob } from '../harness/small-job.ts'

const FAST_RETRY = 'retry: { attempts: 2, initial: 10ms, max: 10ms }\n'
const MANY_BATCHES = `${ROWS_JOB}resources: { chunk: 64kB }\n`

let folder: ReturnType<typeof temporaryFolder>
let job: SmallJob
const mounts: string[] = []

beforeEach(() => {
  folder = temporaryFolder('environment')
  job = new SmallJob(folder.path, `${ROWS_JOB}${FAST_RETRY}`)
})

afterEach(() => {
  for (const path of mounts.splice(0)) execFileSync('umount', ['--lazy', path])
  folder.remove()
})

function mount(path: string, ...args: readonly string[]): void {
  mkdirSync(path, { recursive: true })
  try {
    execFileSync('mount', [...args, path], { stdio: 'pipe' })
  } catch (error) {
    throw new Error('this test mounts file systems: run it as root, in a container with CAP_SYS_ADMIN', {
      cause: error,
    })
  }
  mounts.push(path)
}

function mountSmall(path: string, size: string): void {
  mount(path, '-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs')
}

function enlarge(path: string): void {
  execFileSync('mount', ['-o', 'remount,size=256m', path])
}

function lines(from: number, to: number): string {
  return Array.from(
    { length: to - from },
    (_, i) => `{"id":${from + i},"n":${i % 100},"name":"name ${from + i}"}\n`,
  ).join('')
}

const COUNTS = 'count(*) AS n, count(DISTINCT id) AS ids, sum(id) AS id_sum'

function whole(rows: number): Record<string, unknown>[] {
  return [{ n: String(rows), ids: String(rows), id_sum: String((rows * (rows - 1)) / 2) }]
}

/** Each id below `rows` exactly once in each store. */
async function expectWhole(rows: number, warehouse = 'warehouse.duckdb'): Promise<void> {
  expect(await job.warehouse(`SELECT ${COUNTS} FROM w.rows`, warehouse)).toEqual(whole(rows))
  expect(await job.archive(`SELECT ${COUNTS} FROM archive`)).toEqual(whole(rows))
}

function errorOf(result: CliResult): { code: string; message: string; hint?: string } {
  return result.json<{ error: { code: string; message: string; hint?: string } }>().error
}

describe('a full disk', () => {
  // Small sizes stop at the first chunk, larger ones at a checkpoint, a quarantine file, the ledger.
  it.each(['48k', '400k', '600k'])(
    'for the state, at %s: 74, and with more room the next run completes exactly',
    async (size) => {
      job.put('job.yaml', MANY_BATCHES)
      for (let file = 0; file < 4; file += 1)
        job.put(`data/${file}.ndjson`, `${'bad\n'.repeat(500)}${lines(file * 3000, (file + 1) * 3000)}`)
      const state = join(folder.path, 'state')
      mountSmall(state, size)
      const full = await job.run()
      const error = errorOf(full)
      expect(full.code, full.stdout).toBe(74)
      expect(error).toMatchObject({ code: 'DISK_FULL', hint: expect.stringContaining('free') })
      expect(error.message).toMatch(/no space left on the device/)
      expect(error.message).toContain(state)
      enlarge(state)
      expect(await job.summary()).toMatchObject({ status: 'done', exit: 0, unaccounted: 0 })
      await expectWhole(12_000)
      expect(job.quarantine()).toHaveLength(2000)
      expect(new Set(job.quarantine().map(({ origin, byte_from }) => `${origin} ${byte_from}`)).size).toBe(2000)
    },
  )

  it.each([
    ['warehouse', '1200k'],
    ['archive', '40k'],
  ])(
    'for the %s alone: 69 and what is owed; the other store has everything; with more room it is paid',
    async (id, size) => {
      job.put('job.yaml', `${ROWS_JOB.replace('path: warehouse.duckdb', 'path: warehouse/w.duckdb')}${FAST_RETRY}`)
      job.put('data/a.ndjson', lines(0, 100_000))
      const store = join(folder.path, id)
      mountSmall(store, size)
      const full = await job.summary()
      expect(full).toMatchObject({ status: 'owed', exit: 69, passed: 100_000, error: { code: 'STORE_OWED' } })
      expect(full.error?.message).toMatch(new RegExp(`^${id} is owed 100000 rows in 1 batch: .*no space left`))
      for (const [other, line] of Object.entries(full.stores))
        expect(line).toMatchObject(other === id ? { loaded: 0, owed: 100_000 } : { loaded: 100_000, owed: 0 })
      enlarge(store)
      const paid = await job.summary()
      expect(paid).toMatchObject({ status: 'done', exit: 0, read: 0, stores: { [id]: { loaded: 100_000, owed: 0 } } })
      await expectWhole(100_000, 'warehouse/w.duckdb')
    },
  )
})

describe('a state directory that cannot be written', () => {
  it('ends with 74 before anything is read', async () => {
    job.put('data/a.ndjson', lines(0, 100))
    expect(await job.summary()).toMatchObject({ status: 'done' })
    job.put('data/b.ndjson', lines(100, 200))
    const state = join(folder.path, 'state')
    mount(state, '--bind', state)
    execFileSync('mount', ['-o', 'remount,bind,ro', state])
    const refused = await job.run()
    expect(refused.code).toBe(74)
    expect(errorOf(refused)).toMatchObject({ code: 'LOCAL_IO', hint: expect.stringContaining('--state-dir') })
    expect(errorOf(refused).message).toMatch(/cannot write in the state directory .*read-only file system/)
    execFileSync('umount', [mounts.pop() ?? state])
    expect(await job.summary()).toMatchObject({ status: 'done', read: 100 })
    await expectWhole(200)
  })

  it('because it is a file ends with 74', async () => {
    job.put('data/a.ndjson', lines(0, 100))
    job.put('state', 'a file')
    const refused = await job.run()
    expect([refused.code, errorOf(refused).code]).toEqual([74, 'LOCAL_IO'])
    expect(job.traces()).toEqual(['state'])
  })
})

describe('two runs of one job at once', () => {
  it('the second ends with 75 and names the first; the first is not disturbed', async () => {
    job.put('job.yaml', MANY_BATCHES)
    for (let file = 0; file < 4; file += 1) job.put(`data/${file}.ndjson`, lines(file * 10_000, (file + 1) * 10_000))
    const { promise, resolve } = Promise.withResolvers<[pid: number | undefined, second: CliResult]>()
    const started = job.onceClosed(0, (child) => void job.run().then((second) => resolve([child.pid, second])))
    const [first, [pid, second]] = await Promise.all([job.run([], { started }), promise])
    expect(second.code).toBe(75)
    expect(errorOf(second)).toMatchObject({ code: 'JOB_LOCKED', hint: expect.stringContaining(`kill -TERM ${pid}`) })
    expect(errorOf(second).message).toContain(`process ${pid} since 20`)
    expect(errorOf(second).message).toContain(`adflow run ${job.file}`)
    expect(first.json()).toMatchObject({ status: 'done', exit: 0, passed: 40_000 })
    await expectWhole(40_000)
  })
})

describe('signals', () => {
  it.each([
    ['SIGTERM', 143],
    ['SIGINT', 130],
  ] as const)(
    '%s finishes what is under way and ends with %i; a second one ends at once with 75',
    async (signal, code) => {
      job.put('job.yaml', MANY_BATCHES)
      for (let file = 0; file < 6; file += 1) job.put(`data/${file}.ndjson`, lines(file * 10_000, (file + 1) * 10_000))
      const drained = await job.run([], { started: job.onceClosed(0, (child) => child.kill(signal)) })
      expect(drained.code, drained.stderr).toBe(code)
      const summary = drained.json<RunSummary>()
      expect(summary).toMatchObject({ status: 'interrupted', exit: code, unaccounted: 0, quarantined: 0 })
      expect(summary.passed).toBeGreaterThan(0)
      expect(summary.passed).toBeLessThan(60_000)
      for (const store of Object.values(summary.stores))
        expect(store).toMatchObject({ loaded: summary.passed, owed: 0 })

      // The second signal follows when the first has been seen.
      const twice = job.onceClosed(summary.batches, (child) => {
        child.stderr?.once('data', () => child.kill(signal))
        child.kill(signal)
      })
      const stopped = await job.run([], { started: twice })
      expect(stopped.code, stopped.stdout).toBe(75)
      expect(errorOf(stopped)).toMatchObject({ code: 'INTERRUPTED', hint: expect.stringContaining('run again') })

      expect(await job.summary()).toMatchObject({ status: 'done', exit: 0, unaccounted: 0 })
      await expectWhole(60_000)
    },
  )
})

describe('a store that is down', () => {
  it.each<[what: string, message: RegExp, warehouse: string, down: () => Promise<() => Promise<void>>]>([
    [
      'whose file is open in another process',
      /process \d+ .* has it open/,
      'warehouse.duckdb',
      async () => {
        const code = `const { DuckDBInstance } = await import('@duckdb/node-api')
          globalThis.held = await DuckDBInstance.create(${JSON.stringify(join(folder.path, 'warehouse.duckdb'))})
          console.log('open'); setInterval(() => undefined, 60_000)`
        const holder = spawn(process.execPath, ['--input-type=module', '-e', code], {
          stdio: ['ignore', 'pipe', 'inherit'],
        })
        await new Promise((resolve) => holder.stdout.once('data', resolve))
        return async () => {
          const ended = new Promise((resolve) => holder.once('exit', resolve))
          holder.kill()
          await ended
        }
      },
    ],
    [
      'whose path is a folder',
      /Is a directory/,
      'warehouse.duckdb',
      async () => {
        mkdirSync(join(folder.path, 'warehouse.duckdb'))
        return async () => rmSync(join(folder.path, 'warehouse.duckdb'), { recursive: true })
      },
    ],
    [
      'whose file is no database',
      /not a valid DuckDB database file/,
      'warehouse.duckdb',
      async () => {
        job.put('warehouse.duckdb', 'rubbish'.repeat(1000))
        return async () => rmSync(join(folder.path, 'warehouse.duckdb'))
      },
    ],
    [
      'whose folder cannot be made',
      /cannot make the folder of the warehouse/,
      'deep/er/warehouse.duckdb',
      async () => {
        job.put('deep', 'a file')
        return async () => {
          rmSync(join(folder.path, 'deep'))
          mkdirSync(join(folder.path, 'deep/er'), { recursive: true })
        }
      },
    ],
  ])(
    '%s: 69 and what is owed, run after run; the other store has everything; later all is paid',
    async (_, message, warehouse, down) => {
      job.put('job.yaml', readFileSync(job.file, 'utf8').replace('warehouse.duckdb', warehouse))
      const mend = await down()
      job.put('data/a.ndjson', lines(0, 100))
      const first = await job.summary()
      expect(first).toMatchObject({
        status: 'owed',
        exit: 69,
        passed: 100,
        stores: { warehouse: { loaded: 0, owed: 100 }, archive: { loaded: 100, owed: 0 } },
      })
      expect(first.error).toMatchObject({ code: 'STORE_OWED', hint: expect.stringContaining('the next run pays it') })
      expect(first.error?.message).toMatch(/^warehouse is owed 100 rows in 1 batch: /)
      expect(first.error?.message).toMatch(message)
      job.put('data/b.ndjson', lines(100, 200))
      const second = await job.summary()
      expect(second).toMatchObject({
        exit: 69,
        stores: { warehouse: { loaded: 0, owed: 200 }, archive: { loaded: 100, owed: 0 } },
        error: { message: expect.stringContaining('owed 200 rows in 2 batches') },
      })
      await mend()
      job.put('data/c.ndjson', lines(200, 300))
      const paid = await job.summary()
      expect(paid).toMatchObject({
        status: 'done',
        exit: 0,
        read: 100,
        stores: { warehouse: { loaded: 300, owed: 0 }, archive: { loaded: 100, owed: 0 } },
      })
      expect(await job.summary()).toMatchObject({ status: 'done', read: 0 })
      await expectWhole(300, warehouse)
    },
  )

  it('that is a folder of files: the same', async () => {
    job.put('archive', 'a file where a folder should be')
    job.put('data/a.ndjson', lines(0, 100))
    expect(await job.summary()).toMatchObject({
      status: 'owed',
      exit: 69,
      stores: { warehouse: { loaded: 100, owed: 0 }, archive: { loaded: 0, owed: 100 } },
    })
    rmSync(join(folder.path, 'archive'))
    expect(await job.summary()).toMatchObject({ status: 'done', stores: { archive: { loaded: 100, owed: 0 } } })
    await expectWhole(100)
  })

  it('and optional: the run ends with 0 and a warning, and pays later', async () => {
    job.put('job.yaml', `${ROWS_JOB.replace('table: rows }', 'table: rows, optional: true }')}${FAST_RETRY}`)
    mkdirSync(join(folder.path, 'warehouse.duckdb'))
    job.put('data/a.ndjson', lines(0, 100))
    const summary = await job.summary()
    expect(summary).toMatchObject({ status: 'owed', exit: 0, stores: { warehouse: { owed: 100 } } })
    expect(summary.warnings).toEqual([expect.stringContaining('warehouse is owed 100 rows')])
    rmSync(join(folder.path, 'warehouse.duckdb'), { recursive: true })
    expect(await job.summary()).toMatchObject({ status: 'done', stores: { warehouse: { loaded: 100 } } })
    await expectWhole(100)
  })

  it('and that the job then no longer has: each run says what is owed to it', async () => {
    job.put('archive', 'a file')
    job.put('data/a.ndjson', lines(0, 100))
    expect(await job.summary()).toMatchObject({ exit: 69, stores: { archive: { owed: 100 } } })
    const before = readFileSync(job.file, 'utf8')
    job.put('job.yaml', before.replace('  archive:', '  files:').replace('path: archive', 'path: elsewhere'))
    const without = await job.summary()
    expect(without).toMatchObject({ exit: 0, read: 0 })
    expect(without.warnings).toEqual([expect.stringMatching(/^100 rows in .*spool\/archive are owed to archive/)])
    rmSync(join(folder.path, 'archive'))
    job.put('job.yaml', before)
    expect(await job.summary()).toMatchObject({ exit: 0, warnings: [], stores: { archive: { loaded: 100 } } })
    await expectWhole(100)
  })

  it('is none of the two that share one file', async () => {
    job.put(
      'job.yaml',
      ROWS_JOB.replace('  archive:', '  more: { type: duckdb, path: warehouse.duckdb, table: more }\n  archive:'),
    )
    job.put('data/a.ndjson', lines(0, 100))
    expect(await job.summary()).toMatchObject({
      status: 'done',
      stores: { warehouse: { loaded: 100 }, more: { loaded: 100 } },
    })
    expect(await job.warehouse(`SELECT ${COUNTS} FROM w.more`)).toEqual(whole(100))
  })
})

describe('state', () => {
  it('of a newer adflow ends with 78 and is not touched, by recover neither', async () => {
    job.put('data/a.ndjson', lines(0, 100))
    await job.summary()
    const slots = readdirSync(job.state).filter((name) => name.startsWith('checkpoint.'))
    for (const slot of slots) {
      const path = join(job.state, slot)
      const [json = ''] = readFileSync(path, 'utf8').split('\n')
      writeFileSync(path, sealSlot(JSON.stringify({ ...JSON.parse(json), format: 99 })).text)
    }
    const before = slots.map((slot) => readFileSync(join(job.state, slot), 'utf8'))
    job.put('data/b.ndjson', lines(100, 200))
    for (const args of [['run'], ['recover'], ['recover', '--force']]) {
      const refused = await job.command([...args, job.file, '--json'])
      expect(refused.code).toBe(78)
      expect(errorOf(refused)).toMatchObject({ code: 'STATE_NEWER', hint: expect.stringContaining('upgrade adflow') })
      expect(errorOf(refused).message).toContain('format 99')
    }
    expect(slots.map((slot) => readFileSync(join(job.state, slot), 'utf8'))).toEqual(before)
    await expectWhole(100)
  })

  it('that is lost while the stores hold data ends with 78; recover rebuilds it, and nothing is loaded twice', async () => {
    job.put('job.yaml', MANY_BATCHES)
    job.put('data/a.ndjson', lines(0, 10_000))
    await job.summary()
    renameSync(join(folder.path, 'state'), join(folder.path, 'lost'))
    job.put('data/b.ndjson', lines(10_000, 10_100))
    for (let attempt = 0; attempt < 2; attempt += 1) {
      const refused = await job.run()
      expect(refused.code).toBe(78)
      expect(errorOf(refused)).toMatchObject({ code: 'STATE_MISSING', hint: expect.stringContaining('adflow recover') })
      expect(errorOf(refused).message).toMatch(/the stores hold \d+ batches of job rows/)
    }
    const recovered = await job.command(['recover', job.file, '--json'])
    expect(recovered.code, recovered.stderr).toBe(0)
    expect(await job.summary()).toMatchObject({ status: 'done', exit: 0, read: 100, passed: 100 })
    await expectWhole(10_100)
  })
})

describe('secrets', () => {
  const FILE = 'canary-in-a-file-3f9c1d'
  const TOKEN = 'canary-in-a-token-77be21'

  /** Every byte that the run has written or printed, except the job's own files and data. */
  function everything({ stdout, stderr }: CliResult): string {
    const paths = job.traces().filter((path) => path !== 'secret.txt')
    return [stdout, stderr, ...paths.map((path) => readFileSync(join(folder.path, path), 'latin1'))].join('\n')
  }

  it.each<[what: string, steps: string, rules: string, exit: number]>([
    ['mask a column', '  - mask: { name: hmac, key: "${file:secret.txt}" }\n', '', 0],
    [
      'stand in an expression that fails on a record',
      `  - derive: { t: "id + CAST('\${X_TOKEN}' AS INTEGER)" }\n`,
      '',
      65,
    ],
    [
      'stand in a rule that records break',
      '',
      `  - { id: known, check: "name <> 'name 3' or name = '\${X_TOKEN}'" }\n`,
      0,
    ],
    [
      'stand in a rule that stops the run',
      '',
      `  - { id: known, check: "name = '\${file:secret.txt}'", on_fail: fail }\n`,
      65,
    ],
    [
      'stand in a batch rule that warns',
      '',
      `  - { id: some, batch: "count(*) > 1000 or min(name) = '\${X_TOKEN}'", on_fail: warn }\n`,
      0,
    ],
    ['stand in an expression with an unknown column', `  - derive: { t: "nmae || '\${X_TOKEN}'" }\n`, '', 78],
    ['stand where SQL should', '  - filter: "name <> ${X_TOKEN}"\n', '', 78],
    ['stand in a wrong option', '  - mask: { name: "${file:secret.txt}" }\n', '', 78],
  ])('that %s are printed and written nowhere', async (_, steps, rules, exit) => {
    const sections = `${rules === '' ? '' : `validate:\n${rules}`}${steps === '' ? '' : `transform:\n${steps}`}load:`
    job.put('job.yaml', ROWS_JOB.replace('load:', sections))
    job.put('secret.txt', `${FILE}\n`)
    job.put('data/a.ndjson', `${lines(0, 10)}{"id":"x"}\nbad\n`)
    const result = await job.run(['--log-level', 'debug'], { env: { X_TOKEN: TOKEN } })
    expect(result.code, result.stdout + result.stderr).toBe(exit)
    const text = everything(result)
    expect(text).not.toContain(FILE)
    expect(text).not.toContain(TOKEN)
    for (const part of ['file-3f9c1d', 'token-77be21', '77be21']) expect(text).not.toContain(part)
    if (exit !== 78) expect(job.traces().some((path) => path.includes('ledger'))).toBe(true)
  })
})
