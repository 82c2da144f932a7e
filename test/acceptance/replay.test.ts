import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { DiffReport } from '../../src/reconcile/replay-diff.ts'
import type { VerifyReport } from '../../src/reconcile/replay-verify.ts'
import { adflow, temporaryFolder } from '../harness/cli.ts'
import { duckdbRows } from '../harness/engine.ts'
import { QUICKSTART, QuickstartJob } from '../harness/quickstart-job.ts'

const ROWS = process.env['ADFLOW_TEST_LONG'] === '1' ? 2_000_000 : 40_000

let folder: ReturnType<typeof temporaryFolder>
let job: QuickstartJob

beforeEach(() => {
  folder = temporaryFolder('replay')
  job = new QuickstartJob(folder.path)
})

afterEach(() => folder.remove())

describe('the main job', () => {
  it(`repeated over ${ROWS} events gives what both stores have, run by run; a changed expression shows what it moves`, async () => {
    await job.sample('--rows', String(ROWS), '--seed', '5', '--files', '3')
    const first = await job.summary()
    await job.sample('--rows', String(ROWS / 10), '--seed', '5', '--append')
    const second = await job.summary()
    expect(second.read).toBeGreaterThan(0)
    for (const { run, read } of [first, second]) {
      const result = await adflow(['replay', run, '--job', QUICKSTART, '--verify', '--json'], { env: job.env })
      expect(result.code, result.stdout + result.stderr).toBe(0)
      const report = result.json<VerifyReport>()
      expect(report).toMatchObject({ equal: true, records: read, differing: [], unreadable: [], not_compared: {} })
      expect(report.stores).toEqual({ warehouse: report.batches, archive: report.batches })
    }

    const attached = [`ATTACH '${folder.path}/warehouse.duckdb' AS w (READ_ONLY)`]
    const [most] = await duckdbRows('SELECT mode(country) AS country FROM w.events', attached)
    const country = String(most?.['country'])
    const other = join(folder.path, 'other.yaml')
    const text = readFileSync(QUICKSTART, 'utf8')
    const changed = text.replace(
      'spend: "cost_micros::decimal(18, 0) * 0.000001"',
      `spend: "cost_micros::decimal(18, 0) * 0.000001 * (CASE WHEN country = '${country}' THEN 2 ELSE 1 END)"`,
    )
    expect(changed).not.toBe(text)
    writeFileSync(other, changed)
    const words = ['replay', first.run, '--job', QUICKSTART, '--with', other, '--diff', '--key', 'event_id']
    const diff = await adflow([...words, '--sum', 'spend', '--by', 'country', '--json'], { env: job.env })
    expect(diff.code, diff.stdout + diff.stderr).toBe(11)
    const [moved] = await duckdbRows(
      `SELECT count(*) AS n, sum(spend)::VARCHAR AS s FROM w.events WHERE country = '${country}' AND cost_micros <> 0 AND _batch IN (SELECT TRY_CAST('0x' || token[1:16] AS UBIGINT)::BIT::BIGINT FROM w._adflow_batches WHERE clock < TIMESTAMPTZ '${second.started_at}')`,
      attached,
    )
    const report = diff.json<DiffReport>()
    expect(report).toMatchObject({ added: 0, removed: 0, changed: Number(moved?.['n']) })
    expect(report.changed).toBeGreaterThan(0)
    expect(report.sums.map(({ by }) => by)).toEqual([{ country }])
    expect(Number(report.sums[0]?.before)).toBeCloseTo(Number(moved?.['s']), 6)
    expect(Number(report.sums[0]?.after)).toBeCloseTo(2 * Number(moved?.['s']), 6)
  })
})
