import { readFileSync } from 'node:fs'
import SftpClient from 'ssh2-sftp-client'
import { expect, it } from 'vitest'
import { freshFolder } from './fresh.ts'
import { serverSuite } from './suite.ts'

await serverSuite('the SFTP server of the harness', ['sftp'], ({ sftp }) => {
  it('lets its key in, appends, renames, and has the host key of known_hosts', async () => {
    await using folder = await freshFolder(sftp)
    const url = new URL(sftp.url)
    const client = new SftpClient()
    let hostKey = ''
    await client.connect({
      host: url.hostname,
      port: Number(url.port),
      username: url.username,
      privateKey: readFileSync(sftp.privateKey),
      hostVerifier: (key: Buffer) => {
        hostKey = key.toString('base64')
        return true
      },
    })
    try {
      await client.put(Buffer.from('hello '), `${folder.path}/a`)
      await client.append(Buffer.from('world'), `${folder.path}/a`)
      await client.posixRename(`${folder.path}/a`, `${folder.path}/b`)
      expect(String(await client.get(`${folder.path}/b`))).toBe('hello world')
    } finally {
      await client.end()
    }
    expect(readFileSync(sftp.knownHosts, 'utf8')).toContain(hostKey)
  })
})
