/**
 * Installed servers, outside the repository and shared by all clones. An entry is made in a folder beside its place and
 * renamed into it: an installation that was killed is never taken for one that is complete.
 */
import { existsSync } from 'node:fs'
import { mkdir, rename, rm, writeFile } from 'node:fs/promises'
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
    const go = await programFromDebian('go', ['golang-go'])
    await politely(go, ['install', '-trimpath', `${module}@${version}`], {
      env: { GOBIN: target, CGO_ENABLED: '0', GOFLAGS: '-buildvcs=false' },
    })
  })
  return join(folder, module.split('/').at(-1) ?? name)
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
