/** The SQL that makes ad traffic: every column is a function of the record's position, so any slice can be made alone. */
import { codeOf, type DefectCounts, type DefectPlan, defectAt, isDefect, originalOf, planDefects } from './defects.ts'
import { keyOf, sqlHash, sqlPick } from './random.ts'
import { type Campaign, campaignsOf, DEVICE_OS, HOURLY_WEIGHT, PLACES, PUBLISHERS } from './reference.ts'

export const EVENT_TYPES = ['impression', 'click', 'conversion'] as const
const WRONG_TYPES = ['view', 'install', 'IMPRESSION', 'bid_request'] as const

const DAY_MS = 86_400_000
/** Pieces of equal traffic into which a day is cut. */
const PIECES = 48
/** Sub-positions between two records: their random distance. */
const JITTER = 256
/** Slots per block: one of them may be a click. */
const BLOCK = 64
/** Blocks per superblock: one slot of it may be a conversion. */
const SUPERBLOCK = 8
const CAMPAIGN_SLOTS = 1024
const USERS_LOG2 = 18

/** One call of `adflow sample`: the first makes the folder, each further one appends to it. */
export interface Batch {
  readonly seed: number
  /** 0 for the first batch, then 1, 2 …. */
  readonly index: number
  /** Records made by earlier batches: event ids go on from there. */
  readonly first: number
  readonly rows: number
  /** Epoch milliseconds of a midnight UTC. */
  readonly startMs: number
  readonly days: number
  readonly defects: DefectCounts
}

/** Event ids of a seed start here: between 7·10^18 and 8·10^18, where neighbours are one and the same double. */
const firstEventId = (seed: number): bigint =>
  7_000_000_000_000_000_000n + (keyOf(seed, 'ids') % 1_000_000n) * 1_000_000_000_000n

/**
 * SQL of the records at positions `[from, to)` of a batch, in order, over the table `slots`. Columns:
 * `defect` (code), `dice` (random, only where defect > 0), `event_id`, `event_type`, `event_ms`, `received_ms`,
 * `campaign_id`, `creative`, `imp`, `publisher` and `place` (indexes), `user_no`, `ip_no`, `os` (index), `cost_micros`.
 */
export function eventsSql(batch: Batch, from: number, to: number): string {
  const key = (purpose: string): bigint => keyOf(batch.seed, batch.index, purpose)
  const plan = planDefects(batch.rows, batch.defects, key('defects'))
  const campaigns = campaignsOf(batch.seed)
  const costs = EVENT_TYPES.flatMap((_, kind) => campaigns.map((campaign) => campaign.costMicros[kind] ?? 0))
  const late = `received - ${7 * 3_600_000} - dice % ${41 * 3_600_000}`
  const future = `received + ${6 * 60_000} + dice % ${114 * 60_000}`
  const given = `CASE WHEN base = 0 THEN 0 ELSE (base >> 1) + (h_event >> 20) % base END`

  const slots = `SELECT rowid + ${from} AS p FROM slots WHERE rowid < ${to - from}`
  const marked = `SELECT p, ${defectAt(plan, 'p')} AS defect FROM (${slots})`
  const placed = `SELECT CASE WHEN defect > 0 THEN ${sqlHash('p', key('dice'))} ELSE 0 END AS dice, defect,
    CASE WHEN defect = ${codeOf('duplicate')} THEN ${originalOf(plan, 'p')} ELSE p END AS s FROM (${marked})`
  const hashed = `SELECT *, ${sqlHash('s', key('event'))} AS h_event, ${sqlHash('root', key('imp'))} AS h_imp
    FROM (${funnelSql(batch, plan, placed)})`
  const drawn = `SELECT *, ${timeSql(batch, 's', 'h_event')} AS t,
    ${sqlPick(campaignSlots(campaigns), `h_imp & ${CAMPAIGN_SLOTS - 1}`)} AS campaign,
    ((h_imp >> 10) & ${2 ** USERS_LOG2 - 1}) AS u, (h_imp >> 28) & 3 AS creative, (h_imp >> 30) & ${PUBLISHERS.length - 1} AS publisher
    FROM (${hashed})`
  // Few users make much of the traffic: squared, the draw is skewed towards low numbers.
  const people = `SELECT *, t + ((h_event >> 8) & 4095) AS received, (u * u) >> ${USERS_LOG2} AS user_no,
    ${sqlHash(`(u * u) >> ${USERS_LOG2}`, keyOf(batch.seed, 'user'))} AS h_user,
    ${sqlPick(costs, `kind * ${campaigns.length} + campaign`)} AS base FROM (${drawn})`
  return `SELECT defect, dice, ${firstEventId(batch.seed) + BigInt(batch.first)} + s AS event_id,
    CASE WHEN defect = ${codeOf('unknown_type')} THEN ${sqlPick(WRONG_TYPES, 'dice & 3')}
      ELSE ${sqlPick(EVENT_TYPES, 'kind')} END AS event_type,
    CASE WHEN defect = ${codeOf('late')} THEN ${late} WHEN defect = ${codeOf('future')} THEN ${future} ELSE t END AS event_ms,
    received AS received_ms, ${sqlPick(
      campaigns.map(({ id }) => id),
      'campaign',
    )} AS campaign_id, creative, root + ${batch.first} AS imp,
    publisher, h_user % ${PLACES.length} AS place, user_no, (h_user >> 16) & 131071 AS ip_no,
    (h_user >> 40) & ${DEVICE_OS.length - 1} AS os,
    CASE WHEN defect = ${codeOf('negative_cost')} THEN -1 - (${given}) ELSE ${given} END AS cost_micros
    FROM (${people})`
}

