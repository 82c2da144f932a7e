/**
 * Installed servers, outside the repository and shared by all clones. An entry is made in a folder beside its place and
 * renamed into it: an installation that was killed is never taken for one that is complete.
 */
import { existsSync } from 'node:fs'
import { chmod, mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { holding } from './lock.ts'
import { command, findProgram, programFromDebian } from './machine.ts'

function cacheFolder(): string {
  return join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'adflow-test')
}

/** The folder of an entry, made by `install` in an empty folder if it is not there. `entry` carries the version. */
export async function cached(entry: string, install: (folder: string) => Promise<void>): Promise<string> {
  const place = join(cacheFolder(), entry)
  if (existsSync(place)) return place
  return holding(place, async () => {
    if (existsSync(place)) return place // by another process, while we waited
    const partial = `${place}.partial`
    await rm(partial, { recursive: true, force: true })
    await mkdir(partial, { recursive: true })
    await install(partial)
    await rename(partial, place)
    return place
  })
}

/** A program that `go install` builds. */
export async function goProgram(name: string, module: string, version: string): Promise<string> {
  const folder = await cached(`${name}-${version}`, async (target) => {
    await politely(await goCommand(), ['install', '-trimpath', `${module}@${version}`], {
      env: { GOBIN: target, CGO_ENABLED: '0', GOFLAGS: '-buildvcs=false' },
    })
  })
  return join(folder, module.split('/').at(-1) ?? name)
}

const TOOLCHAIN = 'go1.25.4'
/** Since then `go` fetches the toolchain that a module asks for by itself. */
const FIRST_TO_FETCH = 21

/** The one of the machine, or where that is older (Debian 12 has 1.19) one that it fetches, checked by Go's own database of sums. */
async function goCommand(): Promise<string> {
  const go = await programFromDebian('go', ['golang-go'])
  const [, minor] = /^go1\.(\d+)/.exec(await command(go, ['env', 'GOVERSION'])) ?? []
  if (Number(minor) >= FIRST_TO_FETCH) return go
  const folder = await cached(TOOLCHAIN, async (target) => {
    const version = `v0.0.1-${TOOLCHAIN}.linux-${process.arch === 'arm64' ? 'arm64' : 'amd64'}`
    await writeFile(join(target, 'go.mod'), 'module toolchain\n')
    await politely(go, ['mod', 'download', `golang.org/toolchain@${version}`], {
      cwd: target,
      env: { GOMODCACHE: join(target, 'modules'), GOFLAGS: '-modcacherw' },
    })
    await rename(join(target, 'modules', 'golang.org', `toolchain@${version}`), join(target, 'go'))
    await rm(join(target, 'modules'), { recursive: true })
    // Modules keep no permissions.
    for (const programs of ['bin', 'pkg/tool']) {
      const entries = await readdir(join(target, 'go', programs), { recursive: true, withFileTypes: true })
      for (const entry of entries) if (entry.isFile()) await chmod(join(entry.parentPath, entry.name), 0o755)
    }
  })
  return join(folder, 'go', 'bin', 'go')
}

/** The node_modules of npm packages (`name@version`). Nothing of them runs while they are installed. */
export async function npmPackages(name: string, packages: readonly string[]): Promise<string> {
  const version = packages[0]?.split('@').at(-1) ?? ''
  const folder = await cached(`${name}-${version}`, async (target) => {
    await writeFile(join(target, 'package.json'), '{"private":true}\n')
    const quiet = ['--no-audit', '--no-fund', '--ignore-scripts', '--loglevel=error']
    await politely('npm', ['install', ...quiet, ...packages], { cwd: target })
  })
  return join(folder, 'node_modules')
}

/** At low priority: tests run beside the installation. It ends when the harness does, so that none works on unseen. */
export async function politely(
  program: string,
  args: readonly string[],
  options: Parameters<typeof command>[2],
): Promise<void> {
  const [nice, setpriv] = [await findProgram('nice'), await findProgram('setpriv')]
  const wrapped = [
    ...(setpriv === undefined ? [] : [setpriv, '--pdeathsig=TERM', '--']),
    ...(nice === undefined ? [] : [nice, '-n', '10']),
    program,
    ...args,
  ]
  await command(wrapped[0] ?? program, wrapped.slice(1), options)
}
