import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { beforeEach, expect, it } from 'vitest'
import { temporaryFolder } from './cli.ts'
import { ROOT } from './repository.ts'

let out: string
let code: number | null

/** Runs the tests of S3 where its server cannot be installed: the cache would be inside a file. */
async function withoutServer(ci: string): Promise<void> {
  const folder = temporaryFolder('closing-line')
  const file = join(ROOT, 'package.json')
  const env = Object.entries(process.env).filter(([name]) => !/^(?:VITEST|ADFLOW_TEST_|CI$|NODE_OPTIONS$)/.test(name))
  const args = ['run', '--project', 'servers', 'test/harness/servers/s3.server.test.ts']
  out = ''
  const child = spawn(join(ROOT, 'node_modules', '.bin', 'vitest'), args, {
    cwd: ROOT,
    env: { ...Object.fromEntries(env), XDG_CACHE_HOME: file, CI: ci, NO_COLOR: '1', TMPDIR: folder.path },
  })
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (text: Buffer) => {
      out += text
    })
  try {
    code = await new Promise((resolve, reject) => child.on('close', resolve).on('error', reject))
  } finally {
    folder.remove()
  }
}

beforeEach(() => {
  code = null
})

it('counts a suite without its server apart, and says why it was skipped', async () => {
  await withoutServer('')
  expect(out).toMatch(/skipped: S3 of the harness[\s\S]*no server: s3: ENOTDIR/)
  expect(out.trimEnd().split('\n').at(-1)).toBe('0 passed, 0 failed, 1 skipped')
  expect(code).toBe(0)
})

it('fails in CI when a server is missing', async () => {
  await withoutServer('true')
  expect(out).toContain('in CI every server must start')
  expect(out.trimEnd().split('\n').at(-1)).toBe('0 passed, 1 failed')
  expect(code).toBe(1)
})