/**
 * Adds `kind` (0 impression, 1 click, 2 conversion) and `root`, the position of the impression it all began with.
 * Every block has one slot for a click and one impression slot that a later click may take; blocks are matched by a
 * permutation inside groups, so that no impression is clicked twice. A click stands only where its impression is a clean
 * record, a conversion only where its click is one too: the clean events alone keep the funnel whole.
 */
function funnelSql(batch: Batch, plan: DefectPlan, input: string): string {
  const key = keyOf(batch.seed, batch.index, 'funnel')
  const perSecond = batch.rows / (batch.days * 86_400)
  const clickLag = lagOf(perSecond * 30, BLOCK)
  const conversionLag = lagOf(perSecond * 1_200, BLOCK * SUPERBLOCK)
  const clickSlot = (block: string): string => `((${block}) * ${BLOCK} + 4 * (${sqlHash(block, key)} & 15) + 1)`
  const target = (block: string): string =>
    `(${earlier(block, clickLag, key + 1n)} * ${BLOCK} + 4 * ((${sqlHash(block, key)} >> 4) & 15))`
  const superblock = `(s // ${BLOCK * SUPERBLOCK})`
  const dice = sqlHash(superblock, key + 2n)
  const conversionSlot = `(${superblock} * ${BLOCK * SUPERBLOCK} + (${dice} & ${SUPERBLOCK - 1}) * ${BLOCK} + 4 * ((${dice} >> 3) & 15) + 2)`
  const clickedBefore = clickSlot(
    `${earlier(superblock, conversionLag, key + 3n)} * ${SUPERBLOCK} + ((${dice} >> 7) & ${SUPERBLOCK - 1})`,
  )
  const hasEarlier = (block: string, lag: Lag): string => `(${block}) // ${lag.group} >= ${lag.groups}`
  const candidates = `SELECT *, CASE
    WHEN s = ${clickSlot(`s // ${BLOCK}`)} THEN s
    WHEN s = ${conversionSlot} AND ${hasEarlier(superblock, conversionLag)} THEN ${clickedBefore} END AS click
    FROM (${input})`
  const clickBlock = `(click // ${BLOCK})`
  const targets = `SELECT *, CASE WHEN click IS NOT NULL AND ${hasEarlier(clickBlock, clickLag)}
    THEN ${target(clickBlock)} END AS target FROM (${candidates})`
  const sound = `CASE WHEN target IS NULL THEN false
    ELSE NOT ${isDefect(plan, 'target')} AND (click = s OR NOT ${isDefect(plan, 'click')}) END`
  return `SELECT dice, defect, s, CASE WHEN NOT sound THEN 0 WHEN click = s THEN 1 ELSE 2 END AS kind,
    CASE WHEN sound THEN target ELSE s END AS root FROM (SELECT *, ${sound} AS sound FROM (${targets}))`
}

/** Blocks are matched with blocks `groups` groups of `group` blocks earlier. */
interface Lag {
  readonly group: number
  readonly groups: number
}

/** Groups as large as `slots` slots, in a power of two of blocks. Large groups keep one group's distance in between. */
function lagOf(slots: number, blockSlots: number): Lag {
  const group = 2 ** Math.max(Math.floor(Math.log2(slots / blockSlots)), 0)
  return { group, groups: group === 1 ? 1 : 2 }
}

/** SQL: the block matched with `block`: a permutation inside each group (odd factor, random shift), groups earlier. */
function earlier(block: string, { group, groups }: Lag, key: bigint): string {
  const shift = sqlHash(`(${block}) // ${group}`, key)
  return `(((${block}) // ${group} - ${groups}) * ${group} + (((${block}) * 13 + ${shift} % ${group}) & ${group - 1}))`
}

/** SQL: the event's time, rising with its position, dense in the busy hours. */
function timeSql(batch: Batch, p: string, hash: string): string {
  const unit = batch.rows * JITTER
  const edges = dayEdges()
  const at = `((${p} * ${JITTER} + (${hash} & ${JITTER - 1})) * ${PIECES * batch.days})`
  const piece = `(${at} // ${unit})`
  const start = sqlPick(edges.slice(0, -1), `${piece} % ${PIECES}`)
  const length = sqlPick(
    edges.slice(1).map((edge, i) => edge - (edges[i] ?? 0)),
    `${piece} % ${PIECES}`,
  )
  return `(${batch.startMs} + ${piece} // ${PIECES} * ${DAY_MS} + ${start} + (${at} % ${unit}) * ${length} // ${unit})`
}

/** Milliseconds of the day at which 0/48, 1/48 … 48/48 of its traffic has passed. */
function dayEdges(): number[] {
  const total = HOURLY_WEIGHT.reduce<number>((sum, weight) => sum + weight, 0)
  const edges = [0]
  let before = 0
  for (const [hour, weight] of HOURLY_WEIGHT.entries()) {
    while (edges.length < PIECES && (edges.length * total) / PIECES <= before + weight) {
      const part = ((edges.length * total) / PIECES - before) / weight
      edges.push(Math.floor((hour + part) * 3_600_000))
    }
    before += weight
  }
  return [...edges, DAY_MS]
}

/** Campaign indexes, each as often as its share of the traffic. */
function campaignSlots(campaigns: readonly Campaign[]): number[] {
  const total = campaigns.reduce((sum, { weight }) => sum + weight, 0)
  let passed = 0
  const ends = campaigns.map(({ weight }) => {
    passed += weight
    return Math.round((passed / total) * CAMPAIGN_SLOTS)
  })
  return Array.from({ length: CAMPAIGN_SLOTS }, (_, slot) =>
    Math.max(
      ends.findIndex((end) => slot < end),
      0,
    ),
  )
}
