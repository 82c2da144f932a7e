/** Runs a command in this process, from the sources, and catches what it says. */
import { Config } from '@oclif/core'
import { vi } from 'vitest'
import type { BaseCommand } from '../../src/cli/base-command.ts'

export interface Outcome {
  readonly stdout: string
  readonly stderr: string
  readonly exit: number
}

type CommandClass = new (argv: string[], config: Config) => BaseCommand

let config: Promise<Config> | undefined

/** `cwd` is where relative paths start. */
export async function runCommand(
  id: string,
  Class: CommandClass,
  argv: readonly string[],
  cwd?: string,
): Promise<Outcome> {
  config ??= Config.load(new URL('../..', import.meta.url).pathname)
  const out: string[] = []
  const err: string[] = []
  const spies = [
    vi.spyOn(console, 'log').mockImplementation((...parts) => void out.push(`${parts.join(' ')}\n`)),
    vi.spyOn(process.stderr, 'write').mockImplementation((text) => err.push(String(text)) > 0),
    ...(cwd === undefined ? [] : [vi.spyOn(process, 'cwd').mockReturnValue(cwd)]),
  ]
  const before = process.exitCode
  process.exitCode = 0
  try {
    const command = new Class([...argv], await config)
    command.id = id
    await (command as unknown as { _run(): Promise<unknown> })._run()
    return { stdout: out.join(''), stderr: err.join(''), exit: Number(process.exitCode ?? 0) }
  } finally {
    process.exitCode = before
    for (const spy of spies) spy.mockRestore()
  }
}
