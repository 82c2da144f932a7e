/** An HTTP receiver before something is sent to it: asked by HEAD, which changes nothing and carries no credential. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { TLSSocket } from 'node:tls'
import type { DiagnoseEnv, Finding } from '../../core/diagnosis.ts'
import type { Findings } from '../../core/findings.ts'
import { HttpClient, type HttpLimits } from './client.ts'

/** Receivers of signed webhooks refuse what is older or newer. */
const SIGNED_WITHIN_MS = 300_000

const CONNECTED = 'undici:client:connected'

/** Never rejects. `url` may hold secrets in its path: none of it is shown. */
export async function diagnoseEndpoint(
  at: Findings,
  url: string,
  limits: Pick<HttpLimits, 'connectMs' | 'allowPrivate'>,
  { answerMs, signal, now }: DiagnoseEnv,
): Promise<Finding[]> {
  const http = new HttpClient({
    ...limits,
    connectMs: Math.min(limits.connectMs, answerMs),
    headersMs: answerMs,
    bodyMs: answerMs,
    totalMs: answerMs,
    maxResponseBytes: 0,
  })
  const certificate = certificateOf(url)
  try {
    const askedMs = now()
    const { status, headers } = await http.request({ method: 'HEAD', url, headers: { 'user-agent': 'adflow' }, signal })
    const answeredMs = now()
    const reached =
      status >= 500
        ? at.warning(
            'reachable',
            `answers ${status}`,
            'ask whoever runs the receiver; what is sent meanwhile waits and is tried again',
          )
        : at.ok('reachable', `answers (${status} to HEAD)`)
    const systemMs = Date.parse(headers['date'] ?? '')
    const clock = Number.isNaN(systemMs)
      ? []
      : [
          at.clock({
            ...{ systemMs, askedMs, answeredMs, resolutionMs: 1000 },
            refused: { beyondMs: SIGNED_WITHIN_MS, code: 'CONSUMER_UNAVAILABLE' },
          }),
        ]
    return [
      reached,
      tls(at, url, { allowPrivate: limits.allowPrivate, secured: certificate.read(), nowMs: now() }),
      ...clock,
    ]
  } catch (error) {
    return [at.failed('reachable', 'CONSUMER_UNAVAILABLE', ...explained(error))]
  } finally {
    certificate.forget()
    await http.close()
  }
}

interface Secured {
  readonly protocol: string
  readonly validToMs: number
}

function tls(
  at: Findings,
  url: string,
  {
    allowPrivate,
    secured,
    nowMs,
  }: { readonly allowPrivate: boolean; readonly secured: Secured | undefined; readonly nowMs: number },
): Finding {
  if (url.startsWith('https:')) return at.tls(secured?.protocol ?? 'TLS', secured?.validToMs, nowMs)
  if (allowPrivate) return at.ok('tls', 'not encrypted')
  return at.warning('tls', 'not encrypted: rows can be read on the way', 'use https://')
}

/** undici tells of each connection that it makes, and shows its socket nowhere else. */
function certificateOf(url: string): { read(): Secured | undefined; forget(): void } {
  const { host } = new URL(url)
  let secured: Secured | undefined
  const listen = (message: unknown) => {
    const { connectParams, socket } = message as { connectParams: { host: string }; socket: unknown }
    if (connectParams.host !== host || !(socket instanceof TLSSocket)) return
    secured = {
      protocol: socket.getProtocol() ?? 'TLS',
      validToMs: Date.parse(socket.getPeerCertificate().valid_to),
    }
  }
  subscribe(CONNECTED, listen)
  return { read: () => secured, forget: () => void unsubscribe(CONNECTED, listen) }
}

/** What was found, and what to do. */
function explained(error: unknown): [string, string] {
  const { code = '', message } = error as NodeJS.ErrnoException
  if (code === 'ADFLOW_PRIVATE_ADDRESS') return [message, 'set `allow_private: true` for a receiver of your own']
  if (/CERT|TLS|SELF_SIGNED|LEAF_SIGNATURE|ISSUER/.test(code))
    return [
      message,
      'the receiver must renew its certificate, or this machine must know its authority (NODE_EXTRA_CA_CERTS)',
    ]
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN') return [message, 'check the host in `url`, and DNS']
  return [
    message === '' ? code || 'no answer' : message,
    'check `url`, and that the receiver runs; what is sent meanwhile waits',
  ]
}
