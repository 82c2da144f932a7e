/** The example jobs that collect from APIs, by the CLI, from a server of the test's own. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { RunSummary } from '../../src/runtime/summary.ts'
import { adflow, temporaryFolder } from '../harness/cli.ts'
import { duckdbRows } from '../harness/engine.ts'
import { HttpSource } from '../harness/http-source.ts'

const jobs = join(import.meta.dirname, '..', '..', 'jobs')

describe('the example jobs that collect from APIs', () => {
  let folder: ReturnType<typeof temporaryFolder>
  let http: HttpSource
  beforeEach(async () => {
    folder = temporaryFolder('example')
    http = await new HttpSource().start()
  })
  afterEach(async () => {
    await http.stop()
    folder.remove()
  })

  const run = async (job: string, env: Record<string, string>) => {
    const args = ['run', join(jobs, job), '--json', '--state-dir', join(folder.path, 'state')]
    return (await adflow(args, { env: { ADFLOW_OUT: folder.path, ...env } })).json<RunSummary>()
  }
  const ids = async (file: string, table: string) =>
    (
      await duckdbRows(`SELECT id::VARCHAR AS id FROM w.${table} ORDER BY id`, [
        `ATTACH '${join(folder.path, file)}' AS w (READ_ONLY)`,
      ])
    ).map(({ id }) => id)

  it('are linted and pass their own tests', async () => {
    const files = ['partner-report.yaml', 'everywhere.yaml'].map((name) => join(jobs, name))
    expect((await adflow(['lint', '--strict', ...files])).code).toBe(0)
    expect((await adflow(['test', ...files])).code).toBe(0)
  })

  it('partner-report asks again for what it may have missed, and keeps the newest', async () => {
    const line = (id: number, at: string, spend: string) =>
      `{"id":${id},"updated_at":"${at}","campaign":"spring","spend":"${spend}"}`
    // The API of the test gives all pages of a list whatever is asked for; what is asked is looked at.
    http.interfere = ({ path, query, headers }, response) => {
      expect(path).toBe('/v2/report')
      expect(headers.authorization).toBe('Bearer token')
      const items = query.has('updated_since')
        ? [line(1, '2026-03-01T12:00:00Z', '2')]
        : [line(1, '2026-03-01T10:00:00Z', '1'), line(2, '2026-03-01T11:00:00Z', '1')]
      response.setHeader('content-type', 'application/json').end(`{"data":{"items":[${items}]},"meta":{}}`)
      return true
    }
    expect(await run('partner-report.yaml', { PARTNER_URL: http.origin })).toMatchObject({ exit: 0, read: 2 })
    expect(await run('partner-report.yaml', { PARTNER_URL: http.origin })).toMatchObject({ exit: 0, read: 1 })
    expect(http.asked.map(({ query }) => query.get('updated_since'))).toEqual([
      null,
      expect.stringMatching(/^2026-03-01T05:00/),
    ])
    expect(await ids('partner.duckdb', 'spend')).toEqual(['1', '2'])
  })

  it('everywhere loads what overlaps once, without the partner that is down, and with it when it is back', async () => {
    const click = (id: number) => `{"id":${id},"at":"2026-03-01T10:00:00Z","campaign":"spring"}`
    const clicks = (from: number, to: number) => Array.from({ length: to - from }, (_, index) => click(from + index))
    let down = true
    http.interfere = ({ path }, response) => {
      const list = path === '/ads/clicks' ? clicks(0, 30) : path === '/partner/clicks' ? clicks(20, 50) : undefined
      if (list === undefined || (down && path.startsWith('/partner'))) response.writeHead(410).end()
      else response.setHeader('content-type', 'application/json').end(`{"data":{"items":[${list}]},"meta":{}}`)
      return true
    }
    writeFileSync(join(folder.path, 'a.ndjson'), `${clicks(25, 60).join('\n')}\n`)
    const env = { ADS_URL: `${http.origin}/ads`, PARTNER_URL: `${http.origin}/partner`, EXPORTS: folder.path }
    expect(await run('everywhere.yaml', env)).toMatchObject({
      exit: 0,
      read: 65,
      passed: 60,
      gaps: [{ source: 'partner', optional: true }],
    })
    down = false
    expect(await run('everywhere.yaml', env)).toMatchObject({ exit: 0, gaps: [], passed: 0, deduplicated: 30 })
    expect((await ids('everywhere.duckdb', 'clicks')).length).toBe(60)
  })
})
