import { execFileSync } from 'node:child_process'
import { afterEach, beforeEach, expect, it } from 'vitest'
import sftp from '../../../src/loaders/sftp.ts'
import { diagnosed, statuses } from '../../harness/diagnosis.ts'
import { startPrivate } from '../../harness/servers/private.ts'
import { serverSuite } from '../../harness/servers/suite.ts'
import { type StorePlace, sftpPlace } from '../../harness/store-places.ts'

await serverSuite('the diagnosis of SFTP', ['sftp'], ({ sftp: server }) => {
  let place: StorePlace
  beforeEach(async () => {
    place = await sftpPlace(server)
  })
  afterEach(() => place.remove())

  const asked = (options: Readonly<Record<string, unknown>> = {}) => diagnosed(sftp, { ...place.options, ...options })
  const well = {
    reachable: 'ok',
    version: 'ok',
    tls: 'ok',
    target: 'ok',
    writable: 'ok',
    permission: 'unknown',
    disk: 'ok',
  }

  it('finds a folder well, or says that it would be made, and leaves no trace', async () => {
    const missing = `${place.options['path']}/deep/er`
    expect(statuses(await asked())).toEqual(well)
    expect(statuses(await asked({ path: missing }))).toEqual(well)
    expect((await asked({ path: missing })).find(({ check }) => check === 'target')?.found).toContain('would be made')
    expect(statuses(await asked({ path: missing, create: 'never' }))).toMatchObject({ target: 'failed STORE_MISMATCH' })
    expect(await place.traces()).toEqual([])
  })

  it('names a key that is not known, a login that is refused, and a server that is not there', async () => {
    expect(statuses(await asked({ known_hosts: 'no-such-file' }))).toEqual({ reachable: 'failed STORE_DENIED' })
    const { private_key, ...rest } = place.options
    const login = await diagnosed(sftp, { ...rest, password: 'wrong-pass-word' })
    expect(statuses(login)).toEqual({ reachable: 'failed STORE_DENIED' })
    expect(JSON.stringify(login)).not.toContain('wrong-pass-word')
    expect(private_key).toBeDefined()
    expect(statuses(await diagnosed(sftp, place.at('127.0.0.1', 1, 'none')))).toEqual({
      reachable: 'failed STORE_UNAVAILABLE',
    })
  })

  it('knows a server that takes no writes, without writing', async () => {
    await using own = await startPrivate('sftp', { readOnly: true })
    const folder = new URL(own.endpoint.url).pathname
    execFileSync('ls', [folder])
    const url = own.endpoint.url.slice(0, -folder.length)
    const { privateKey, knownHosts } = own.endpoint
    const options = { url, path: folder, private_key: privateKey, known_hosts: knownHosts, format: 'csv' }
    expect(statuses(await diagnosed(sftp, options))).toMatchObject({ writable: 'failed STORE_DENIED' })
    expect(execFileSync('ls', ['-A', folder], { encoding: 'utf8' })).toBe('')
  })
})
