/**
 * The batches that a target holds, all of them, in one hash; and in another those that are on their way. A batch on its way has a
 * ticket: parts that turn up after it was cleared from the fences are known by it.
 */
import { hash } from 'node:crypto'
import type { BatchInfo, Since, StoreRecord } from '../../core/contracts.ts'
import { AdflowError } from '../../core/errors.ts'
import { type LanePlace, lanesToTell } from '../../core/lanes-to-tell.ts'
import { comparePositions, START } from '../../core/positions.ts'
import type { RedisClient } from './connect.ts'
import { runScript, scriptOf } from './script.ts'

export interface LedgerPlace {
  /** What the keys of adflow begin with: the prefix of the data. */
  readonly prefix: string
  /** Names what is written: loaders that write the same share it. */
  readonly target: string
  /** Id of the loader in its job. */
  readonly loader: string
}

export interface HeldBatch extends StoreRecord {
  readonly job: string
  readonly loader: string
}

export interface Begun {
  /** Of the batch in fences. */
  readonly id: string
  readonly ticket: number
  /** The newest that was given out. */
  readonly newest: number
  /** Batches on their way. */
  readonly open: string
}

/** Keys of adflow begin so, behind the prefix. */
export const OWN_KEYS = '_adflow:'

/** 64 bits: so many targets do not share a server. */
export function targetOf(written: unknown): string {
  return hash('sha256', JSON.stringify(written)).slice(0, 16)
}

/** All have the same hash tag. */
export function ledgerKeys({ prefix, target }: LedgerPlace): readonly [batches: string, open: string, tops: string] {
  const name = `${prefix}${OWN_KEYS}{${target}}`
  return [`${name}:batches`, `${name}:open`, `${name}:tops`]
}

/** A writing command that changes nothing: asks whether the server takes writes, and the user may. */
const ASK = scriptOf(`
if not redis.acl_check_cmd then return redis.error_reply('ERR this server is older than Redis 7.0') end
redis.call('HDEL', KEYS[2], '')
return redis.REDIS_VERSION
`)

/** ARGV: token, id, digest, ticket that is too old. */
const BEGIN = scriptOf(`
local held = redis.call('HGET', KEYS[1], ARGV[1])
if held then return {'held', held} end
local own = redis.call('HGET', KEYS[2], ARGV[2])
local ticket, digest = string.match(own or '', '^(%d+) (.*)$')
if digest and digest ~= ARGV[3] then return {'differs', digest} end
local newest = tonumber(redis.call('HGET', KEYS[1], '#') or '0')
ticket = tonumber(ticket or '0')
if ticket <= tonumber(ARGV[4]) then
  newest = math.max(newest, tonumber(ARGV[4])) + 1
  ticket = newest
  redis.call('HSET', KEYS[1], '#', string.format('%d', newest))
  redis.call('HSET', KEYS[2], ARGV[2], string.format('%d', ticket) .. ' ' .. ARGV[3])
end
return {'open', ticket, newest, table.concat(redis.call('HKEYS', KEYS[2]), ' ')}
`)

/**
 * Of each lane where its last batch begins, and under `#` of how many batches that is said: of all, or it counts for nothing. So a version
 * that did not know of it may have written meanwhile.
 */
const ENTER_RECORD = `
local function behind(a, b) return #a > #b or (#a == #b and a > b) end
local function entries() return redis.call('HLEN', KEYS[1]) - (redis.call('HGET', KEYS[1], '#') and 1 or 0) end
local function enter(token, record, lane, from)
  local known = entries()
  redis.call('HSET', KEYS[1], token, redis.call('HLEN', KEYS[1]) .. ' ' .. record)
  if tonumber(redis.call('HGET', KEYS[3], '#') or '0') ~= known then return end
  local top = redis.call('HGET', KEYS[3], lane)
  if not top or behind(from, top) then redis.call('HSET', KEYS[3], lane, from) end
  redis.call('HSET', KEYS[3], '#', string.format('%d', known + 1))
end
`

/** ARGV: token, id, record, lane, where it begins there. Records are numbered in the order in which they come. */
const CLOSE = scriptOf(`${ENTER_RECORD}
local held = redis.call('HGET', KEYS[1], ARGV[1])
if not held then enter(ARGV[1], ARGV[3], ARGV[4], ARGV[5]) end
redis.call('HDEL', KEYS[2], ARGV[2])
return held
`)

