import { spawnSync } from 'node:child_process'
import { accessSync, constants, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import pkg from '../../package.json' with { type: 'json' }

interface NodeVersion {
  readonly MINIMUM: readonly number[]
  tooOld(version: string): string | undefined
}

// Plain JavaScript, because any Node must be able to read it: its types are said here.
const { MINIMUM, tooOld }: NodeVersion = await import(new URL('../../bin/node-version.js', import.meta.url).href)
const run = fileURLToPath(new URL('../../bin/run.js', import.meta.url))

/** A Node on the PATH that is older than adflow needs. */
function oldNode(): string | undefined {
  const folders = (process.env['PATH'] ?? '').split(delimiter).filter((folder) => !folder.includes('node_modules'))
  return folders
    .map((folder) => join(folder, 'node'))
    .find((file) => {
      try {
        accessSync(file, constants.X_OK)
      } catch {
        return false
      }
      return tooOld(spawnSync(file, ['--version'], { encoding: 'utf8' }).stdout.trim()) !== undefined
    })
}

describe('the Node version', () => {
  it.each(['v18.20.0', 'v20.20.2', 'v22.21.9', 'v21.99.0'])('%s is too old', (version) => {
    expect(tooOld(version)).toMatch(`adflow needs Node >= 22.22, this is ${version}`)
    expect(tooOld(version)).not.toContain('\n')
  })

  it.each(['v22.22.0', 'v23.0.0', 'v24.21.0', 'v100.0.0'])('%s will do', (version) => {
    expect(tooOld(version)).toBeUndefined()
  })

  it('is the one that package.json declares', () => {
    expect(pkg.engines.node).toBe(`>=${MINIMUM.join('.')}`)
  })

  const node = oldNode()
  it.skipIf(node === undefined)(
    'too old ends the CLI with one line and exit code 78, before anything is imported (needs an old Node on the PATH)',
    () => {
      const { status, stdout, stderr } = spawnSync(node ?? '', [run, '--version'], { encoding: 'utf8' })
      expect({ status, stdout }).toEqual({ status: 78, stdout: '' })
      expect(stderr).toMatch(/^adflow needs Node >= 22\.22, this is v\d+\.\d+\.\d+[^\n]*\n$/)
    },
  )
})

describe('compiled code', () => {
  it.each([
    ['in a folder of the user', 'cache', true],
    ['nowhere, in silence, where that is not a folder', 'file', false],
  ])('is kept %s', (_, name, kept) => {
    const folder = mkdtempSync(join(tmpdir(), 'adflow-cache-'))
    writeFileSync(join(folder, 'file'), '')
    const { NODE_COMPILE_CACHE: _unset, ...env } = process.env
    try {
      const ran = spawnSync(process.execPath, [run, '--version'], {
        encoding: 'utf8',
        env: { ...env, XDG_CACHE_HOME: join(folder, name) },
      })
      expect([ran.status, ran.stderr]).toEqual([0, ''])
      expect(readdirSync(folder).sort()).toEqual(kept ? ['cache', 'file'] : ['file'])
      if (kept) expect(readdirSync(join(folder, name, 'adflow'))).toHaveLength(1)
    } finally {
      rmSync(folder, { recursive: true })
    }
  })
})
