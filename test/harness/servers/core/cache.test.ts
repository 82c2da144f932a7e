import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { temporaryFolder } from '../../cli.ts'

const CHILD = fileURLToPath(new URL('../../install-child.ts', import.meta.url))

let cache: ReturnType<typeof temporaryFolder>

beforeEach(() => {
  cache = temporaryFolder('cache')
})

afterEach(() => {
  cache.remove()
})

/** Installs an entry that notes each installation in `log`. `die`: it kills itself half way. */
async function install(how: 'whole' | 'die'): Promise<{ code: number | null; signal: string | null }> {
  const child = spawn(process.execPath, [CHILD, how, join(cache.path, 'log')], {
    env: { ...process.env, XDG_CACHE_HOME: cache.path },
    stdio: 'inherit',
  })
  const [code, signal] = (await once(child, 'exit')) as [number | null, string | null]
  return { code, signal }
}

const installations = () => (existsSync(join(cache.path, 'log')) ? readFileSync(join(cache.path, 'log'), 'utf8') : '')

it('installs once when several ask at the same time', async () => {
  const ends = await Promise.all([install('whole'), install('whole'), install('whole')])
  expect(ends.map(({ code }) => code)).toEqual([0, 0, 0])
  expect(installations()).toBe('installed\n')
  expect(readdirSync(join(cache.path, 'adflow-test', 'thing-1'))).toEqual(['program'])
})

it('starts again where an installation was killed half way', async () => {
  expect((await install('die')).signal).toBe('SIGKILL')
  expect(readdirSync(join(cache.path, 'adflow-test'))).toEqual(['thing-1.partial'])
  expect((await install('whole')).code).toBe(0)
  expect(readdirSync(join(cache.path, 'adflow-test'))).toEqual(['thing-1'])
})

it('takes what is there', async () => {
  mkdirSync(join(cache.path, 'adflow-test', 'thing-1'), { recursive: true })
  writeFileSync(join(cache.path, 'adflow-test', 'thing-1', 'program'), '')
  expect((await install('whole')).code).toBe(0)
  expect(installations()).toBe('')
})
