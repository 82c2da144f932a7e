import { createHash } from 'node:crypto'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import AuditReportCommand from '../../src/commands/audit/report.ts'
import AuditVerify from '../../src/commands/audit/verify.ts'
import Backfill from '../../src/commands/backfill/index.ts'
import Distribute from '../../src/commands/distribute.ts'
import Impact from '../../src/commands/impact.ts'
import Lineage from '../../src/commands/lineage.ts'
import Query from '../../src/commands/query.ts'
import Reconcile from '../../src/commands/reconcile.ts'
import Recover from '../../src/commands/recover.ts'
import Replay from '../../src/commands/replay.ts'
import Run from '../../src/commands/run.ts'
import StateRewind from '../../src/commands/state/rewind.ts'
import StateSet from '../../src/commands/state/set.ts'
import Status from '../../src/commands/status.ts'
import Trace from '../../src/commands/trace.ts'
import { ROWS_JOB, SmallJob } from '../harness/small-job.ts'
import { runCommand } from './run-command.ts'

let folder = ''
let job: SmallJob
let sound: Buffer
const segment = () => join(job.state, 'ledger', '000001.ndjson')
const state = () => ['--state-dir', join(folder, 'state')]

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'adflow-damaged-ledger-'))
  job = new SmallJob(folder, `${ROWS_JOB}distribute:\n  partner: { type: files, format: ndjson, path: partner }\n`)
  for (const name of ['a.ndjson', 'b.ndjson']) {
    job.put(`data/${name}`, '{"id":1,"n":2,"name":"x"}\n{"id":"bad"}\n')
    expect((await runCommand('run', Run, [job.file, ...state(), '--quiet'])).exit).toBe(0)
  }
  sound = readFileSync(segment())
})
afterAll(() => rm(folder, { recursive: true }))

/** Digest of every file of the folder: what changed, and what came or went. */
function everything(): Record<string, string> {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())
  const paths = files.map(({ parentPath, name }) => join(parentPath, name)).filter((path) => !path.includes('lock'))
  return Object.fromEntries(paths.map((path) => [path, createHash('sha256').update(readFileSync(path)).digest('hex')]))
}

const lineAt = (bytes: Buffer, at: number) => bytes.subarray(0, at).filter((byte) => byte === 10).length + 1

describe.each([
  ['its first line', () => 20],
  ['the middle', () => Math.floor(sound.length / 2)],
  ['its last line', () => sound.length - 100],
  ['its last line feed', () => sound.length - 1],
])('with a byte changed in %s', (_where, position) => {
  const damaged = () => {
    const bytes = Buffer.from(sound)
    bytes.writeUInt8(bytes.readUInt8(position()) ^ 1, position())
    writeFileSync(segment(), bytes)
    return lineAt(sound, position())
  }

  it.each([
    ['run', Run, []],
    ['status', Status, []],
    ['state rewind', StateRewind, ['input', '--reload', '--reason', 'again']],
    ['state set', StateSet, ['input', 'data/a.ndjson', '0', '--reason', 'again']],
    ['recover', Recover, ['--force']],
    ['audit verify', AuditVerify, []],
    ['trace', Trace, ['--where', 'id = 1']],
    ['impact', Impact, ['--file', 'data/a.ndjson', '--line', '1']],
    ['reconcile', Reconcile, []],
    ['replay', Replay, ['last', '--verify', '--job', 'JOB']],
    ['backfill', Backfill, ['--missing']],
    ['distribute', Distribute, []],
    ['lineage', Lineage, ['--run', 'last']],
    ['audit report', AuditReportCommand, []],
  ] as const)('`%s` names the place, ends with 78 and changes nothing', async (id, Class, argv) => {
    const line = damaged()
    const before = everything()
    const words: readonly string[] = argv
    const named = words.includes('JOB') ? words.map((word) => (word === 'JOB' ? job.file : word)) : [job.file, ...words]
    const { stdout, stderr, exit } = await runCommand(id, Class, [...named, ...state()])
    expect(exit).toBe(78)
    expect(stdout).toBe('')
    expect(stderr.match(/error /g)).toHaveLength(1)
    expect(stderr).toContain(
      `error LEDGER_DAMAGED: the hash chain of the ledger does not hold at ${segment()}, line ${line},`,
    )
    expect(everything()).toEqual(before)
  })

  it('`query` refuses the ledger and everything made of it, and gives the other tables', async () => {
    damaged()
    const before = everything()
    const query = (sql: string) => runCommand('query', Query, [sql, '--job', job.file, '--json', ...state()])
    for (const table of ['ledger', 'audit', 'runs', 'batches', 'gaps', 'conservation']) {
      const { stdout, exit } = await query(`select count(*) from ${table}`)
      expect(exit, table).toBe(78)
      expect(JSON.parse(stdout).error.code).toBe('LEDGER_DAMAGED')
    }
    expect(JSON.parse((await query('select count(*) as n from quarantine')).stdout).rows).toEqual([{ n: '2' }])
    expect(JSON.parse((await query('select count(*) as n from rows')).stdout).rows).toEqual([{ n: '2' }])
    expect(everything()).toEqual(before)
  })
})

it('goes on where the ledger was restored', async () => {
  writeFileSync(segment(), sound)
  expect((await runCommand('run', Run, [job.file, ...state(), '--quiet'])).exit).toBe(0)
  expect((await runCommand('audit verify', AuditVerify, [job.file, ...state()])).exit).toBe(0)
})

it('the checkpoint shows that the newest events were cut off', async () => {
  const bytes = readFileSync(segment())
  const closed = bytes.lastIndexOf('"type":"batch_closed"')
  writeFileSync(segment(), bytes.subarray(0, bytes.lastIndexOf(10, closed) + 1))
  const { stdout, exit } = await runCommand('audit verify', AuditVerify, [job.file, '--json', ...state()])
  expect(exit).toBe(78)
  expect(JSON.parse(stdout).error.message).toMatch(/the ledger ends at event \d+, but event \d+ was noted elsewhere/)
  writeFileSync(segment(), bytes)
})
