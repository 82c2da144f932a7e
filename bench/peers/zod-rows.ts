/** The work of bench/files.ts row by row: readline, JSON.parse, zod, rules, two columns: `zod-rows.ts <in> <out>`. */
import { once } from 'node:events'
import { createReadStream, createWriteStream } from 'node:fs'
import { createInterface } from 'node:readline'
import { z } from 'zod'

const [input = '', output = ''] = process.argv.slice(2)
const text = z.string().nullish()
const row = z.object({
  event_id: z.number(), // loses digits beyond 2^53: exact ids would cost it more
  event_type: z.enum(['impression', 'click', 'conversion']),
  event_time: z.iso.datetime(),
  received_at: z.iso.datetime(),
  campaign_id: z.int(),
  crid: text,
  impid: text,
  publisher: text,
  user_id: text,
  ip: text,
  os: text,
  country: text,
  city: text,
  cost_micros: z.int().min(0).max(50_000_000),
})
const out = createWriteStream(output)
let rejected = 0
for await (const line of createInterface({ input: createReadStream(input), crlfDelay: Number.POSITIVE_INFINITY })) {
  const parsed = row.safeParse(JSON.parse(line))
  if (!parsed.success) {
    rejected += 1
    continue
  }
  const event = parsed.data
  const at = Date.parse(event.event_time)
  const received = Date.parse(event.received_at)
  if (at < received - 6 * 3_600_000 || at > received + 300_000) {
    rejected += 1
    continue
  }
  const hour = new Date(Math.floor(at / 3_600_000) * 3_600_000).toISOString()
  const more = { ...event, spend: (event.cost_micros / 1e6).toFixed(6), hour }
  if (!out.write(`${JSON.stringify(more)}\n`)) await once(out, 'drain')
}
out.end()
await once(out, 'finish')
process.stderr.write(`${rejected} rejected\n`)
