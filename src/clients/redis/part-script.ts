/**
 * What the server does with a part of a batch, for each kind of data. Redis takes nothing back: what may fail is asked first, and
 * the part is marked as begun before it is written and as done after, in the fence, a hash in the slot of the data.
 */
import { type Script, scriptOf } from './script.ts'

export const KINDS = ['hash', 'string', 'sorted_set', 'counter', 'stream'] as const

export type Kind = (typeof KINDS)[number]

/** A fence with more entries is cleared of batches that are complete. */
const FENCE_ENTRIES = 16

/**
 * KEYS: fence, then the keys of the part. ARGV: batch, ticket, part, digest before and after it, newest ticket, open batches, milliseconds
 * to live, names, values, greatest length of a stream.
 * Fence: batch → `<ticket> <parts done> <digest of them>`, with ` begun` while a part is written; `#` → newest ticket that was cleared.
 * Answers: applied; held (it is there already); gap (an earlier part is missing); stale (the ticket is older than what was
 * cleared); differs (the parts before were others); damaged.
 */
const ENTRY = `
local fence, batch, ticket, part = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local before, after, newest, open, ttl = ARGV[4], ARGV[5], tonumber(ARGV[6]), ARGV[7], ARGV[8]
if not redis.acl_check_cmd then return redis.error_reply('ERR this server is older than Redis 7.0') end
local held = redis.call('HGET', fence, batch)
if held then
  local own, done, digest, begun = string.match(held, '^(%d+) (%d+) (%x+)(.*)$')
  done = tonumber(done)
  if begun ~= '' then return {'damaged', done} end
  if part < done then
    redis.call('HSET', fence, batch, held)
    return {'held', done}
  end
  if part > done then return {'gap', done} end
  if digest ~= before then return {'differs', done} end
  ticket = math.max(ticket, tonumber(own))
else
  local cleared = tonumber(redis.call('HGET', fence, '#') or '0')
  if ticket <= cleared then return {'stale', cleared} end
  if part > 0 then return {'gap', 0} end
end
local names, rows = cjson.decode(ARGV[9]), cjson.decode(ARGV[10])
local first = KEYS[2]
local function may(...)
  if redis.acl_check_cmd(...) then return nil end
  return redis.error_reply('NOPERM this user may not run ' .. ({...})[1] .. ' on ' .. ({...})[2])
end
local fresh = {}
local function typed(wanted)
  for i = 2, #KEYS do
    local found = redis.call('TYPE', KEYS[i]).ok
    fresh[i - 1] = found == 'none'
    if found ~= 'none' and found ~= wanted then
      return redis.error_reply('WRONGTYPE the key ' .. KEYS[i] .. ' holds a ' .. found .. ', not a ' .. wanted)
    end
  end
end
local function many(command, key, args)
  for from = 1, #args, 1000 do redis.call(command, key, unpack(args, from, math.min(from + 999, #args))) end
end
local refused = (ttl ~= '' and may('PEXPIRE', first, ttl)) or may('HDEL', fence, batch)
if refused then return refused end
`

const BEGIN = `
redis.call('HSET', fence, batch, ticket .. ' ' .. part .. ' ' .. (before == '' and '0' or before) .. ' begun')
`

const END = `
if ttl ~= '' then for i = 2, #KEYS do redis.call('PEXPIRE', KEYS[i], ttl) end end
redis.call('HSET', fence, batch, ticket .. ' ' .. (part + 1) .. ' ' .. after)
if redis.call('HLEN', fence) > ${FENCE_ENTRIES} then
  local cleared = tonumber(redis.call('HGET', fence, '#') or '0')
  local all = redis.call('HGETALL', fence)
  for i = 1, #all, 2 do
    local own = tonumber(string.match(all[i + 1], '^(%d+) %d+ %x+$')) or math.huge
    if all[i] ~= batch and own <= newest and not string.find(open, all[i], 1, true) then
      redis.call('HDEL', fence, all[i])
      cleared = math.max(cleared, own)
    end
  end
  redis.call('HSET', fence, '#', string.format('%d', cleared))
end
return {'applied', part + 1}
`

