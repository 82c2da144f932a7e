import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, describe, expect, it } from 'vitest'
import { interpolate } from '../../../src/core/job/interpolate.ts'
import { redact } from '../../../src/core/job/secrets.ts'

const folder = mkdtempSync(join(tmpdir(), 'adflow-interpolate-'))
afterAll(() => rmSync(folder, { recursive: true }))

const env = { HOST: 'db.example', EMPTY: '', REF: '${HOST}', DB_PASSWORD: 'hunter-22', NAME_2: 'two' }

function text(source: string) {
  return interpolate(source, env, folder).value
}

function failureOf(source: string) {
  return interpolate({ list: [source] }, env, folder).failures
}

describe('a substitution', () => {
  it.each([
    ['${HOST}', 'db.example'],
    ['http://${HOST}:80/${NAME_2}', 'http://db.example:80/two'],
    ['${EMPTY}', ''],
    ['${EMPTY:-none}', 'none'],
    ['${MISSING:-none}', 'none'],
    ['${MISSING:-}', ''],
    ['${MISSING:-a:-b ?c}', 'a:-b ?c'],
    ['${HOST:-none}', 'db.example'],
    ['${HOST:?set it}', 'db.example'],
    ['$${HOST}', '${HOST}'],
    ['$${HOST} is ${HOST}', '${HOST} is db.example'],
    ['$HOST and 5$', '$HOST and 5$'],
    ['${REF}', '${HOST}'],
  ])('%s gives %s', (source, expected) => {
    expect(text(source)).toBe(expected)
  })

  it.each([
    [
      '${MISSING}',
      'VARIABLE_MISSING',
      'the variable MISSING is not set',
      'set it, or give a default: ${MISSING:-default}',
    ],
    ['${MISSING:?ask Kim}', 'VARIABLE_MISSING', 'the variable MISSING is not set: ask Kim', 'set MISSING'],
    ['${EMPTY:?}', 'VARIABLE_MISSING', 'the variable EMPTY is empty', 'set EMPTY'],
    ['${__proto__}', 'VARIABLE_MISSING', 'the variable __proto__ is not set', expect.any(String)],
    ['${HOST', 'JOB_INVALID', '`${HOST` has no closing brace', 'close it; for a literal `${` write `$${`'],
    ['${}', 'JOB_INVALID', '`${}` is no substitution', expect.stringContaining('${VAR:-default}')],
    ['${a b}', 'JOB_INVALID', '`${a b}` is no substitution', expect.stringContaining('$${')],
    ['${HOST:+x}', 'JOB_INVALID', '`${HOST:+x}` is no substitution', expect.any(String)],
    [
      '${file:none}',
      'SECRET_UNREADABLE',
      expect.stringMatching(/cannot read the secret file .*none: ENOENT/),
      expect.any(String),
    ],
  ])('%s fails with %s', (source, code, message, suggestion) => {
    expect(failureOf(source)).toEqual([{ path: ['list', 0], code, message, suggestion }])
  })

  it('reaches values at any depth, and neither keys nor numbers', () => {
    const tree = { '${HOST}': [{ a: '${HOST}', n: 5, big: 9007199254740993n, none: null }] }
    expect(interpolate(tree, env, folder).value).toEqual({
      '${HOST}': [{ a: 'db.example', n: 5, big: 9007199254740993n, none: null }],
    })
  })

  it('is noted where it is the whole value', () => {
    const { whole } = interpolate({ a: '${HOST}', b: 'x${HOST}', c: '$${HOST}', d: '${HOST}${HOST}' }, env, folder)
    expect([...whole]).toEqual(['["a"]'])
  })

  it('of a secret is left as it was in what may be shown', () => {
    writeFileSync(join(folder, 'pw'), 'from-file-77\r\n')
    const result = interpolate('pg://u:${DB_PASSWORD}@${HOST}/${file:pw}', env, folder)
    expect(result.value).toBe('pg://u:hunter-22@db.example/from-file-77')
    expect(result.published).toBe('pg://u:${DB_PASSWORD}@db.example/${file:pw}')
    expect(redact(`login ${String(result.value)}`)).toBe('login pg://u:***@db.example/***')
  })

  it('gives back any text unchanged, whatever is in it', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (content) => {
        expect(interpolate('<${X}>', { X: content }, folder).value).toBe(`<${content}>`)
      }),
    )
  })
})
