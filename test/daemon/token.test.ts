import { chmod, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { digestOf, sameToken } from '../../src/core/bearer.ts'
import { ensureToken, readToken, requireToken } from '../../src/daemon/token.ts'

const TOKEN = 'a-token-that-has-more-than-32-characters'
let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'adflow-token-'))
})
afterEach(() => rm(folder, { recursive: true }))

describe('the token', () => {
  it('is that of the environment, else of the file, else one that is made up once', async () => {
    const file = join(folder, 'mine')
    await writeFile(file, `${TOKEN}\n`, { mode: 0o600 })
    const env = { ADFLOW_DAEMON_TOKEN: `${TOKEN}-of-env` }
    expect(await ensureToken({ env, file, folder })).toBe(`${TOKEN}-of-env`)
    expect(await ensureToken({ env: {}, file, folder })).toBe(TOKEN)
    const made = await Promise.all(Array.from({ length: 5 }, () => ensureToken({ env: {}, folder })))
    expect(new Set(made).size).toBe(1)
    expect(made[0]).toHaveLength(43)
    expect((await stat(join(folder, 'token'))).mode & 0o777).toBe(0o600)
    expect(await readToken({ env: {}, folder })).toBe((await readFile(join(folder, 'token'), 'utf8')).trim())
  })

  it('is refused when others can read its file, when it is short, and when its file is not there', async () => {
    const file = join(folder, 'mine')
    await writeFile(file, TOKEN, { mode: 0o600 })
    await chmod(file, 0o640)
    await expect(ensureToken({ env: {}, file, folder })).rejects.toMatchObject({ code: 'TOKEN_UNSAFE', message: /640/ })
    await expect(ensureToken({ env: { ADFLOW_DAEMON_TOKEN: 'short' }, folder })).rejects.toMatchObject({
      code: 'TOKEN_UNSAFE',
    })
    await expect(ensureToken({ env: {}, file: join(folder, 'none'), folder })).rejects.toMatchObject({
      code: 'LOCAL_IO',
    })
  })

  it('is needed for any address but loopback', () => {
    for (const host of ['127.0.0.1', '127.0.0.2', 'localhost', '::1']) requireToken(host, { env: {} })
    for (const host of ['0.0.0.0', '::', '10.0.0.1', '127.example.com', ''])
      expect(() => requireToken(host, { env: {} }), host).toThrow(/can be reached from other machines/)
    requireToken('0.0.0.0', { env: { ADFLOW_DAEMON_TOKEN: TOKEN } })
  })

  it('is told from all others', () => {
    expect(sameToken(digestOf(TOKEN), TOKEN)).toBe(true)
    for (const other of ['', TOKEN.slice(1), `${TOKEN} `]) expect(sameToken(digestOf(TOKEN), other)).toBe(false)
  })
})
