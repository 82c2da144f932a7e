import { randomBytes } from 'node:crypto'
import { Webhook } from 'standardwebhooks'
import { describe, expect, it } from 'vitest'
import { signWebhook, webhookKey } from '../../../src/clients/http/webhook-signature.ts'

const secretOf = (bytes: number) => `whsec_${randomBytes(bytes).toString('base64')}`
const message = { id: 'billing_9f86d081884c7d65_17', body: '{"spend":"0.004418","name":"Müller 😀"}' }

function headers(...secrets: string[]) {
  const keys = secrets.flatMap((secret) => webhookKey(secret) ?? [])
  return signWebhook(keys, { ...message, seconds: Math.floor(Date.now() / 1000) })
}

describe('a signature', () => {
  it('is one that the library of Standard Webhooks takes', () => {
    const secret = secretOf(32)
    expect(new Webhook(secret).verify(message.body, headers(secret))).toEqual(JSON.parse(message.body))
  })

  it('holds for each of several keys, so that keys can be exchanged', () => {
    const [old, next, foreign] = [secretOf(24), secretOf(64), secretOf(32)]
    for (const secret of [old, next])
      expect(() => new Webhook(secret).verify(message.body, headers(old, next))).not.toThrow()
    expect(() => new Webhook(foreign).verify(message.body, headers(old, next))).toThrow(/signature/i)
  })

  it('does not hold for another body, another id or another time', () => {
    const secret = secretOf(32)
    const receiver = new Webhook(secret)
    const signed = headers(secret)
    expect(() => receiver.verify(`${message.body} `, signed)).toThrow()
    expect(() => receiver.verify(message.body, { ...signed, 'webhook-id': 'other' })).toThrow()
    const later = String(Number(signed['webhook-timestamp']) + 1)
    expect(() => receiver.verify(message.body, { ...signed, 'webhook-timestamp': later })).toThrow()
  })
})

describe('a secret', () => {
  it.each([
    ['too short', `whsec_${'A'.repeat(20)}`],
    ['too long', secretOf(65)],
    ['not base64', 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS!'],
    ['empty', 'whsec_'],
  ])('that is %s is none', (_, secret) => {
    expect(webhookKey(secret)).toBeUndefined()
  })
})