/** ARGV: token, id, record, lane, where it begins there, digest. A batch without rows is entered in one step, unless it was begun with other bytes. */
const ENTER = scriptOf(`${ENTER_RECORD}
local held = redis.call('HGET', KEYS[1], ARGV[1])
if held then return {'held', held} end
local digest = string.match(redis.call('HGET', KEYS[2], ARGV[2]) or '', '^%d+ (.*)$')
if digest and digest ~= ARGV[6] then return {'differs', digest} end
if not redis.call('HGET', KEYS[1], '#') then redis.call('HSET', KEYS[1], '#', '0') end
enter(ARGV[1], ARGV[3], ARGV[4], ARGV[5])
redis.call('HDEL', KEYS[2], ARGV[2])
return {'entered'}
`)

/** ARGV: of how many batches this is said, and lane and place of each. false: it was said already, or there are others by now. */
const SAY = scriptOf(`${ENTER_RECORD}
if entries() ~= tonumber(ARGV[1]) or redis.call('HGET', KEYS[3], '#') == ARGV[1] then return false end
for at = 2, #ARGV, 2 do redis.call('HSET', KEYS[3], ARGV[at], ARGV[at + 1]) end
redis.call('HSET', KEYS[3], '#', ARGV[1])
return true
`)

/** nil: not said of all batches. */
const TOPS = scriptOf(`${ENTER_RECORD}
if tonumber(redis.call('HGET', KEYS[3], '#') or '0') ~= entries() then return false end
return redis.call('HGETALL', KEYS[3])
`)

/** @returns the version of the server */
export async function askServer(client: RedisClient, place: LedgerPlace): Promise<string> {
  return String(await runScript(client, ASK, ledgerKeys(place), []))
}

export async function findBatch(
  client: RedisClient,
  place: LedgerPlace,
  token: string,
): Promise<HeldBatch | undefined> {
  const found = await client.hget(ledgerKeys(place)[0], token)
  return found === null ? undefined : recordOf(token, found).batch
}

/** How many batches the target has. */
export async function rememberedBy(client: RedisClient, place: LedgerPlace): Promise<number> {
  // One entry is the newest ticket.
  return Math.max(0, (await client.hlen(ledgerKeys(place)[0])) - 1)
}

/** `above`: a ticket that is too old already. @throws AdflowError STORE_MISMATCH where the batch began with other bytes */
export async function beginBatch(
  client: RedisClient,
  place: LedgerPlace,
  batch: BatchInfo,
  above = 0,
): Promise<Begun | HeldBatch> {
  const { digest, token } = batch
  const id = token.slice(0, 32)
  const answer = await runScript(client, BEGIN, ledgerKeys(place), [token, id, digest, above])
  const [state, ...parts] = answer as readonly unknown[]
  if (state === 'held') return recordOf(token, String(parts[0])).batch
  if (state === 'open') return { id, ticket: Number(parts[0]), newest: Number(parts[1]), open: String(parts[2]) }
  throw begunOtherwise(batch, parts[0])
}

/** Of a batch without rows. @returns what was booked before. @throws AdflowError STORE_MISMATCH where it began with other bytes */
export async function enterBatch(
  client: RedisClient,
  place: LedgerPlace,
  batch: BatchInfo,
): Promise<HeldBatch | undefined> {
  const { digest, token } = batch
  const args = [token, token.slice(0, 32), recordText(place, batch, 0), ...topOf(place, batch), digest]
  const [state, found] = (await runScript(client, ENTER, ledgerKeys(place), args)) as readonly unknown[]
  if (state === 'differs') throw begunOtherwise(batch, found)
  return state === 'held' ? recordOf(token, String(found)).batch : undefined
}

function begunOtherwise({ range, source, token }: BatchInfo, digest: unknown): AdflowError {
  return new AdflowError(
    'STORE_MISMATCH',
    `batch ${token.slice(0, 12)} (${source}, ${range.lane} ${range.from}–${range.to}) was begun with the digest ${digest}; it now has other bytes`,
    { hint: 'the source has changed under a range that was loaded in part; load it anew with an audited replay' },
  )
}

