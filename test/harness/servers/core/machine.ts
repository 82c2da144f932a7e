/** What the machine has, and how to put more on it. Versions are pinned by whoever asks. */
import { execFile } from 'node:child_process'
import { constants } from 'node:fs'
import { access } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { promisify } from 'node:util'
import { holding } from './lock.ts'

const execute = promisify(execFile)
const LONGEST_INSTALL_MS = 1_200_000
const OUTPUT_BYTES = 64 * 1024 * 1024

export interface CommandOptions {
  readonly cwd?: string
  readonly env?: Readonly<Record<string, string>>
}

/** stdout of a command. @throws Error with what it printed. */
export async function command(program: string, args: readonly string[], options: CommandOptions = {}): Promise<string> {
  try {
    const { stdout } = await execute(program, args, {
      cwd: options.cwd,
      env: { ...process.env, ...options.env },
      maxBuffer: OUTPUT_BYTES,
      timeout: LONGEST_INSTALL_MS,
    })
    return stdout
  } catch (error) {
    const { stderr = '', stdout = '' } = error as { stderr?: string; stdout?: string }
    const said = `${stdout}\n${stderr}`.trim().split('\n').slice(-20).join('\n')
    throw new Error(`${program} ${args.join(' ')} failed\n${said}`, { cause: error })
  }
}

/** Where a program stands; `folders` are looked through before PATH. */
export async function findProgram(name: string, folders: readonly string[] = []): Promise<string | undefined> {
  // sshd stands where only root's PATH looks.
  const path = [...folders, ...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/sbin']
  for (const folder of path) {
    try {
      await access(join(folder, name), constants.X_OK)
      return join(folder, name)
    } catch {
      // not in this one
    }
  }
  return undefined
}

/** A program, from Debian's packages where the machine lacks it. @throws Error naming the package when that cannot be done. */
export async function programFromDebian(
  name: string,
  packages: readonly string[],
  find: () => Promise<string | undefined> = () => findProgram(name),
): Promise<string> {
  const found = await find()
  if (found !== undefined) return found
  const byHand = `apt-get install ${packages.join(' ')}`
  if ((await findProgram('apt-get')) === undefined || process.getuid?.() !== 0)
    throw new Error(`${name} is missing; install it: ${byHand} (the harness does it itself as root on Debian)`)
  const installed = await holding('apt', async () => {
    // Another may have installed it while we waited.
    if ((await find()) === undefined) await aptInstall(packages)
    return find()
  })
  if (installed === undefined) throw new Error(`${byHand} went through, but there is no ${name}`)
  return installed
}

async function aptInstall(packages: readonly string[]): Promise<void> {
  const install = () =>
    command('apt-get', ['install', '--yes', '--no-install-recommends', '-o', 'DPkg::Lock::Timeout=600', ...packages], {
      env: { DEBIAN_FRONTEND: 'noninteractive' },
    })
  try {
    await install()
  } catch {
    // The lists of packages are missing on a fresh machine, and name packages that are gone on an old one.
    await command('apt-get', ['update'])
    await install()
  }
}
