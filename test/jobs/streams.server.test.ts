/** The example jobs that read a stream, on the traffic of `adflow sample` in Kafka: what the stores hold is what SQL finds in the file. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { pino } from 'pino'
import { expect, it } from 'vitest'
import { loadJob } from '../../src/core/job/load.ts'
import { loadRegistry } from '../../src/core/registry.ts'
import { runJobTests } from '../../src/runtime/job-tests.ts'
import { lintJobs } from '../../src/runtime/lint.ts'
import { runJob } from '../../src/runtime/run.ts'
import { adflow, temporaryFolder } from '../harness/cli.ts'
import { duckdbRows } from '../harness/engine.ts'
import { KafkaWriter } from '../harness/kafka-writer.ts'
import { freshClickHouseDatabase, freshKeys, freshName } from '../harness/servers/fresh.ts'
import { serverSuite } from '../harness/servers/suite.ts'

const ROWS = 3_000
const PARTITIONS = 3
const JOBS = ['campaign-spend', 'conversion-sessions', 'budget-pacing', 'speed-and-batch']
const log = pino({ level: 'silent' })

await serverSuite(
  'the example jobs that read a stream',
  ['kafka', 'redis', 'clickhouse'],
  ({ kafka, redis, clickhouse }) => {
    it('have no mistake, pass their tests, and agree with one SQL statement over the file', async () => {
      const folder = temporaryFolder('streams')
      await using tables = await freshClickHouseDatabase(clickhouse)
      await using keys = await freshKeys(redis)
      const made = await adflow([
        'sample',
        '--out',
        folder.path,
        '--rows',
        String(ROWS),
        '--files',
        '1',
        '--defects',
        'duplicate=1%',
      ])
      expect(made.code).toBe(0)
      const source = join(folder.path, 'events-0001.ndjson')
      const topic = freshName('streams')
      const writer = new KafkaWriter(kafka.brokers)
      await writer.create(topic, { partitions: PARTITIONS })
      const lines = readFileSync(source, 'utf8').trimEnd().split('\n')
      await writer.send(
        topic,
        lines.map((value, index) => ({ value, partition: index % PARTITIONS })),
      )

      const env = {
        ADFLOW_CAMPAIGNS: join(folder.path, 'campaigns.csv'),
        ADFLOW_OUT: folder.path,
        KAFKA_BROKERS: kafka.brokers,
        KAFKA_TOPIC: topic,
        REDIS_URL: redis.url,
        REDIS_PREFIX: keys.prefix,
        CLICKHOUSE_URL: tables.url,
      }
      const registry = await loadRegistry()
      const files = JOBS.map((name) => join(import.meta.dirname, '..', '..', 'jobs', `${name}.yaml`))
      for (const { problems, warnings } of (await lintJobs(files, { registry, log, env, rate: 1000 })).files)
        expect({ problems, warnings }).toEqual({ problems: [], warnings: [] })
      const jobs = await Promise.all(files.map((file) => loadJob(file, { registry, env })))
      for (const job of jobs)
        for await (const { ok, problems } of runJobTests({ job, registry, log }))
          expect({ job: job.name, ok, problems }).toEqual({ job: job.name, ok: true, problems: [] })
      const runAll = async (read: number) => {
        const options = { registry, log, stateDir: join(folder.path, 'state'), command: 'test', version: 'test' }
        for (const summary of await Promise.all(jobs.map((job) => runJob({ ...options, job, until: 'now' }))))
          expect(summary).toMatchObject({ exit: 0, read, unaccounted: 0, quarantined: 0 })
      }
      const begun = Date.now()
      await runAll(lines.length)
      // The first run ends with the day still open. An event of the next week closes it in each lane, once the lanes have settled.
      await new Promise((resolve) => setTimeout(resolve, Math.max(0, begun + 2_500 - Date.now())))
      const last = (lane: number) =>
        `{"event_id":${lane},"event_type":"click","event_time":"2026-03-09T00:00:00Z","campaign_id":1,"cost_micros":0}`
      await writer.send(
        topic,
        Array.from({ length: PARTITIONS }, (_, lane) => ({ value: last(lane), partition: lane })),
      )
      await runAll(PARTITIONS)

      const sql = (select: string) =>
        duckdbRows(
          `WITH events AS (SELECT DISTINCT ON (event_id) * FROM read_json('${source}', columns = {event_id: 'BIGINT', event_type: 'VARCHAR', event_time: 'TIMESTAMP', campaign_id: 'BIGINT', impid: 'VARCHAR', user_id: 'VARCHAR', country: 'VARCHAR', cost_micros: 'BIGINT'})),
           campaigns AS (SELECT id AS campaign_id, daily_budget_micros AS budget FROM read_csv('${env.ADFLOW_CAMPAIGNS}')) ${select}`,
        )
      const asked = (query: string) => clickHouseRows(tables.url, query)

      // budget-pacing: running totals of the days of Shanghai, in steps of 15 minutes.
      const steps = `SELECT (event_time + INTERVAL 8 HOUR)::DATE AS day, time_bucket(INTERVAL 15 MINUTE, event_time) + INTERVAL 15 MINUTE AS step, campaign_id, sum(cost_micros) AS spent FROM events GROUP BY ALL`
      expect(
        await asked(
          `SELECT toString(day) AS day, toString(toDateTime(window_end, 'UTC')) AS step, toString(campaign_id) AS campaign, toString(spent_micros) AS spent, toString(budget_micros) AS budget FROM pacing FINAL WHERE campaign_id > 1 ORDER BY day, step, campaign_id`,
        ),
      ).toEqual(
        await sql(
          `SELECT day::VARCHAR AS day, step::VARCHAR AS step, campaign_id::VARCHAR AS campaign, (sum(spent) OVER (PARTITION BY day, campaign_id ORDER BY step))::VARCHAR AS spent, budget::VARCHAR AS budget FROM (${steps}) JOIN campaigns USING (campaign_id) ORDER BY day, step, campaign_id`,
        ),
      )

      // conversion-sessions: sessions by users, and clicks with their impressions.
      const begins = `SELECT *, coalesce(event_time - lag(event_time) OVER (PARTITION BY user_id ORDER BY event_time) > INTERVAL 30 MINUTE, true)::INTEGER AS begins FROM events`
      const sessions = `SELECT min(event_time) AS begun, count(*) AS n, count(*) FILTER (event_type = 'click') AS clicks, count(*) FILTER (event_type = 'conversion') AS conversions, sum(cost_micros) AS spent FROM (SELECT *, sum(begins) OVER (PARTITION BY user_id ORDER BY event_time ROWS UNBOUNDED PRECEDING) AS session FROM (${begins})) GROUP BY user_id, session`
      expect(
        await asked(
          `SELECT toString(toUnixTimestamp64Micro(window_start)) AS begun, toString(events) AS n, toString(clicks) AS clicks, toString(conversions) AS conversions, toString(spend_micros) AS spent FROM sessions WHERE window_start < '2026-03-05' ORDER BY ALL`,
        ),
      ).toEqual(
        await sql(
          `SELECT epoch_us(begun)::VARCHAR AS begun, n::VARCHAR AS n, clicks::VARCHAR AS clicks, conversions::VARCHAR AS conversions, spent::VARCHAR AS spent FROM (${sessions}) ORDER BY ALL`,
        ),
      )
      const clicks = await sql(
        `SELECT c.event_id::VARCHAR AS click, i.event_id::VARCHAR AS impression FROM events c LEFT JOIN events i ON c.impid = i.impid AND i.event_type = 'impression' AND i.event_time BETWEEN c.event_time - INTERVAL 30 MINUTE AND c.event_time WHERE c.event_type = 'click' ORDER BY ALL`,
      )
      expect(
        await asked(
          `SELECT toString(event_id) AS click, toString(impression_id) AS impression FROM attributed_clicks WHERE campaign_id > 1 ORDER BY ALL`,
        ),
      ).toEqual(clicks)
      expect(clicks.filter(({ impression }) => impression !== null).length).toBeGreaterThan(5)

      // speed-and-batch: both layers hold the same sums.
      const hours = `strftime(event_time, '%Y-%m-%dT%H') AS hour, campaign_id::VARCHAR AS campaign, count(*)::VARCHAR AS n, sum(cost_micros)::VARCHAR AS spent`
      const hourly = await sql(`SELECT ${hours} FROM events GROUP BY ALL ORDER BY ALL`)
      expect(
        await asked(
          `SELECT formatDateTime(event_time, '%Y-%m-%dT%H') AS hour, toString(campaign_id) AS campaign, toString(count()) AS n, toString(sum(cost_micros)) AS spent FROM events WHERE campaign_id > 1 GROUP BY ALL ORDER BY ALL`,
        ),
      ).toEqual(hourly)
      const client = new Redis(redis.url)
      try {
        const hash = (key: string) => client.hgetall(keys.prefix + key)
        for (const { hour, campaign, n, spent } of hourly)
          expect({ hour, campaign, ...(await hash(`hour:${hour}:${campaign}`)) }).toEqual({
            hour,
            campaign,
            events: n,
            spend_micros: spent,
          })

        // campaign-spend: counters of the day, and what is left of its budget.
        const daily = await sql(
          `SELECT campaign_id::VARCHAR AS campaign, event_time::DATE::VARCHAR AS day, count(*) FILTER (event_type = 'impression')::VARCHAR AS impressions, count(*) FILTER (event_type = 'click')::VARCHAR AS clicks, count(*) FILTER (event_type = 'conversion')::VARCHAR AS conversions, sum(cost_micros)::VARCHAR AS spent, max(budget)::VARCHAR AS budget, (max(budget) - sum(cost_micros))::VARCHAR AS "left" FROM events JOIN campaigns USING (campaign_id) GROUP BY ALL`,
        )
        for (const { campaign, day, impressions, clicks: clicked, conversions, spent, budget, left } of daily) {
          expect(await hash(`spend:${campaign}:${day}`)).toEqual({
            impressions,
            clicks: clicked,
            conversions,
            spend_micros: spent,
          })
          expect(await hash(`quota:${campaign}`)).toEqual({
            day,
            spent_micros: spent,
            budget_micros: budget,
            left_micros: left,
          })
        }
        expect(daily.length).toBeGreaterThan(10)
      } finally {
        client.disconnect()
      }
      folder.remove()
    })
  },
)

async function clickHouseRows(url: string, query: string): Promise<Record<string, unknown>[]> {
  const { username, password, pathname, origin } = new URL(url)
  const answer = await fetch(`${origin}/?database=${pathname.slice(1)}`, {
    method: 'POST',
    headers: { authorization: `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}` },
    body: `${query} FORMAT JSONEachRow`,
  })
  const text = await answer.text()
  if (!answer.ok) throw new Error(text)
  return text
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as Record<string, unknown>)
}
