/** Scripts that the server runs, each as one step: all of it happens or nothing. */
import { hash } from 'node:crypto'
import type { RedisClient } from './connect.ts'

export interface Script {
  readonly lua: string
  readonly sha: string
}

export function scriptOf(lua: string): Script {
  return { lua, sha: hash('sha1', lua) }
}

/** All keys are named, so that the server checks privileges and slots of all of them before it begins. */
export async function runScript(
  client: RedisClient,
  { lua, sha }: Script,
  keys: readonly string[],
  args: readonly (string | number)[],
): Promise<unknown> {
  try {
    return await client.evalsha(sha, keys.length, ...keys, ...args)
  } catch (error) {
    if (!(error instanceof Error) || !error.message.startsWith('NOSCRIPT')) throw error
    return client.eval(lua, keys.length, ...keys, ...args)
  }
}
