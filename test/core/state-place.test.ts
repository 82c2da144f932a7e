import { resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { redact } from '../../src/core/job/secrets.ts'
import { isStateUrl, parseStatePlace } from '../../src/core/state-place.ts'
import { resolveStateDir, sharedPlace, workingDir } from '../../src/runtime/state-dir.ts'

const URL_TEXT = 'postgres://ops:verysecret@db.internal:5433/ops'

describe('the URL of a shared state', () => {
  test('names server, schema, lease and TLS; its password is printed nowhere', () => {
    const place = parseStatePlace(`${URL_TEXT}?schema=adflow_eu&lease=30s&tls=verify&ca=ca.pem`, '/etc/jobs')
    expect(place).toMatchObject({
      url: URL_TEXT,
      schema: 'adflow_eu',
      leaseMs: 30_000,
      tls: { mode: 'verify', ca: '/etc/jobs/ca.pem' },
      label: 'postgres://db.internal:5433/ops (schema adflow_eu)',
    })
    expect(parseStatePlace(`${URL_TEXT}?key=../key.pem`).tls.key).toBe(resolve('../key.pem'))
    expect(redact(`cannot open ${URL_TEXT}`)).not.toContain('verysecret')
    expect(parseStatePlace(URL_TEXT)).toMatchObject({ schema: 'adflow', leaseMs: 15_000, tls: {} })
  })

  test.each([
    ['postgres://ops@db/ops?scheme=a', /no option `scheme`/],
    ['postgres://ops@db/ops?lease=soon', /no duration/],
    ['postgres://ops@db/ops?lease=10ms', /at least 1 s/],
    ['postgres://ops@db/ops?tls=maybe', /tls=maybe/],
    ['postgres://', /does not parse/],
  ])('%s is refused', (text, message) => {
    expect(() => parseStatePlace(text)).toThrow(message)
  })

  test('is told from a folder, which then says where this machine works', () => {
    const env = { ADFLOW_STATE_DIR: '/var/lib/adflow' }
    const sources = { flag: URL_TEXT, env, jobFile: '/jobs/a.yaml' }
    const place = sharedPlace(sources)
    expect(isStateUrl('/var/lib/adflow')).toBe(false)
    expect(resolveStateDir(sources)).toBe('/var/lib/adflow')
    expect(workingDir('/var/lib/adflow', place)).toBe(`/var/lib/adflow/_shared-${place?.key}`)
    expect(workingDir('/var/lib/adflow', undefined)).toBe('/var/lib/adflow')
    // Another password is the same place; another schema is another.
    expect(parseStatePlace(URL_TEXT.replace('verysecret', 'otherone')).key).toBe(place?.key)
    expect(parseStatePlace(`${URL_TEXT}?schema=other`).key).not.toBe(place?.key)
  })
})
