/** OpenSSH that serves SFTP and nothing else, to the user who runs the tests, by key. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync } from 'node:fs'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import { defineServer } from './core/kind.ts'
import { programFromDebian } from './core/machine.ts'
import { accepts } from './core/process.ts'

export interface SftpEndpoint extends Record<string, string> {
  /** `sftp://user@host:port/folder` */
  readonly url: string
  /** File of the private key that may log in. */
  readonly privateKey: string
  /** known_hosts file that names the key of this server. */
  readonly knownHosts: string
}

export interface SftpOptions {
  /** Refuses whatever changes something. */
  readonly readOnly?: boolean
}

export default defineServer<SftpEndpoint, SftpOptions>({
  name: 'sftp',
  summary: 'OpenSSH of Debian, internal-sftp',
  variables: {
    url: 'ADFLOW_TEST_SFTP_URL',
    privateKey: 'ADFLOW_TEST_SFTP_PRIVATE_KEY',
    knownHosts: 'ADFLOW_TEST_SFTP_KNOWN_HOSTS',
  },

  async install() {
    await programFromDebian('sshd', ['openssh-server'])
    await programFromDebian('ssh-keygen', ['openssh-client'])
  },

  async start(context, { readOnly = false }) {
    const port = await context.port()
    const { folder } = context
    const files = context.disk()
    const [host, user] = [join(folder.path, 'host-key'), join(folder.path, 'user-key')]
    for (const key of [host, user])
      execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'adflow', '-f', key])
    folder.write('authorized_keys', readFileSync(`${user}.pub`, 'utf8'), 0o600)
    const config = folder.write('sshd_config', sshdConfig(folder.path, port, `-d ${files}${readOnly ? ' -R' : ''}`))
    // Where sshd of root drops its privileges to; Debian makes it at boot.
    if (process.getuid?.() === 0) mkdirSync('/run/sshd', { recursive: true })
    await context.run({
      command: await programFromDebian('sshd', ['openssh-server']),
      args: ['-D', '-e', '-f', config],
      log: join(folder.path, 'log'),
      ready: () => accepts(port),
    })
    const hostKey = readFileSync(`${host}.pub`, 'utf8').split(' ').slice(0, 2).join(' ')
    return {
      url: `sftp://${userInfo().username}@127.0.0.1:${port}${files}`,
      privateKey: user,
      knownHosts: folder.write('known_hosts', `[127.0.0.1]:${port} ${hostKey}\n`),
    }
  },
})

function sshdConfig(folder: string, port: number, served: string): string {
  return `Port ${port}
ListenAddress 127.0.0.1
HostKey ${folder}/host-key
PidFile ${folder}/sshd.pid
AuthorizedKeysFile ${folder}/authorized_keys
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
UsePAM no
StrictModes no
Subsystem sftp internal-sftp
ForceCommand internal-sftp ${served}
MaxStartups 100
MaxSessions 100
LogLevel VERBOSE
`
}
