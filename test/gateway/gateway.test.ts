import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { request } from 'node:http'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import pino from 'pino'
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest'
import { JournalFetcher } from '../../src/clients/push/journal-fetcher.ts'
import { pushOptions } from '../../src/clients/push/options.ts'
import { Gateway } from '../../src/gateway/gateway.ts'
import type { SourceSettings } from '../../src/gateway/push-source.ts'

const root = await mkdtemp(join(tmpdir(), 'adflow-gateway-'))
const WEB = 'a-token-of-the-web-of-32-characters'
const PARTNER = 'a-token-of-a-partner-of-32-characters'
const NDJSON = { 'content-type': 'application/x-ndjson' }
let cases = 0
let gateway: (Gateway & { readonly url: string }) | undefined

beforeEach(() => {
  cases += 1
})
afterEach(async () => {
  await gateway?.close()
  gateway = undefined
})
afterAll(() => rm(root, { recursive: true, force: true }))

const folderOf = (source: string) => join(root, String(cases), source)

function settings(source: string, options: object = {}): SourceSettings {
  return { job: 'j', source, folder: folderOf(source), options: pushOptions.parse(options) }
}

async function start(sources: readonly SourceSettings[], more: { memoryBytes?: number; host?: string } = {}) {
  gateway = await Gateway.start(
    {
      host: more.host ?? '127.0.0.1',
      port: 0,
      memoryBytes: more.memoryBytes ?? 64 << 20,
      connections: 50,
      log: pino({ level: 'silent' }),
      command: 'test',
    },
    sources,
  )
}

interface Told {
  readonly status: number
  readonly headers: Headers
  readonly body: {
    readonly receipt?: string
    readonly accepted?: number
    readonly error?: { readonly code: string }
  } & Record<string, unknown>
}

async function post(
  path: string,
  body: string | Uint8Array<ArrayBuffer>,
  headers: Record<string, string> = {},
): Promise<Told> {
  const response = await fetch(`${gateway?.url}/push/j/${path}`, {
    method: 'POST',
    body,
    headers: { 'content-type': 'application/json', ...headers },
  })
  return { status: response.status, headers: response.headers, body: (await response.json()) as Told['body'] }
}

async function stored(source: string, lane = 'events'): Promise<string[]> {
  const lines: string[] = []
  await new JournalFetcher({ job: 'j', source, folder: folderOf(source), lanes: [lane] }).fetch({
    ...{ lane, origin: lane, cursor: undefined, segmentBytes: 1 << 20, maxRecordBytes: 1 << 20 },
    signal: new AbortController().signal,
    sink: {
      pageBytes: 0,
      isFullBy: () => false,
      write: async (bytes) => void lines.push(...bytes.toString().split('\n').slice(0, -1)),
      page: async () => undefined,
      drop: async () => undefined,
      format: async () => undefined,
    },
  })
  return lines
}

