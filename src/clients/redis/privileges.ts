/** The commands that a loader runs, and which of them its user may not. */
import { type LedgerPlace, ledgerKeys } from './batch-ledger.ts'
import type { RedisClient } from './connect.ts'
import type { DataOptions } from './data-options.ts'
import type { ConnectionOptions } from './options.ts'
import { runScript, scriptOf } from './script.ts'

/** ARGV: JSON of commands with arguments. */
const LACKING = scriptOf(`
if not redis.acl_check_cmd then return redis.error_reply('ERR this server is older than Redis 7.0') end
local lacking = {}
for _, command in ipairs(cjson.decode(ARGV[1])) do
  if not redis.acl_check_cmd(unpack(command)) then lacking[#lacking + 1] = command[1] end
end
return lacking
`)

export async function lackingCommands(
  client: RedisClient,
  options: DataOptions & ConnectionOptions,
  place: LedgerPlace,
): Promise<readonly string[]> {
  const commands = JSON.stringify(commandsOf(options))
  return (await runScript(client, LACKING, ledgerKeys(place), [commands])) as readonly string[]
}

/** Each with arguments of its kind. */
function commandsOf({ as, increment, prefix, ttl, wait }: DataOptions & ConnectionOptions): readonly string[][] {
  const key = `${prefix}x`
  const kinds = {
    hash: [],
    string: [
      ['set', key, 'v'],
      ['del', key],
    ],
    sorted_set: [['zadd', key, '0', 'm']],
    counter:
      increment === undefined
        ? [
            ['hincrby', key, 'f', '1'],
            ['hmget', key, 'f'],
          ]
        : [
            ['incrby', key, '1'],
            ['get', key],
          ],
    stream: [['xadd', key, '*', 'f', 'v']],
  }
  return [
    ['evalsha', '0', '1', key],
    ['eval', '', '1', key],
    ['hget', key, 'f'],
    ['hset', key, 'f', 'v'],
    ['hdel', key, 'f'],
    ['hlen', key],
    ['hkeys', key],
    ['hgetall', key],
    ['hscan', key, '0'],
    ['type', key],
    ...kinds[as],
    ...(ttl === undefined ? [] : [['pexpire', key, '1']]),
    ...(wait === undefined ? [] : [['wait', '0', '0']]),
  ]
}
