/** Redis, as a reader sees it: what can be counted is counted as it is read. */
import { Redis } from 'ioredis'
import { CAMPAIGNS, MINUTE_MS, type Sums, sumsOf } from './ad-events.ts'
import { isMeasured, keyed, micros, type SeenEvent, type StoreView, type WindowRows } from './store-view.ts'

/** Windows are hashes `w:<start in ms>:<campaign>`, events a stream. */
export class RedisView implements StoreView {
  readonly name = 'redis'
  readonly #redis: Redis
  readonly #keys = new Set<string>()
  #newest: number | undefined
  #last = '0'
  readonly #sums = [0n, 0n, 0n, 0n]

  constructor(url: string) {
    this.#redis = new Redis(url)
  }

  async windows(seen: (key: string) => void): Promise<void> {
    const newest = this.#newest
    const pattern = newest === undefined ? 'w:*' : `w:${newest}:*`
    for (const key of await this.#redis.keys(pattern)) {
      if (!this.#keys.has(key)) seen(key.slice(2))
      this.#keys.add(key)
      this.#newest ??= Number(key.split(':')[1])
    }
    const own = [...this.#keys].filter((key) => key.startsWith(`w:${this.#newest}:`)).length
    if (this.#newest !== undefined && own >= CAMPAIGNS) this.#newest += MINUTE_MS
  }

  async events(seen: SeenEvent): Promise<void> {
    const found = await this.#redis.xread('COUNT', 20_000, 'STREAMS', 'events', this.#last)
    const now = Date.now()
    let [count, cost, digest] = [0, 0, 0]
    let ids = 0n
    for (const [entry, fields] of found?.[0]?.[1] ?? []) {
      this.#last = entry
      const of = (name: string) => fields[fields.indexOf(name) + 1]
      const id = Number(of('event_id'))
      if (isMeasured(id)) seen(Number(of('sent')), now)
      count += 1
      cost += Math.round(Number(of('cost')) * 1e6)
      ids += BigInt(id)
      digest += (id % 65521) * (id % 65519)
    }
    for (const [index, more] of [count, cost, ids, digest].entries())
      this.#sums[index] = (this.#sums[index] as bigint) + BigInt(more)
  }

  async count(table: 'windows' | 'events'): Promise<number> {
    return table === 'events' ? Number(this.#sums[0]) : (await this.#redis.keys('w:*')).length
  }

  async allWindows(): Promise<WindowRows> {
    const keys = await this.#redis.keys('w:*')
    const rows = keys.map(async (key) => {
      const row = await this.#redis.hgetall(key)
      const [, start = '', campaign = ''] = key.split(':')
      return [start, campaign, row['events'] ?? '', micros(row['spend']), row['ids'] ?? '', row['digest'] ?? '']
    })
    return keyed(await Promise.all(rows))
  }

  async allEvents(): Promise<Sums> {
    return sumsOf(this.#sums)
  }

  async close(): Promise<void> {
    this.#redis.disconnect()
  }
}
