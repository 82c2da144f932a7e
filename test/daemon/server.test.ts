import { connect } from 'node:net'
import pino from 'pino'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { AdflowError } from '../../src/core/errors.ts'
import { readSchedule, schedule } from '../../src/core/job/schedule.ts'
import type { DaemonFace } from '../../src/daemon/face.ts'
import type { AcceptedJob } from '../../src/daemon/job-folder.ts'
import { type RunningServer, startServer } from '../../src/daemon/server.ts'
import { type OpenSlot, SlotBook } from '../../src/daemon/slot-book.ts'
import { stateDirOf } from '../../src/runtime/state-dir.ts'

const TOKEN = 'a-token-that-has-more-than-32-characters'
const NOON = Date.parse('2026-03-01T12:00:00Z')
const audit: object[] = []
let role: ReturnType<DaemonFace['role']> = 'leading'
let idle = 0.5
let server: RunningServer

beforeAll(async () => {
  server = await startServer({
    host: '127.0.0.1',
    port: 0,
    token: TOKEN,
    face: face(),
    log: pino({ level: 'silent' }),
    audit: async (entry) => void audit.push(entry),
  })
})
afterAll(() => server.close())

describe('probes', () => {
  it('are answered without a token, and say when the scheduler stands still', async () => {
    expect((await fetch(`${server.url}/livez`)).status).toBe(200)
    expect((await fetch(`${server.url}/readyz`)).status).toBe(200)
    role = 'draining'
    expect((await fetch(`${server.url}/readyz`)).status).toBe(503)
    expect((await fetch(`${server.url}/livez`)).status).toBe(200)
    role = 'leading'
    idle = 31
    expect((await fetch(`${server.url}/livez`)).status).toBe(503)
    idle = 0.5
  })
})

describe('all else', () => {
  it.each([undefined, 'Bearer ', 'Bearer wrong', `Basic ${TOKEN}`, `Bearer ${TOKEN}x`])(
    'is refused with %s, whatever it is',
    async (authorization) => {
      for (const path of ['/metrics', '/api/v1/jobs', '/nothing']) {
        const response = await fetch(`${server.url}${path}`, {
          headers: authorization === undefined ? {} : { authorization },
        })
        expect(response.status).toBe(401)
        expect(await response.json()).toMatchObject({ error: { message: 'a token is needed' } })
      }
    },
  )

  it('is read with it', async () => {
    expect(await get('/api/v1/status')).toMatchObject({ role: 'leading', leader: { epoch: 3 }, running: 1, waiting: 0 })
    const { jobs } = await get<{ jobs: object[] }>('/api/v1/jobs')
    expect(jobs).toMatchObject([
      {
        job: 'clicks',
        state: 'running',
        cron: '*/5 * * * *',
        next: '2026-03-01T12:05:00.000Z',
        owed: 7,
        gaps: 1,
        rate: 500,
      },
    ])
    expect(await get('/api/v1/jobs/clicks')).toMatchObject({ job: 'clicks' })
    expect(await get('/api/v1/gaps')).toMatchObject({ gaps: [{ job: 'clicks', lane: 'a', code: 'SOURCE_DAMAGED' }] })
    expect(await get('/api/v1/owed')).toMatchObject({ owed: [{ job: 'clicks', store: 'warehouse', rows: 7 }] })
    const { slots } = await get<{ slots: { at: string }[] }>('/api/v1/slots?job=clicks&count=3')
    expect(slots.map(({ at }) => at.slice(11, 16))).toEqual(['12:05', '12:10', '12:15'])
    expect((await ask('/api/v1/jobs/nobody')).status).toBe(404)
    expect((await ask('/nothing')).status).toBe(404)
    expect((await ask('/api/v1/jobs', { method: 'DELETE' })).status).toBe(405)
  })

  it('that changes something is audited first, and done by who leads', async () => {
    const response = await post('/api/v1/jobs/clicks/trigger', { who: 'ann', why: 'late files' })
    expect([response.status, await response.json()]).toMatchObject([202, { slot: 'clicks@asked' }])
    expect(audit.at(-1)).toMatchObject({ who: 'ann', why: 'late files', verb: 'trigger', job: 'clicks' })
    expect((await post('/api/v1/jobs/nobody/trigger', { who: 'ann', why: 'x' })).status).toBe(409)
    for (const body of [{}, { who: 'ann' }, { who: 'ann', why: '' }, { who: 'ann', why: 'x', more: 1 }, 'no map'])
      expect((await post('/api/v1/jobs/clicks/pause', body)).status).toBe(400)
    expect((await post('/api/v1/jobs/clicks/pause', { who: 'ann', why: 'x'.repeat(20_000) })).status).toBe(413)
    role = 'standby'
    const refused = await post('/api/v1/jobs/clicks/pause', { who: 'ann', why: 'x' })
    role = 'leading'
    expect([refused.status, await refused.text()]).toEqual([409, expect.stringContaining('http://127.0.0.1:1')])
  })

  it('that is no HTTP, or too much of it, ends the connection and not the daemon', async () => {
    for (const text of ['\u0000\u0001nonsense\r\n\r\n', `GET / HTTP/1.1\r\nx: ${'y'.repeat(20_000)}\r\n\r\n`])
      expect(await raw(text)).toMatch(/^HTTP\/1\.1 4(?:00|31) /)
    expect((await fetch(`${server.url}/livez`)).status).toBe(200)
  })
})

