/** versitygw: an S3 gateway over a folder; with TLS, read-only, or with users beside its root if a test wants. */
import { join } from 'node:path'
import { goProgram } from './core/cache.ts'
import type { Certificate } from './core/certificates.ts'
import { defineServer } from './core/kind.ts'
import { accepts } from './core/process.ts'
import { S3_KEYS, type S3Endpoint } from './core/s3.ts'

const VERSION = 'v1.8.0'
const program = () => goProgram('versitygw', 'github.com/versity/versitygw/cmd/versitygw', VERSION)

export interface S3Options {
  /** Serves TLS with this certificate, and nothing else. */
  readonly tls?: Certificate
  readonly readOnly?: boolean
  /** access key id → secret access key, of users who may do what policies of buckets give them. */
  readonly users?: Readonly<Record<string, string>>
}

export default defineServer<S3Endpoint, S3Options>({
  name: 's3',
  summary: `versitygw ${VERSION}`,
  variables: {
    url: 'ADFLOW_TEST_S3_URL',
    accessKeyId: 'ADFLOW_TEST_S3_ACCESS_KEY_ID',
    secretAccessKey: 'ADFLOW_TEST_S3_SECRET_ACCESS_KEY',
    region: 'ADFLOW_TEST_S3_REGION',
  },
  defaults: S3_KEYS,

  async install() {
    await program()
  },

  async start(context, { tls, readOnly = false, users = {} }) {
    const port = await context.port()
    const data = context.disk()
    const accounts = context.folder.make('accounts')
    context.folder.write('accounts/users.json', accountsText(users))
    await context.run({
      command: await program(),
      args: [
        ...['--port', `127.0.0.1:${port}`, '--region', S3_KEYS.region, '--quiet'],
        ...['--iam-dir', accounts],
        ...(tls === undefined ? [] : ['--cert', tls.certificateFile, '--key', tls.keyFile]),
        ...(readOnly ? ['--readonly'] : []),
        ...['posix', '--versioning-dir', context.folder.make('versions'), data],
      ],
      // Not as arguments: those are for all users of the machine to read.
      env: { ROOT_ACCESS_KEY_ID: S3_KEYS.accessKeyId, ROOT_SECRET_ACCESS_KEY: S3_KEYS.secretAccessKey },
      log: join(context.folder.path, 'log'),
      ready: () => accepts(port),
    })
    return { url: `${tls === undefined ? 'http' : 'https'}://127.0.0.1:${port}`, ...S3_KEYS }
  },
})

function accountsText(users: Readonly<Record<string, string>>): string {
  const accounts = Object.entries(users).map(([access, secret]) => [access, { access, secret, role: 'user' }])
  return JSON.stringify({ accessAccounts: Object.fromEntries(accounts) })
}
