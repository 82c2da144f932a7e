/** One process of Redis: alone, or as a node of a cluster. */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type { StartContext } from './kind.ts'
import { command, programFromDebian } from './machine.ts'
import type { ServerProcess } from './process.ts'

export const REDIS_PASSWORD = 'adflow'

export interface RedisNode {
  readonly port: number
  readonly process: ServerProcess
}

export async function startNode(
  context: StartContext,
  dir: string,
  settings: Readonly<Record<string, string>>,
): Promise<RedisNode> {
  const port = await context.port()
  mkdirSync(dir, { recursive: true })
  const all = {
    port: String(port),
    bind: '127.0.0.1',
    dir,
    requirepass: REDIS_PASSWORD,
    masterauth: REDIS_PASSWORD,
    save: '',
    // What was acknowledged survives a SIGKILL.
    appendonly: 'yes',
    appendfsync: 'always',
    ...settings,
  }
  const process = await context.run({
    command: await programFromDebian('redis-server', ['redis-server', 'redis-tools']),
    args: Object.entries(all).flatMap(([key, value]) => [`--${key}`, ...value.split(' ')]),
    log: join(context.folder.path, `${port}.log`),
    ready: async () => (await redisCli(port, 'ping')) === 'PONG',
  })
  return { port, process }
}

/** What redis-cli prints; empty while the server does not listen. */
export async function redisCli(port: number, ...args: readonly string[]): Promise<string> {
  try {
    const cli = ['-h', '127.0.0.1', '-p', String(port), '--no-auth-warning', ...args]
    return (await command('redis-cli', cli, { env: { REDISCLI_AUTH: REDIS_PASSWORD } })).trim()
  } catch {
    return ''
  }
}
