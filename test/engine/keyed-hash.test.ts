import { createHmac } from 'node:crypto'
import { tmpdir } from 'node:os'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { hmacPads, hmacSql } from '../../src/engine/keyed-hash.ts'
import { Engine, type Session } from '../../src/engine/session.ts'

let engine: Engine
let session: Session
beforeAll(async () => {
  engine = await Engine.open({ memoryBytes: 100_000_000, threads: 1, tempFolder: tmpdir() })
  session = await engine.connect()
})
afterAll(() => {
  session.close()
  engine.close()
})

/** RFC 4231, cases 1–4, 6 and 7, and the ends of the key's length. */
test.each([
  ['0b'.repeat(20), 'Hi There'],
  [Buffer.from('Jefe').toString('hex'), 'what do ya want for nothing?'],
  ['aa'.repeat(20), '\xdd'.repeat(50)],
  ['aa'.repeat(131), 'Test Using Larger Than Block-Size Key - Hash Key First'],
  ['', ''],
  ['ff'.repeat(64), '€'],
  ['00'.repeat(65), 'x'],
])('equals node:crypto for the key %s', async (hex, text) => {
  const key = Buffer.from(hex, 'hex')
  const { inner, outer } = hmacPads(key)
  await session.setSecret('inner', inner)
  await session.setSecret('outer', outer)
  const value = `'${Buffer.from(text).toString('hex')}'`
  const digest = await session.value(
    `SELECT ${hmacSql(`getvariable('inner')`, `getvariable('outer')`, `unhex(${value})`)}`,
  )
  expect(digest).toBe(createHmac('sha256', key).update(text).digest('hex'))
})
