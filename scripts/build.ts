/** Compiles src/ into a fresh dist/ and writes the command manifest, so that starting the CLI imports one command only. */
import { spawnSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Config } from '@oclif/core'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const dist = join(root, 'dist')

if (!existsSync(dist)) mkdirSync(dist)
const sources = new Set(list(join(root, 'src')).map((file) => file.replace(/\.ts$/, '')))
const compiled = spawnSync('tsc', ['-p', 'tsconfig.build.json'], { cwd: root, stdio: 'inherit' })
if (compiled.status !== 0) process.exit(compiled.status ?? 1)
for (const file of list(dist)) if (!sources.has(file.replace(/(\.d\.ts|\.js)(\.map)?$/, ''))) rmSync(join(dist, file))

rmSync(join(root, 'oclif.manifest.json'), { force: true })
const config = await Config.load({ root })
const plugin = config.plugins.get(config.name)
if (plugin === undefined || !('manifest' in plugin)) throw new Error('the CLI does not find itself as a plugin')
writeFileSync(join(root, 'oclif.manifest.json'), `${JSON.stringify(plugin.manifest)}\n`)
chmodSync(join(root, 'bin', 'run.js'), 0o755)

function list(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
}
