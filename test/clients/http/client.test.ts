import { createServer, type RequestListener, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { HttpClient, type HttpLimits, retryAfterMs } from '../../../src/clients/http/client.ts'

const LIMITS: HttpLimits = {
  connectMs: 500,
  headersMs: 5000,
  bodyMs: 5000,
  totalMs: 5000,
  maxResponseBytes: 1000,
  allowPrivate: true,
}

let server: Server | undefined
let client: HttpClient | undefined

afterEach(async () => {
  await client?.close()
  server?.closeAllConnections()
  server?.close()
})

async function post(listener: RequestListener, limits: Partial<HttpLimits> = {}, host = '127.0.0.1') {
  const listening = createServer(listener)
  server = listening
  await new Promise<void>((resolve) => listening.listen(0, '127.0.0.1', resolve))
  client = new HttpClient({ ...LIMITS, ...limits })
  const url = `http://${host}:${(listening.address() as AddressInfo).port}/hook`
  return client.request({ method: 'POST', url, headers: { 'content-type': 'text/plain' }, body: 'hello' })
}

describe('a request', () => {
  it('gives status, headers and the beginning of the body', async () => {
    const response = await post((request, reply) => {
      reply.writeHead(418, { 'X-Seen': `${request.method} ${request.url}` }).end('a'.repeat(5000))
    })
    expect(response.status).toBe(418)
    expect(response.headers['x-seen']).toBe('POST /hook')
    expect(response.body.toString()).toBe('a'.repeat(1000))
  })

  it('follows no redirect', async () => {
    let requests = 0
    const response = await post((_, reply) => {
      requests += 1
      reply.writeHead(302, { location: 'http://169.254.169.254/latest/meta-data/' }).end()
    })
    expect({ status: response.status, requests }).toEqual({ status: 302, requests: 1 })
  })

  it('that gets no answer ends at its time', async () => {
    await expect(post(() => undefined, { totalMs: 100 })).rejects.toThrow('no answer within 0.1 s')
    await client?.close()
    server?.closeAllConnections()
    await expect(post(() => undefined, { headersMs: 100 })).rejects.toThrow(/Headers Timeout/)
  })

  it('that is answered and cut off then keeps its status', async () => {
    const response = await post((_, reply) => {
      reply.writeHead(200, { 'content-length': '100' })
      reply.write('part')
      setImmediate(() => reply.destroy())
    })
    expect(response.status).toBe(200)
  })

  it('reaches no private address, by number or by name, unless it may', async () => {
    let requests = 0
    const count: RequestListener = (_, reply) => {
      requests += 1
      reply.end()
    }
    await expect(post(count, { allowPrivate: false })).rejects.toThrow(/127\.0\.0\.1 is not a public address/)
    server?.close()
    await expect(post(count, { allowPrivate: false }, 'localhost')).rejects.toThrow(/localhost leads to/)
    expect(requests).toBe(0)
  })

  it('speaks nothing but HTTP', async () => {
    client = new HttpClient(LIMITS)
    await expect(client.request({ method: 'GET', url: 'file:///etc/passwd', headers: {} })).rejects.toThrow(
      'cannot speak file:',
    )
  })
})

describe('Retry-After', () => {
  const now = Date.parse('2026-03-01T12:00:00Z')
  it.each([
    ['120', 120_000],
    ['Sun, 01 Mar 2026 12:00:30 GMT', 30_000],
    ['Sun, 01 Mar 2026 11:00:00 GMT', 0],
    ['soon', undefined],
    [undefined, undefined],
  ])('%s is %s milliseconds', (value, expected) => {
    expect(retryAfterMs(value, now)).toBe(expected)
  })
})
