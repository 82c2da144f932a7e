/** MinIO: a second S3 server, for what must not depend on the first one. Slow to build; the long tests use it. */
import { join } from 'node:path'
import { goProgram } from './core/cache.ts'
import { defineServer } from './core/kind.ts'
import { answers } from './core/process.ts'
import { S3_KEYS, type S3Endpoint } from './core/s3.ts'

const VERSION = 'v0.0.0-20260212201848-7aac2a2c5b7c'
const program = () => goProgram('minio', 'github.com/minio/minio', VERSION)

export default defineServer<S3Endpoint>({
  name: 'minio',
  summary: 'MinIO of 2026-02-12',
  variables: {
    url: 'ADFLOW_TEST_MINIO_URL',
    accessKeyId: 'ADFLOW_TEST_MINIO_ACCESS_KEY_ID',
    secretAccessKey: 'ADFLOW_TEST_MINIO_SECRET_ACCESS_KEY',
    region: 'ADFLOW_TEST_MINIO_REGION',
  },
  defaults: S3_KEYS,

  async install() {
    await program()
  },

  async start(context) {
    const port = await context.port()
    await context.run({
      command: await program(),
      args: ['server', '--quiet', '--address', `127.0.0.1:${port}`, context.disk()],
      env: {
        MINIO_ROOT_USER: S3_KEYS.accessKeyId,
        MINIO_ROOT_PASSWORD: S3_KEYS.secretAccessKey,
        MINIO_UPDATE: 'off',
        MINIO_BROWSER: 'off',
      },
      log: join(context.folder.path, 'log'),
      ready: () => answers(`http://127.0.0.1:${port}/minio/health/ready`),
    })
    return { url: `http://127.0.0.1:${port}`, ...S3_KEYS }
  },
})