/** @returns what another writer had booked before */
export async function closeBatch(
  client: RedisClient,
  place: LedgerPlace,
  batch: BatchInfo,
  rows: number,
): Promise<HeldBatch | undefined> {
  const { token } = batch
  const args = [token, token.slice(0, 32), recordText(place, batch, rows), ...topOf(place, batch)]
  const held = await runScript(client, CLOSE, ledgerKeys(place), args)
  return held === null ? undefined : recordOf(token, String(held)).batch
}

function recordText({ loader }: LedgerPlace, { clock, digest, job, range, source }: BatchInfo, rows: number): string {
  return JSON.stringify([job, loader, source, range.lane, range.from, range.to, digest, rows, clock])
}

function topOf(
  { loader }: Pick<LedgerPlace, 'loader'>,
  { job, source, range }: Omit<BatchInfo, 'clock'>,
): [lane: string, from: string] {
  return [JSON.stringify([job, loader, source, range.lane]), range.from]
}

/** By loader too: the positions of one loader say nothing about those of another on the same target. */
export async function batchesOf(
  client: RedisClient,
  place: LedgerPlace,
  { job, since }: { readonly job: string; readonly since: Since | undefined },
): Promise<readonly StoreRecord[]> {
  const tops = since && (await topsOf(client, place, job))
  if (since !== undefined && tops !== undefined && lanesToTell(tops, since)?.length === 0) return []
  const found = new Map<string, ReturnType<typeof recordOf>>()
  const [batches] = ledgerKeys(place)
  let cursor = '0'
  do {
    const [next, fields] = await client.hscan(batches, cursor, 'COUNT', 1000)
    for (let at = 0; at < fields.length; at += 2) {
      const [token = '', record = ''] = [fields[at], fields[at + 1]]
      if (token !== '#') found.set(token, recordOf(token, record))
    }
    cursor = next
  } while (cursor !== '0')
  if (since !== undefined) await say(client, place, found)
  return [...found.values()]
    .filter(({ batch }) => batch.job === job && batch.loader === place.loader)
    .sort((a, b) => a.order - b.order)
    .map(({ batch: { token, source, range, digest, rows, clock } }) => ({
      token,
      source,
      range,
      digest,
      rows,
      ...(clock === undefined ? {} : { clock }),
    }))
}

/** Where the last batch of each lane begins; undefined: it is not known of all. */
async function topsOf(client: RedisClient, place: LedgerPlace, job: string): Promise<LanePlace[] | undefined> {
  const answer = await runScript(client, TOPS, ledgerKeys(place), [])
  if (!Array.isArray(answer)) return undefined
  const tops: LanePlace[] = []
  for (let at = 0; at < answer.length; at += 2) {
    if (answer[at] === '#') continue
    const [of, loader, source, lane] = JSON.parse(String(answer[at])) as string[]
    if (of === job && loader === place.loader)
      tops.push({ source: String(source), lane: String(lane), at: String(answer[at + 1]) })
  }
  return tops
}

/** Lanes in one script, which holds up the server. */
const MOST_SAID = 10_000

/** Lets the next start ask for less. */
async function say(
  client: RedisClient,
  place: LedgerPlace,
  found: ReadonlyMap<string, { readonly batch: HeldBatch }>,
): Promise<void> {
  const tops = new Map<string, string>()
  for (const { batch } of found.values()) {
    const [lane, from] = topOf(batch, batch)
    if (comparePositions(from, tops.get(lane) ?? START) >= 0) tops.set(lane, from)
  }
  if (tops.size <= MOST_SAID) await runScript(client, SAY, ledgerKeys(place), [found.size, ...[...tops].flat()])
}

function recordOf(token: string, text: string): { readonly batch: HeldBatch; readonly order: number } {
  const [, order = '', json = ''] = /^(\d+) (.*)$/s.exec(text) ?? []
  const [job, loader, source, lane, from, to, digest, rows, clock] = JSON.parse(json) as readonly string[]
  const range = { lane: String(lane), from: String(from), to: String(to) }
  const batch = { job, loader, source, digest, clock } as Record<
    'job' | 'loader' | 'source' | 'digest' | 'clock',
    string
  >
  return { batch: { token, range, rows: Number(rows), ...batch }, order: Number(order) }
}
