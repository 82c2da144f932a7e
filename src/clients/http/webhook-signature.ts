/** Signatures of the Standard Webhooks specification, v1: HMAC-SHA256 over `id.timestamp.body`. */
import { createHmac } from 'node:crypto'

const PREFIX = 'whsec_'
const BASE64 = /^[A-Za-z0-9+/]+={0,2}$/
/** What the specification asks of a key. */
const MIN_BYTES = 24
const MAX_BYTES = 64

/** The key of a secret; undefined where the text is none. */
export function webhookKey(secret: string): Buffer | undefined {
  const text = secret.startsWith(PREFIX) ? secret.slice(PREFIX.length) : secret
  if (!BASE64.test(text)) return undefined
  const key = Buffer.from(text, 'base64')
  return key.length < MIN_BYTES || key.length > MAX_BYTES ? undefined : key
}

/** Headers of one attempt. With several keys the receiver may hold any of them: that is how keys are exchanged. */
export function signWebhook(
  keys: readonly Buffer[],
  { id, body, seconds }: { readonly id: string; readonly body: string | Buffer; readonly seconds: number },
): Record<string, string> {
  const signatures = keys.map((key) =>
    createHmac('sha256', key).update(`${id}.${seconds}.`).update(body).digest('base64'),
  )
  return {
    'webhook-id': id,
    'webhook-timestamp': String(seconds),
    ...(keys.length === 0 ? {} : { 'webhook-signature': signatures.map((signature) => `v1,${signature}`).join(' ') }),
  }
}
