import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import AuditReportCommand from '../../../src/commands/audit/report.ts'
import Run from '../../../src/commands/run.ts'
import StateRewind from '../../../src/commands/state/rewind.ts'
import { whoIsThis } from '../../../src/core/who.ts'
import type { BatchClosed, LedgerEvent } from '../../../src/lineage/events.ts'
import { openLedger } from '../../../src/lineage/ledger.ts'
import type { AuditReport } from '../../../src/runtime/audit-report.ts'
import { ROWS_JOB, SmallJob } from '../../harness/small-job.ts'
import { type Outcome, runCommand } from '../run-command.ts'

let folder = ''
let job: SmallJob
const state = () => ['--state-dir', join(folder, 'state')]

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'adflow-report-'))
})
afterAll(() => rm(folder, { recursive: true }))

const print = (...argv: string[]): Promise<Outcome> =>
  runCommand('audit report', AuditReportCommand, [job.file, ...state(), ...argv])
const report = async (...argv: string[]): Promise<AuditReport> => JSON.parse((await print('--json', ...argv)).stdout)

const zeros = { read: '0', quarantined: '0', filtered: '0', deduplicated: '0', out: '0' }
const closed = (token: string, read: number, more: Partial<BatchClosed>): BatchClosed => ({
  type: 'batch_closed',
  token: token.repeat(64),
  source: 'input',
  lane: 'a',
  from: '0',
  to: '1',
  sequence: '1',
  origin: '/a',
  digest: 'crc32:0',
  bytes: 10,
  clock: '2026-03-01T00:00:00.000Z',
  counts: { read, quarantined: {}, filtered: {}, deduplicated: 0, warned: {} },
  sums: zeros,
  stores: {},
  unaccounted: 0,
  ...more,
})

describe('adflow audit report over two days', () => {
  beforeAll(async () => {
    job = new SmallJob(join(folder, 'days'))
    let now = '2026-03-01T23:00:00Z'
    const ledger = await openLedger(join(folder, 'state', 'rows', 'ledger'), { run: 'r1', now: () => new Date(now) })
    const stores = (status: 'loaded' | 'owed', rows: number) => ({ warehouse: { rows, status, outputs: [] } })
    const first: LedgerEvent[] = [
      {
        type: 'run_started',
        run: 'r1',
        job: 'rows',
        command: 'adflow run rows',
        who: 'ada',
        version: '1',
        epoch: '0',
        pin: 'p',
      },
      closed('a', 10, {
        counts: { read: 10, quarantined: { bad: 2 }, filtered: { old: 1 }, deduplicated: 1, warned: { odd: 3 } },
        stores: stores('owed', 6),
      }),
      {
        type: 'rule_failed',
        rule: 'bad',
        message: 'rule bad does not hold',
        source: 'input',
        lane: 'a',
        from: '1',
        to: '2',
      },
    ]
    await ledger.append(first)
    now = '2026-03-02T01:00:00Z'
    await ledger.append([
      // The same batch again after a crash: it counts once, where it was closed last.
      closed('b', 7, { stores: stores('loaded', 7) }),
      closed('b', 7, { stores: stores('loaded', 7) }),
      { type: 'store_paid', token: 'a'.repeat(64), loader: 'warehouse', rows: 6 },
      { type: 'run_ended', run: 'r1', status: 'rejected', exit: 65, code: 'DATA_REJECTED', message: 'no' },
      { type: 'recovered', who: 'grace', generation: '7', stores: ['warehouse'], batches: 2 },
      // Of a later version: told all the same.
      { type: 'erased', who: 'ada', what: 'subject 7', rows: 3 } as unknown as LedgerEvent,
    ])
    await ledger.close()
  })

  it('adds up books and stores by day; what was owed counts where it was paid', async () => {
    const { days, stores, events, head } = await report()
    expect(events).toBe(9)
    expect(head).toMatch(/^9:/)
    expect(days).toMatchObject([
      {
        day: '2026-03-01',
        read: '10',
        passed: '6',
        quarantined: '2',
        filtered: '1',
        deduplicated: '1',
        unaccounted: '0',
      },
      { day: '2026-03-02', read: '7', passed: '7', quarantined: '0' },
    ])
    expect(stores).toEqual([
      { day: '2026-03-01', store: 'warehouse', loaded: '0', owed_before: '0', owed: '6' },
      { day: '2026-03-02', store: 'warehouse', loaded: '13', owed_before: '6', owed: '0' },
    ])
  })

  it('tells who did what, also by events that it does not know', async () => {
    const { runs, rules, actions, changes } = await report()
    expect(runs).toMatchObject([{ who: 'ada', status: 'rejected', exit: 65, code: 'DATA_REJECTED', read: '17' }])
    expect(rules).toMatchObject([
      { rule: 'bad', quarantined: '2', batches_stopped: '1' },
      { rule: 'odd', warned: '3' },
      { rule: 'old', filtered: '1' },
    ])
    expect(actions.map(({ who, type, what }) => [who, type, what])).toEqual([
      [null, 'rule_failed', 'from=1 lane=a message=rule bad does not hold rule=bad source=input to=2'],
      ['grace', 'recovered', 'batches=2 generation=7 stores=["warehouse"]'],
      ['ada', 'erased', 'subject 7 rows=3'],
    ])
    expect(changes).toEqual([])
  })

  it('keeps to a period', async () => {
    const { days, stores, runs, actions, from, to } = await report('--from', '2026-03-02', '--to', '2026-03-03')
    expect([from, to]).toEqual(['2026-03-02T00:00:00.000Z', '2026-03-03T00:00:00.000Z'])
    expect(days).toMatchObject([{ day: '2026-03-02' }])
    expect(stores).toHaveLength(1)
    expect(runs).toEqual([])
    expect(actions.map(({ type }) => type)).toEqual(['recovered', 'erased'])
    expect((await print('--from', '2026-03-02', '--to', '2026-03-01')).exit).toBe(2)
  })

  it('prints tables, Markdown and JSON', async () => {
    expect((await print()).stdout).toMatch(/Books by day\n day +batches +read/)
    const { stdout } = await print('--format', 'markdown')
    expect(stdout).toContain('# Audit of rows, the beginning to now\n\nThe hash chain holds over 9 events, head 9:')
    expect(stdout).toContain('| 2026-03-01 | 1 | 10 | 6 | 2 | 1 | 1 | 0 |')
    expect(JSON.parse((await print('--format', 'json')).stdout)).toEqual(await report())
  })
})

