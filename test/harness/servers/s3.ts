/** versitygw: an S3 gateway over a folder. */
import { join } from 'node:path'
import { goProgram } from './core/cache.ts'
import { defineServer } from './core/kind.ts'
import { accepts } from './core/process.ts'
import { S3_KEYS, type S3Endpoint } from './core/s3.ts'

const VERSION = 'v1.8.0'
const program = () => goProgram('versitygw', 'github.com/versity/versitygw/cmd/versitygw', VERSION)

export default defineServer<S3Endpoint>({
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

  async start(context) {
    const port = await context.port()
    const data = context.disk()
    await context.run({
      command: await program(),
      args: [
        ...['--port', `127.0.0.1:${port}`, '--region', S3_KEYS.region, '--quiet'],
        ...['posix', '--versioning-dir', context.folder.make('versions'), data],
      ],
      // Not as arguments: those are for all users of the machine to read.
      env: { ROOT_ACCESS_KEY_ID: S3_KEYS.accessKeyId, ROOT_SECRET_ACCESS_KEY: S3_KEYS.secretAccessKey },
      log: join(context.folder.path, 'log'),
      ready: () => accepts(port),
    })
    return { url: `http://127.0.0.1:${port}`, ...S3_KEYS }
  },
})
