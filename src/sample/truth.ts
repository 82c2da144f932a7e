/** What a sample contains, stated beside it in truth.json: from the generation plan, never from reading the files back. */
import { countsOf, DEFECT_CLASSES, type DefectClass, type DefectCounts, totalOf } from './defects.ts'
import type { SampleFormat } from './render.ts'
import type { Batch, EVENT_TYPES } from './traffic.ts'

/** Clean, unique events of one campaign. `spend_micros` as a string: it may exceed 2^53. */
interface CampaignTruth {
  readonly events: number
  readonly impressions: number
  readonly clicks: number
  readonly conversions: number
  readonly spend_micros: string
}

export interface FileTruth {
  readonly name: string
  /** Records, broken ones and copies included. */
  readonly rows: number
  readonly bytes: number
}

/** Contents of truth.json. */
export interface Truth {
  readonly schema_version: 1
  readonly seed: number
  readonly format: SampleFormat
  readonly compression: 'none' | 'gzip'
  /** ISO 8601 UTC; the traffic lies in [start, end). */
  readonly start: string
  readonly end: string
  /** Records written in total. */
  readonly rows: number
  readonly files: readonly FileTruth[]
  /** Reference data beside the events. */
  readonly reference: string
  /** Records of each defect class; no record has two. */
  readonly defects: DefectCounts
  /** Good events, each counted once. */
  readonly clean: number
  /** The books that a run over the whole folder must close with. */
  readonly expect: {
    readonly read: number
    readonly loaded: number
    readonly quarantined: Readonly<Record<Exclude<DefectClass, 'duplicate'>, number>>
    readonly deduplicated: number
  }
  /** All below: over the clean, unique events. */
  readonly spend_micros: string
  readonly event_types: Readonly<Record<(typeof EVENT_TYPES)[number], number>>
  readonly campaigns: Readonly<Record<string, CampaignTruth>>
  readonly event_ids: { readonly min: string; readonly max: string; readonly sum: string }
  /** One entry per call: the first made the folder, each further one appended to it. */
  readonly batches: readonly { readonly rows: number; readonly start: string; readonly days: number }[]
}

/** SQL over the generating relation; one row per campaign and event type. */
export function truthSql(events: string): string {
  return `SELECT campaign_id::VARCHAR AS campaign, event_type AS type, count(*) AS events, sum(cost_micros)::VARCHAR AS spend,
    sum(event_id)::VARCHAR AS id_sum, min(event_id)::VARCHAR AS id_min, max(event_id)::VARCHAR AS id_max
    FROM (${events}) WHERE defect = 0 GROUP BY ALL ORDER BY ALL`
}

export interface TruthRow {
  readonly campaign: string
  readonly type: string
  readonly events: bigint
  readonly spend: string
  readonly id_sum: string
  readonly id_min: string
  readonly id_max: string
}

/** Truth of the folder after `batch`: `before` (of earlier batches) and what the batch's rows add. */
export function truthOf(
  before: Truth | undefined,
  batch: Batch,
  shape: Pick<Truth, 'format' | 'compression' | 'files' | 'reference'>,
  rows: readonly TruthRow[],
): Truth {
  const iso = (ms: number): string => new Date(ms).toISOString()
  const defects = countsOf((name) => (before?.defects[name] ?? 0) + batch.defects[name])
  const total = (before?.rows ?? 0) + batch.rows
  const clean = total - totalOf(defects)
  const { duplicate, ...quarantined } = defects
  const startMs = iso(batch.startMs)
  return {
    schema_version: 1,
    seed: batch.seed,
    format: shape.format,
    compression: shape.compression,
    start: before?.start ?? startMs,
    end: iso(batch.startMs + batch.days * 86_400_000),
    rows: total,
    files: shape.files,
    reference: shape.reference,
    defects,
    clean,
    expect: { read: total, loaded: clean, quarantined, deduplicated: duplicate },
    spend_micros: String(rows.reduce((sum, row) => sum + BigInt(row.spend), BigInt(before?.spend_micros ?? 0))),
    event_types: eventTypesOf(before, rows),
    campaigns: campaignsTruth(before, rows),
    event_ids: idsOf(before, rows),
    batches: [...(before?.batches ?? []), { rows: batch.rows, start: startMs, days: batch.days }],
  }
}

const NO_EVENTS: CampaignTruth = { events: 0, impressions: 0, clicks: 0, conversions: 0, spend_micros: '0' }

function eventTypesOf(before: Truth | undefined, rows: readonly TruthRow[]): Truth['event_types'] {
  const count = (type: (typeof EVENT_TYPES)[number]): number =>
    rows.reduce((sum, row) => sum + (row.type === type ? Number(row.events) : 0), before?.event_types[type] ?? 0)
  return { impression: count('impression'), click: count('click'), conversion: count('conversion') }
}

function campaignsTruth(before: Truth | undefined, rows: readonly TruthRow[]): Truth['campaigns'] {
  const campaigns: Record<string, CampaignTruth> = { ...before?.campaigns }
  for (const { campaign, type, events, spend } of rows) {
    const was = campaigns[campaign] ?? NO_EVENTS
    const of = (name: string): number => (type === name ? Number(events) : 0)
    campaigns[campaign] = {
      events: was.events + Number(events),
      impressions: was.impressions + of('impression'),
      clicks: was.clicks + of('click'),
      conversions: was.conversions + of('conversion'),
      spend_micros: String(BigInt(was.spend_micros) + BigInt(spend)),
    }
  }
  return campaigns
}

function idsOf(before: Truth | undefined, rows: readonly TruthRow[]): Truth['event_ids'] {
  const seen = before === undefined || before.clean === 0 ? [] : [before.event_ids]
  const all = [...seen, ...rows.map(({ id_min: min, id_max: max, id_sum: sum }) => ({ min, max, sum }))]
  // All ids have 19 digits, so text order is number order.
  return {
    min: all.map(({ min }) => min).sort()[0] ?? '0',
    max:
      all
        .map(({ max }) => max)
        .sort()
        .at(-1) ?? '0',
    sum: String(all.reduce((total, { sum }) => total + BigInt(sum), 0n)),
  }
}

/** Is this the parsed JSON of a truth.json? Guards `--append` against a foreign file of that name. */
export function isTruth(value: unknown): value is Truth {
  if (typeof value !== 'object' || value === null) return false
  const truth = value as Partial<Truth>
  return (
    truth.schema_version === 1 &&
    Array.isArray(truth.files) &&
    Array.isArray(truth.batches) &&
    typeof truth.rows === 'number' &&
    DEFECT_CLASSES.every((name) => typeof truth.defects?.[name] === 'number')
  )
}