describe('adflow audit report of real runs', () => {
  it('names what of the job was changed between runs, and a change of the state', async () => {
    job = new SmallJob(join(folder, 'real'))
    const run = () => runCommand('run', Run, [job.file, '--state-dir', join(folder, 'real', 'state'), '--quiet'])
    job.put('data/a.ndjson', '{"id":1,"n":2,"name":"x"}\n')
    await run()
    await run()
    job.put('job.yaml', `description: changed\n${ROWS_JOB}`)
    await run()
    const rewind = [job.file, 'input', '--reason', 'to see it', '--state-dir', join(folder, 'real', 'state')]
    expect((await runCommand('state rewind', StateRewind, rewind)).exit).toBe(0)
    const argv = [job.file, '--state-dir', join(folder, 'real', 'state'), '--json']
    const told: AuditReport = JSON.parse((await runCommand('audit report', AuditReportCommand, argv)).stdout)
    expect(told.runs.map(({ who, status }) => [who, status])).toEqual(Array(3).fill([whoIsThis(), 'done']))
    expect(told.changes).toEqual([{ time: told.runs[2]?.['started_at'], run: told.runs[2]?.['run'], changed: ['job'] }])
    expect(told.actions).toMatchObject([
      { type: 'state_changed', who: whoIsThis(), what: expect.stringContaining('to see it') },
    ])
  })

  it('has nothing to tell of a job that has not run', async () => {
    job = new SmallJob(join(folder, 'new'))
    const argv = [job.file, '--state-dir', join(folder, 'nowhere'), '--json']
    const { stdout, exit } = await runCommand('audit report', AuditReportCommand, argv)
    expect([exit, JSON.parse(stdout).error.code]).toEqual([78, 'STATE_MISSING'])
  })
})
