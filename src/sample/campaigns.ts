/** campaigns.csv: the reference data beside the events. */
import { keyOf } from './random.ts'
import { campaignsOf } from './reference.ts'
import { csvField } from './render.ts'
import type { Batch } from './traffic.ts'

const CAMPAIGN_COLUMNS = [
  'id',
  'name',
  'advertiser_id',
  'advertiser',
  'adomain',
  'pricing',
  'cur',
  'daily_budget_micros',
] as const

/** Shares of events that are impressions, clicks and conversions; only budgets depend on them. */
const FUNNEL = [0.983, 0.0155, 0.0018] as const

/** Budgets lie between 0.7 and 2 times a day's expected spend: some campaigns overspend, most do not. */
export function campaignsCsv(batch: Batch): string {
  const campaigns = campaignsOf(batch.seed)
  const weights = campaigns.reduce((sum, { weight }) => sum + weight, 0)
  const lines = campaigns.map((campaign) => {
    const events = ((batch.rows / batch.days) * campaign.weight) / weights
    const spend = campaign.costMicros.reduce((sum, cost, kind) => sum + cost * (FUNNEL[kind] ?? 0) * events, 0)
    const factor = 0.7 + Number(keyOf(batch.seed, 'budget', campaign.id) % 1300n) / 1000
    const budget = Math.max(Math.round((spend * factor) / 1_000_000), 1) * 1_000_000
    const { id, name, advertiserId, advertiser, adomain, pricing } = campaign
    return [id, csvField(name), advertiserId, csvField(advertiser), adomain, pricing, 'USD', budget].join(',')
  })
  return `${[CAMPAIGN_COLUMNS.join(','), ...lines].join('\n')}\n`
}