describe('the gateway', () => {
  it('takes one event, an array, lines, gzip and zstd, and answers when they are stored', async () => {
    await start([settings('s')])
    const event = '{"id":9007199254740993}'
    expect(await post('s', event)).toMatchObject({ status: 202, body: { accepted: 1, rejected: 0 } })
    expect(await post('s/events', `[${event},${event}]`)).toMatchObject({ status: 202, body: { accepted: 2 } })
    expect(await post('s', `${event}\n${event}`, NDJSON)).toMatchObject({ status: 202, body: { accepted: 2 } })
    const zipped = gzipSync(event)
    expect(await post('s', zipped, { 'content-encoding': 'gzip' })).toMatchObject({ status: 202 })
    expect(await post('s', zstdCompressSync(event), { 'content-encoding': 'zstd' })).toMatchObject({ status: 202 })
    expect(await stored('s')).toEqual(Array.from({ length: 7 }, () => event))
  })

  it('keeps the good events of a body, and names the others', async () => {
    await start([settings('s')])
    const told = await post('s', '{"n":1}\n{"n":\n[]\n{"n":2}\n', NDJSON)
    expect(told).toMatchObject({
      status: 422,
      body: {
        receipt: expect.stringMatching(/^[0-9a-f]{8}-/),
        accepted: 2,
        rejected: 2,
        error: { code: 'bad_records' },
        records: [
          { index: 1, line: 2, reason: 'not_json' },
          { index: 2, line: 3, reason: 'not_an_object' },
        ],
      },
    })
    expect(await post('s', '[1]')).toMatchObject({ status: 422, body: { receipt: null, accepted: 0, rejected: 1 } })
    expect(await stored('s')).toEqual(['{"n":1}', '{"n":2}'])
  })

  it('stores a key once, also when it comes many times at once and after a start, and no other body under it', async () => {
    await start([settings('s')])
    const key = { 'idempotency-key': 'k1' }
    const at_once = await Promise.all(Array.from({ length: 20 }, () => post('s', '[{"n":1},7]', key)))
    const again = await post('s', '[{"n":1},7]', key)
    expect(new Set([...at_once, again].map(({ body }) => JSON.stringify(body))).size).toBe(1)
    expect(again.headers.get('idempotent-replayed')).toBe('true')
    await gateway?.close()
    await start([settings('s')])
    const later = await post('s', '[{"n":1},7]', key)
    expect(later.body).toEqual(again.body)
    expect(later.headers.get('idempotent-replayed')).toBe('true')
    expect(await post('s', '[{"n":2}]', key)).toMatchObject({ status: 422, body: { error: { code: 'key_reused' } } })
    expect(await post('s', '[{"n":2}]', { 'idempotency-key': 'k2' })).toMatchObject({ status: 202 })
    expect(await stored('s')).toEqual(['{"n":1}', '{"n":2}'])
  })

  it('asks for the token of the source, and keeps the keys of pushers apart', async () => {
    const tokens = [
      { name: 'web', token: WEB },
      { name: 'partner', token: PARTNER },
    ]
    await start([settings('s', { tokens }), settings('t', { tokens: tokens.slice(0, 1) })])
    const as = (token: string) => ({ authorization: `Bearer ${token}`, 'idempotency-key': 'same' })
    const without = await post('s', '{}')
    expect([without.status, without.headers.get('www-authenticate')]).toEqual([401, 'Bearer'])
    expect((await post('s', '{}', { authorization: `Bearer ${WEB}x` })).status).toBe(401)
    expect((await post('t', '{}', as(PARTNER))).status).toBe(403)
    expect((await post('s', '{"n":1}', as(WEB))).status).toBe(202)
    expect((await post('s', '{"n":2}', as(PARTNER))).status).toBe(202)
    expect(await stored('s')).toEqual(['{"n":1}', '{"n":2}'])
  })

  it.each([
    ['an unknown source', 'x', '{}', {}, 404, 'not_found'],
    ['an unknown lane', 's/x', '{}', {}, 404, 'not_found'],
    ['another type', 's', '{}', { 'content-type': 'text/plain' }, 415, 'unsupported_type'],
    ['another charset', 's', '{}', { 'content-type': 'application/json; charset=latin1' }, 415, 'unsupported_type'],
    ['another encoding', 's', '{}', { 'content-encoding': 'br' }, 415, 'unsupported_encoding'],
    ['what is no gzip', 's', '{}', { 'content-encoding': 'gzip' }, 400, 'malformed'],
    ['an array that breaks off', 's', '[{"n":1}', {}, 400, 'malformed'],
    ['nothing', 's', ' ', {}, 400, 'empty'],
    ['a key with a space', 's', '{}', { 'idempotency-key': 'a b' }, 400, 'bad_key'],
    ['a body that is too large', 's', `{"n":"${'x'.repeat(3000)}"}`, {}, 413, 'too_large'],
    ['a bomb', 's', gzipSync('x'.repeat(1 << 20)), { 'content-encoding': 'gzip' }, 413, 'too_large'],
    ['too many events', 's', '{}\n'.repeat(11), NDJSON, 413, 'too_many_events'],
  ] as const)('refuses %s', async (_, path, body, headers, status, code) => {
    await start([settings('s', { max_body: '2KiB', max_events: 10 })])
    expect(await post(path, body, headers)).toMatchObject({ status, body: { accepted: 0, error: { code } } })
    expect(await stored('s')).toEqual([])
  })

  it('answers 429 beyond the quota of a token, and says when to come again', async () => {
    const tokens = [
      { name: 'web', token: WEB, events_per_second: 0.1 },
      { name: 'partner', token: PARTNER, bytes_per_second: '1B' },
    ]
    await start([settings('s', { tokens })])
    for (const [token, waits] of [
      [WEB, 20],
      [PARTNER, 15],
    ] as const) {
      const headers = { authorization: `Bearer ${token}` }
      expect((await post('s', '[{"n":1},{"n":2}]', headers)).status).toBe(202)
      const refused = await post('s', '{"n":3}', headers)
      expect(refused).toMatchObject({ status: 429, body: { error: { code: 'quota' } } })
      expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(waits / 2)
    }
  })

  it('answers 429 when the journal is full, until the job has loaded some', async () => {
    await start([settings('s', { max_pending: '4KiB' })])
    const event = `{"text":"${'x'.repeat(200)}"}`
    let accepted = 0
    for (; accepted < 50; accepted += 1) {
      const { status, headers, body } = await post('s', event)
      if (status === 202) continue
      expect([status, body.error?.code]).toEqual([429, 'full'])
      expect(Number(headers.get('retry-after'))).toBeGreaterThan(0)
      break
    }
    expect(accepted).toBeGreaterThan(5)
    expect(accepted).toBeLessThan(20)
    const fetcher = new JournalFetcher({ job: 'j', source: 's', folder: folderOf('s'), lanes: ['events'] })
    const files = (await readdir(join(folderOf('s'), 'events'))).filter((name) => name.endsWith('.journal')).sort()
    await fetcher.confirm('events', `${Number(files.at(-1)?.slice(0, 12))}:24`)
    await expect.poll(async () => (await post('s', event)).status, { timeout: 20_000 }).toBe(202)
  })

  it('answers 429 when too many bytes are under way', async () => {
    await start([settings('s', { max_body: '1MiB' })], { memoryBytes: 1 << 20 })
    const refused = await post('s', `{"text":"${'x'.repeat(400_000)}"}`)
    expect(refused).toMatchObject({ status: 429, body: { error: { code: 'busy' } } })
    expect((await post('s', '{"n":1}')).status).toBe(202)
  })

  it('stores nothing of a body that ends before its Content-Length', async () => {
    await start([settings('s')])
    const { port } = new URL(gateway?.url ?? '')
    const socket = connect(Number(port), '127.0.0.1')
    await new Promise<void>((resolve) => {
      socket.write(
        'POST /push/j/s HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nContent-Length: 100\r\n\r\n{"n":1}\n',
        () => resolve(),
      )
    })
    socket.destroy()
    expect((await post('s', '{"n":2}')).status).toBe(202)
    expect(await stored('s')).toEqual(['{"n":2}'])
  })

  it('asks a client that waits for its body only where it wants it', async () => {
    await start([settings('s', { max_body: '1KiB' })])
    const ask = (bytes: number) =>
      new Promise<{ status: number | undefined; sent: boolean }>((resolve, reject) => {
        let sent = false
        const outgoing = request(`${gateway?.url}/push/j/s`, {
          method: 'POST',
          headers: { 'content-type': 'application/json', 'content-length': bytes, expect: '100-continue' },
        })
        outgoing.on('continue', () => {
          sent = true
          outgoing.end(`{"n":"${'x'.repeat(bytes - 8)}"}`)
        })
        outgoing.on('response', (response) => {
          response.resume()
          resolve({ status: response.statusCode, sent })
          outgoing.destroy()
        })
        outgoing.on('error', reject)
        outgoing.flushHeaders()
      })
    expect(await ask(100)).toEqual({ status: 202, sent: true })
    expect(await ask(5000)).toEqual({ status: 413, sent: false })
  })

  it('answers what is under way before it ends, and takes nothing new', async () => {
    await start([settings('s')])
    const slow = new Promise<{ status: number | undefined; closes: string | undefined }>((resolve, reject) => {
      const outgoing = request(`${gateway?.url}/push/j/s`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', 'content-length': 7, expect: '100-continue' },
      })
      outgoing.on('error', reject)
      outgoing.on('response', (response) => {
        response.resume()
        resolve({ status: response.statusCode, closes: response.headers.connection })
      })
      outgoing.on('continue', () => {
        const closed = gateway?.close()
        void fetch(`${gateway?.url}/push/j/s`, { method: 'POST', body: '{}' }).then(
          () => reject(new Error('something new was taken')),
          () => outgoing.end('{"n":1}'),
        )
        closed?.catch(reject)
      })
      outgoing.flushHeaders()
    })
    expect(await slow).toEqual({ status: 202, closes: 'close' })
    await gateway?.close()
    expect(await stored('s')).toEqual(['{"n":1}'])
  })

  it('has one process for a source: another says 503 until it is gone', async () => {
    await start([settings('s')])
    const first = gateway
    await start([settings('s')])
    const refused = await post('s', '{}')
    expect(refused).toMatchObject({ status: 503, headers: expect.anything(), body: { error: { code: 'unavailable' } } })
    expect((await fetch(`${gateway?.url}/readyz`)).status).toBe(503)
    expect((await fetch(`${gateway?.url}/livez`)).status).toBe(200)
    await first?.close()
    await expect.poll(async () => (await post('s', '{}')).status, { timeout: 20_000 }).toBe(202)
    expect((await fetch(`${gateway?.url}/readyz`)).status).toBe(200)
  })

  it('listens to other machines only where every source has tokens', async () => {
    await expect(start([settings('s')], { host: '0.0.0.0' })).rejects.toMatchObject({ code: 'TOKEN_UNSAFE' })
    await start([settings('s', { tokens: [{ name: 'web', token: WEB }] })], { host: '0.0.0.0' })
    await gateway?.configure([settings('s'), settings('t', { tokens: [{ name: 'web', token: WEB }] })])
    expect((await post('s', '{}')).status).toBe(404)
    expect((await post('t', '{}', { authorization: `Bearer ${WEB}` })).status).toBe(202)
  })
})