/** names: fields. rows: of each key the values, null where the field goes. */
const HASH = `
refused = typed('hash') or may('HSET', first, 'f', 'v') or may('HDEL', first, 'f')
if refused then return refused end
${BEGIN}
for i, row in ipairs(rows) do
  local sets, gone = {}, {}
  for f, name in ipairs(names) do
    local value = row[f]
    if value == cjson.null then gone[#gone + 1] = name
    else sets[#sets + 1] = name; sets[#sets + 1] = value end
  end
  many('HSET', KEYS[i + 1], sets)
  if not fresh[i] then many('HDEL', KEYS[i + 1], gone) end
end
`

/** rows: of each key its value, null where the key goes. */
const STRING = `
refused = typed('string') or may('SET', first, 'v') or may('DEL', first)
if refused then return refused end
${BEGIN}
for i, value in ipairs(rows) do
  if value == cjson.null then redis.call('DEL', KEYS[i + 1]) else redis.call('SET', KEYS[i + 1], value) end
end
`

/** rows: of each key [score, member]. */
const SORTED_SET = `
refused = typed('zset') or may('ZADD', first, '0', 'm')
if refused then return refused end
${BEGIN}
for i, row in ipairs(rows) do
  local args = {}
  for _, pair in ipairs(row) do args[#args + 1] = pair[1]; args[#args + 1] = pair[2] end
  many('ZADD', KEYS[i + 1], args)
end
`

/** names: fields, or empty: the key itself counts. rows: of each key the increments, null where there is none. */
const COUNTER = `
local key_counts = #names == 0
refused = typed(key_counts and 'string' or 'hash') or may(key_counts and 'INCRBY' or 'HINCRBY', first, key_counts and '1' or 'f', '1')
if refused then return refused end
for i, row in ipairs(rows) do
  if not fresh[i] then
    local now = key_counts and {redis.call('GET', KEYS[i + 1])} or redis.call('HMGET', KEYS[i + 1], unpack(names))
    for f, by in ipairs(row) do
      if now[f] and by ~= cjson.null then
        if now[f] ~= '0' and not string.find(now[f], '^%-?[1-9]%d*$') then
          return redis.error_reply('WRONGTYPE the key ' .. KEYS[i + 1] .. ' holds something that is no integer')
        end
        if math.abs(tonumber(now[f]) + tonumber(by)) > 9223372036854765568 then
          return redis.error_reply('ERR the counter ' .. KEYS[i + 1] .. ' would leave 64 bits')
        end
      end
    end
  end
end
${BEGIN}
for i, row in ipairs(rows) do
  for f, by in ipairs(row) do
    if by ~= cjson.null then
      if key_counts then redis.call('INCRBY', KEYS[i + 1], by) else redis.call('HINCRBY', KEYS[i + 1], names[f], by) end
    end
  end
end
`

/** names: fields. rows: of each key its entries, each the values, null where the field is not there. */
const STREAM = `
refused = typed('stream') or may('XADD', first, '*', 'f', 'v')
if refused then return refused end
${BEGIN}
for i, row in ipairs(rows) do
  for _, entry in ipairs(row) do
    local args = ARGV[11] == '' and {'*'} or {'MAXLEN', '~', ARGV[11], '*'}
    for f, name in ipairs(names) do
      if entry[f] ~= cjson.null then args[#args + 1] = name; args[#args + 1] = entry[f] end
    end
    redis.call('XADD', KEYS[i + 1], unpack(args))
  end
end
`

const BODIES: Readonly<Record<Kind, string>> = {
  hash: HASH,
  string: STRING,
  sorted_set: SORTED_SET,
  counter: COUNTER,
  stream: STREAM,
}

export function partScript(kind: Kind): Script {
  return scriptOf(`${ENTRY}${BODIES[kind]}${END}`)
}
