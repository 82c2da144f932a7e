import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { adflow, temporaryFolder } from '../harness/cli.ts'
import { duckdbRows } from '../harness/engine.ts'
import { LINES, writeStageJob } from '../harness/stage-job.ts'

const BIN = fileURLToPath(new URL('../../bin/run.js', import.meta.url))

let folder: ReturnType<typeof temporaryFolder>

beforeAll(async () => {
  folder = temporaryFolder('stages')
  await writeStageJob(folder.path)
})
afterAll(() => folder.remove())

const stage = (args: readonly string[], input = '', env: Record<string, string> = {}) =>
  adflow(args, { cwd: folder.path, input, env })

interface Piped {
  /** Exit codes of all commands of the pipe. */
  readonly codes: number[]
  readonly out: string
  readonly err: string
}

/** Runs a line of shell in which `adflow` is the built CLI. */
function shell(line: string, env: Record<string, string> = {}): Promise<Piped> {
  return new Promise((resolve, reject) => {
    const script = `adflow() { '${process.execPath}' '${BIN}' "$@"; }\n${line}\necho "\${PIPESTATUS[@]}" >&3`
    const stdio = ['ignore', 'pipe', 'pipe', 'pipe'] as const
    const child = spawn('bash', ['-c', script], {
      cwd: folder.path,
      env: { ...process.env, ...env },
      stdio: [...stdio],
    })
    const texts = ['', '', '', '']
    for (const index of [1, 2, 3])
      child.stdio[index]?.on('data', (data: Buffer) => {
        texts[index] += data.toString('utf8')
      })
    child.on('error', reject)
    child.on('close', () =>
      resolve({ codes: (texts[3] ?? '').trim().split(' ').map(Number), out: texts[1] ?? '', err: texts[2] ?? '' }),
    )
  })
}

describe('the stages as a pipe', () => {
  it('put into the store what a run puts there, to the last digit', async () => {
    const run = await stage(['run', 'clicks.yaml', '--json'])
    const piped = await shell(
      'adflow extract clicks.yaml | adflow validate clicks.yaml | adflow transform clicks.yaml | adflow load clicks.yaml',
      { WAREHOUSE: 'pipe.duckdb' },
    )
    expect(piped.codes, piped.err).toEqual([0, 0, 0, 0])
    const [counts] = await duckdbRows(
      `SELECT (SELECT count(*) FROM run.clicks) AS run, (SELECT count(*) FROM pipe.clicks) AS pipe,
        (SELECT count(*) FROM (FROM run_rows EXCEPT ALL FROM pipe_rows)) AS lost,
        (SELECT count(*) FROM (FROM pipe_rows EXCEPT ALL FROM run_rows)) AS made`,
      ['run', 'pipe'].flatMap((name) => [
        `ATTACH '${join(folder.path, name)}.duckdb' AS ${name}`,
        `CREATE VIEW ${name}_rows AS SELECT * EXCLUDE (_batch) FROM ${name}.clicks`,
      ]),
    )
    const books = {
      quarantined_by: { malformed: 2, type: 1, known_kind: 2, required: 1 },
      filtered: 2,
      deduplicated: 1,
    }
    expect(run.json()).toMatchObject({ read: 19, passed: 10, ...books })
    expect(counts).toEqual({ run: '10', pipe: '10', lost: '0', made: '0' })
    expect(piped.err).toContain('extract clicks: 19 read, 19 written')
    expect(piped.err).toMatch(/validate clicks: 19 read, 12 written, 6 refused .*, 1 filtered \(no_zero 1\)/)
    expect(piped.err).toContain('transform clicks: 12 read, 10 written, 1 filtered (filter_1 1), 1 deduplicated')
    expect(piped.out).toContain('store: 10 loaded')
  })

  it('end quietly when the reader goes away', async () => {
    const { codes, err, out } = await shell('adflow extract clicks.yaml | head -n 1')
    expect(out).toBe(`${LINES[0]}\n`)
    expect(codes).toEqual([141, 0])
    expect(err).toBe('')
  })
})

describe('the exit code and the counts of a stage', () => {
  it('are 10 under --strict when a record is refused, and the counts are on stderr', async () => {
    const { code, stdout, stderr } = await stage(['validate', 'clicks.yaml', '-', '--strict', '--json'], '{"id":1}\n{}')
    expect(code).toBe(10)
    expect(stdout.trimEnd().split('\n')).toHaveLength(1)
    expect(JSON.parse(stderr)).toMatchObject({
      stage: 'validate',
      exit: 10,
      written: 1,
      quarantined_by: { required: 1 },
    })
  })

  it('are 65 when a row of the pipe cannot be read', async () => {
    const { code, stdout, stderr } = await stage(['transform', 'clicks.yaml'], '{"id":1}\n{"id":2,"amount":"much"}\n')
    expect([code, stdout]).toEqual([65, ''])
    expect(stderr).toContain('1 of 2 rows cannot be read; the first is line 2 of stdin: amount: cannot read much')
  })

  it('are printed by load, with --json as JSON', async () => {
    const { code, json } = await stage(['load', 'clicks.yaml', '--json'], '{"id":1}\n', { WAREHOUSE: 'json.duckdb' })
    expect(code).toBe(0)
    expect(json()).toMatchObject({ stage: 'load', read: 1, stores: { store: { loaded: 1, repeated: 0 } } })
  })

  it('are 2 for a file to read that is not named, and 69 for one that is not there', async () => {
    expect((await stage(['extract'])).code).toBe(2)
    expect((await stage(['validate', 'clicks.yaml', 'none.ndjson'])).code).toBe(69)
  })
})
