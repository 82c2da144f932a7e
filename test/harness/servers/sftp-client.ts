/** The client of SFTP as tests use it. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import SftpClient from 'ssh2-sftp-client'
import type { SftpEndpoint } from './sftp.ts'

/** The caller ends it. */
export async function sftpClient({ url, privateKey }: SftpEndpoint): Promise<SftpClient> {
  const { hostname: host, port, username } = new URL(url)
  const nothing = () => undefined
  const client = new SftpClient('test', { error: nothing, end: nothing, close: nothing })
  // Small requests and answers one after the other would wait 40 ms each.
  const sock = connect({ host, port: Number(port) }).setNoDelay(true)
  await client.connect({ sock, username, privateKey: readFileSync(privateKey) })
  return client
}

/** A folder of the server as a folder of this machine. Returns the files, relative to it. */
export async function downloadFolder(client: SftpClient, path: string, to: string): Promise<readonly string[]> {
  mkdirSync(to, { recursive: true })
  const found: string[] = []
  for (const { name, type } of await client.list(path)) {
    if (type === 'd') {
      const below = await downloadFolder(client, `${path}/${name}`, join(to, name))
      found.push(...below.map((file) => `${name}/${file}`))
    } else {
      // Asked to write the file itself, the client answers before it has; of an empty one it makes an empty array.
      const bytes = await client.get(`${path}/${name}`)
      writeFileSync(join(to, name), Buffer.isBuffer(bytes) ? bytes : '')
      found.push(name)
    }
  }
  return found.sort()
}
