import { describe, expect, it } from 'vitest'
import { isSecretName, redact, registerSecret } from '../../../src/core/job/secrets.ts'

describe('redact', () => {
  it('replaces a secret everywhere, also as it looks in URLs and in JSON', () => {
    registerSecret('p@ss "word"')
    expect(redact('a p@ss "word" b p@ss "word"')).toBe('a *** b ***')
    expect(redact(`https://u:${encodeURIComponent('p@ss "word"')}@h`)).toBe('https://u:***@h')
    expect(redact(JSON.stringify({ password: 'p@ss "word"' }))).toBe('{"password":"***"}')
  })

  it('leaves no end of a secret that contains another', () => {
    registerSecret('abcd')
    registerSecret('xx-abcd-yy')
    expect(redact('xx-abcd-yy abcd')).toBe('*** ***')
  })

  it('leaves words alone that are as short as three letters', () => {
    registerSecret('the')
    registerSecret('')
    expect(redact('the end')).toBe('the end')
  })

  it('takes a lone surrogate', () => {
    registerSecret('bad\ud800secret')
    expect(redact('bad\ud800secret')).toBe('***')
  })
})

it.each([
  ['DB_PASSWORD', true],
  ['aws_secret_access', true],
  ['API_TOKEN', true],
  ['MASK_KEY', true],
  ['GOOGLE_APPLICATION_CREDENTIALS', true],
  ['DB_HOST', false],
])('the variable %s holds a secret: %s', (name, secret) => {
  expect(isSecretName(name)).toBe(secret)
})
