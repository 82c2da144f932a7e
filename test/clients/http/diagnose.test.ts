import { readFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import { createServer as createSecureServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { getCACertificates, setDefaultCACertificates } from 'node:tls'
import { afterEach, describe, expect, it } from 'vitest'
import webhook from '../../../src/consumers/webhook.ts'
import { type DiagnosisOptions, diagnosed, statuses } from '../../harness/diagnosis.ts'
import { makeCertificate } from '../../harness/servers/core/certificates.ts'
import { makeFolder } from '../../harness/servers/core/folder.ts'
import { SECRET } from '../../harness/webhook-receiver.ts'

let server: Pick<Server, 'close' | 'closeAllConnections'> | undefined
afterEach(() => {
  server?.closeAllConnections()
  server?.close()
  server = undefined
})

/** Requests that a receiver got, and its URL. */
async function receiver(status = 405) {
  const requests: string[] = []
  const listening = createServer((request, response) => {
    requests.push(`${request.method} ${request.url} ${request.headers.authorization ?? ''}`)
    if (status !== 0) response.writeHead(status).end()
  })
  server = listening
  await new Promise<void>((resolve) => listening.listen(0, '127.0.0.1', resolve))
  return { requests, url: `http://127.0.0.1:${(listening.address() as AddressInfo).port}/hook/s3cret-path` }
}

const asked = (options: Readonly<Record<string, unknown>>, env?: DiagnosisOptions) =>
  diagnosed(
    webhook,
    { secret: SECRET, allow_private: true, headers: { authorization: 'Bearer s3cret-header' }, ...options },
    env,
  )

describe('the receiver of a webhook', () => {
  it('is asked without a credential and without a body, and shown without its path', async () => {
    const { requests, url } = await receiver()
    const findings = await asked({ url })
    expect(statuses(findings)).toEqual({ reachable: 'ok', tls: 'ok', clock: 'ok' })
    expect(requests).toEqual(['HEAD /hook/s3cret-path '])
    expect(JSON.stringify(findings)).not.toContain('s3cret')
  })

  it('refuses signatures of a clock that is far away', async () => {
    const { url } = await receiver()
    const at = (apart: number) => asked({ url }, { now: () => Date.now() + apart })
    expect(statuses(await at(60_000))).toMatchObject({ clock: 'warning' })
    expect(statuses(await at(600_000))).toMatchObject({ clock: 'failed CONSUMER_UNAVAILABLE' })
  })

  it('shows a certificate that must be known, and tells when it ends', async () => {
    const folder = makeFolder('certificate')
    const { authorityFile, certificateFile, keyFile } = await makeCertificate(folder)
    const [cert, key] = [readFileSync(certificateFile), readFileSync(keyFile)]
    const listening = createSecureServer({ cert, key }, (_, response) => response.writeHead(405).end())
    server = listening
    await new Promise<void>((resolve) => listening.listen(0, '127.0.0.1', resolve))
    const url = `https://127.0.0.1:${(listening.address() as AddressInfo).port}/`
    expect(await asked({ url })).toMatchObject([
      { check: 'reachable', code: 'CONSUMER_UNAVAILABLE', mend: expect.stringContaining('NODE_EXTRA_CA_CERTS') },
    ])
    setDefaultCACertificates([...getCACertificates(), readFileSync(authorityFile, 'utf8')])
    expect((await asked({ url })).find(({ check }) => check === 'tls')).toMatchObject({
      status: 'warning',
      found: 'TLSv1.3, and the certificate of the server ends in 24 h',
    })
    folder.remove()
  })

  it('answers with an error of its own', async () => {
    const { url } = await receiver(503)
    expect(statuses(await asked({ url }))).toMatchObject({ reachable: 'warning' })
  })

  it('is silent', async () => {
    const { url } = await receiver(0)
    expect(await asked({ url }, { timeoutMs: 500 })).toMatchObject([
      { check: 'reachable', status: 'failed', code: 'CONSUMER_UNAVAILABLE', found: 'no answer within 0.3 s' },
    ])
  })

  it('is not there, and each place is named where there are several', async () => {
    const { url } = await receiver()
    const findings = await asked({ url: [url, 'http://127.0.0.1:1/hook'] })
    expect(findings.filter(({ check }) => check === 'reachable')).toMatchObject([
      { status: 'ok', place: new URL(url).origin },
      { status: 'failed', place: 'http://127.0.0.1:1', code: 'CONSUMER_UNAVAILABLE' },
    ])
  })

  it('is private', async () => {
    const { url, requests } = await receiver()
    expect(await asked({ url, allow_private: false })).toMatchObject([
      { status: 'failed', mend: expect.stringContaining('allow_private: true') },
    ])
    expect(requests).toEqual([])
  })
})