describe('metrics', () => {
  it('are text of Prometheus, each family once, with labels that are escaped', async () => {
    const text = await (await ask('/metrics')).text()
    expect(text).toContain('adflow_records_read_total{job_name="clicks"} 1000\n')
    expect(text).toContain('adflow_slots_ended_total{job_name="clicks",status="gaps"} 1\n')
    expect(text).toContain('adflow_rows_loaded_total{job_name="clicks",store="a\\"b\\\\c"} 990\n')
    expect(text).toContain('adflow_config_reload_failed 1\n')
    const names = [...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name = '', type]) => [name, type] as const)
    expect(new Set(names.map(([name]) => name)).size).toBe(names.length)
    for (const [name, type] of names) expect(name.endsWith('_total'), name).toBe(type === 'counter')
    for (const line of text.trimEnd().split('\n'))
      expect(line).toMatch(
        /^(?:# (?:HELP|TYPE) adflow_|adflow_[a-z_]+(?:\{(?:[a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)+\})? [-+\d.e]+$)/,
      )
  })
})

function face(): DaemonFace {
  const book = new SlotBook()
  const clicks = book.job('clicks')
  Object.assign(clicks, { file: '/jobs/clicks.yaml', digest: 'd', watermark: NOON })
  const slot: OpenSlot = {
    id: 'clicks@now',
    job: 'clicks',
    at: NOON,
    kind: 'cron',
    since: { segment: '', byte: 0 },
    attempts: 1,
  }
  clicks.open.push(slot)
  book.apply({
    type: 'ended',
    end: {
      id: 'clicks@before',
      job: 'clicks',
      at: NOON - 300_000,
      kind: 'cron',
      status: 'gaps',
      ok: false,
      exit: 65,
      attempts: 1,
      ended_at: '2026-03-01T11:55:02.000Z',
      seconds: 2,
      result: {
        run: 'r',
        status: 'gaps',
        seconds: 2,
        bytes: 5000,
        read: 1000,
        passed: 997,
        quarantined: 3,
        filtered: 0,
        deduplicated: 0,
        stores: { 'a"b\\c': { loaded: 990, owed: 0 }, warehouse: { loaded: 0, owed: 7 } },
        consumers: {},
        warnings: 0,
        gaps: [{ source: 's', lane: 'a', code: 'SOURCE_DAMAGED', message: 'm' }],
      },
    },
  })
  const job = {
    name: 'clicks',
    file: '/jobs/clicks.yaml',
    schedule: readSchedule(schedule.parse({ cron: '*/5 * * * *' })),
    stream: { forever: false },
  }
  return {
    role: () => role,
    startedAt: '2026-03-01T00:00:00.000Z',
    version: '1.2.3',
    folder: '/jobs',
    stateDir: '/state',
    stateOf: ({ job }) => stateDirOf('/state', job),
    holderOf: () => undefined,
    shared: () => [],
    leads: () => role === 'leading',
    parallel: 2,
    idleSeconds: () => idle,
    lease: async () => ({
      epoch: 3,
      pid: 1,
      host: 'h',
      since: '',
      url: 'http://127.0.0.1:1',
      machine: null,
      released: false,
    }),
    book: async () => book,
    jobs: () => new Map([['clicks', { job, digest: 'd', text: '' } as unknown as AcceptedJob]]),
    invalid: () => [{ file: '/jobs/x.yaml', since: '', problems: [], keeps: null }],
    reloads: () => ({ ok: 1, failed: 1 }),
    active: () => [{ slot, seconds: 1 }],
    ticks: () => 5,
    nowMs: () => NOON,
    trigger: async (name) => {
      if (name !== 'clicks') throw new AdflowError('DAEMON_REFUSED', `there is no job ${name}`)
      return 'clicks@asked'
    },
    setPaused: async () => undefined,
  }
}

function ask(path: string, init: RequestInit = {}): Promise<Response> {
  return fetch(`${server.url}${path}`, { ...init, headers: { authorization: `Bearer ${TOKEN}` } })
}

async function get<Answer = object>(path: string): Promise<Answer> {
  return (await (await ask(path)).json()) as Answer
}

function post(path: string, body: unknown): Promise<Response> {
  return ask(path, { method: 'POST', body: typeof body === 'string' ? body : JSON.stringify(body) })
}

function raw(text: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const { hostname, port } = new URL(server.url)
    const socket = connect(Number(port), hostname, () => socket.write(text))
    let answer = ''
    socket.setEncoding('latin1').on('data', (data: string) => {
      answer += data
    })
    socket.on('close', () => resolve(answer)).on('error', reject)
  })
}
