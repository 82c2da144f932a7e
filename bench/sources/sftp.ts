/** One file on OpenSSH; its plain client gets it. */
import { copyFileSync, mkdirSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { startPrivate } from '../../test/harness/servers/private.ts'
import type { BenchSource } from './source.ts'

export const source: BenchSource = {
  async start({ path }) {
    const server = await startPrivate('sftp')
    const { url, privateKey, knownHosts } = server.endpoint
    const { hostname, pathname, port, username } = new URL(url)
    const folder = join(pathname, 'events')
    const file = join(folder, 'events.ndjson')
    mkdirSync(folder)
    copyFileSync(path, file)
    const script = join(dirname(dirname(fileURLToPath(import.meta.url))), 'peers', 'get-sftp.ts')
    return {
      extract: {
        type: 'sftp',
        url: url.replace(pathname, ''),
        path: folder,
        private_key: privateKey,
        known_hosts: knownHosts,
        settle: '0s',
      },
      clients: [
        {
          name: 'ssh2-sftp-client',
          argv: [process.execPath, script, hostname, port, username, privateKey, file, String(statSync(path).size)],
        },
      ],
      end: () => server.end(),
    }
  },
}
