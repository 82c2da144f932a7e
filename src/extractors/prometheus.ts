/** Metrics of Prometheus: queries over time, the newest point, or what an exporter shows; fetched points are staged. */
import { z } from 'zod'
import { authOptions } from '../clients/http/auth.ts'
import { retryOptions } from '../clients/http/retry-options.ts'
import { SourceClient } from '../clients/http/source-client.ts'
import { PrometheusApi } from '../clients/prometheus/api.ts'
import { diagnosePrometheus } from '../clients/prometheus/diagnose-source.ts'
import { discoverMetrics } from '../clients/prometheus/discover-source.ts'
import { PrometheusFetcher } from '../clients/prometheus/prometheus-fetcher.ts'
import { stagingOptions } from '../clients/staging/options.ts'
import { stagedExtractor } from '../clients/staging/staged-extractor.ts'
import type { ComponentEnv } from '../core/contracts.ts'
import { defineExtractor } from '../core/define.ts'
import { discovery } from '../core/discovery.ts'
import { byteSize, duration } from '../core/job/units.ts'
import type { HostGate } from '../core/source-watch.ts'
import { tlsMaterial, tlsOptions } from '../core/tls.ts'

const address = z
  .url({ protocol: /^https?$/, error: 'expected a URL that begins with https:// or http://' })
  .refine((url) => URL.canParse(url) && new URL(url).username === '', 'credentials go to `auth`, not into the URL')
const name = z.string().regex(/^[^/\s]+$/, 'expected a name without `/` and spaces')

const connectionShape = {
  url: z
    .union([address, z.record(name, address)])
    .describe(
      'Address of the server, with its path prefix if it has one, or several by the name that their records get. `mode: scrape`: the address of the page itself, `http://host:9100/metrics`.',
    ),
  mode: z
    .enum(['range', 'instant', 'scrape'])
    .default('range')
    .describe(
      '`range`: every point of each query since the last run. `instant`: only the newest one. `scrape`: what an exporter shows now, in the text exposition format; it needs no server.',
    ),
  params: z
    .record(z.string(), z.string())
    .default({})
    .describe('Further parameters of each request, such as `dedup` or `partial_response` of Thanos.'),
  headers: z.record(z.string(), z.string()).default({}).describe('Headers of each request, such as `X-Scope-OrgID`.'),
  auth: authOptions.optional(),
  tls: tlsOptions.prefault({}),
  timeout: duration.prefault('10s').describe('For one answer, all of it. The server is told, too.'),
  retry: retryOptions.prefault({}),
  requests_per_second: z.number().positive().optional().describe('Requests that begin in a second, to one host.'),
  concurrency: z.int().positive().default(4).describe('Requests under way at the same time, to one host.'),
  max_page: byteSize.prefault('32MiB').describe('Most decompressed bytes of one answer; more is asked for in parts.'),
  allow_private: z
    .boolean()
    .default(false)
    .describe('true: also hosts of this machine and of private networks. Cloud metadata services stand there too.'),
} as const
const connection = z.object(connectionShape)

const options = z
  .strictObject({
    ...connectionShape,
    queries: z.record(name, z.string().min(1)).default({}).describe('PromQL, by the name that the records get.'),
    step: duration
      .prefault('1m')
      .describe('Distance of the points. They lie at multiples of it since 1970, whenever the run begins.'),
    lag: duration
      .prefault('1m')
      .describe('So much before now is not asked for yet: what is scraped, written or recorded late must be there.'),
    start: z
      .union([z.iso.datetime({ offset: true }), duration])
      .prefault('1h')
      .describe('Where the first run begins: a time, or so long before it.'),
    max_points: z
      .int()
      .min(1)
      .max(11_000)
      .default(10_000)
      .describe(
        'Most points of one request. Servers refuse more than 11,000. Large answers are asked for in smaller parts anyway.',
      ),
    partial: z
      .enum(['gap', 'keep'])
      .default('gap')
      .describe(
        'What an answer with warnings is, of which a part may be missing: a gap, or taken as it is, with a line in the log.',
      ),
    poll: duration.prefault('1m').describe('How often a job that runs for ever asks again.'),
    staging: stagingOptions.prefault({}),
  })
  .superRefine(({ mode, queries, step }, context) => {
    const wrong = (path: string, message: string) => context.addIssue({ code: 'custom', path: [path], message })
    const count = Object.keys(queries).length
    if (mode === 'scrape' && count > 0) wrong('queries', 'a page that is scraped takes no queries: it gives all it has')
    if (mode !== 'scrape' && count === 0) wrong('queries', 'name at least one: `queries: { up: "up" }`')
    if (step < 1) wrong('step', 'at least 1ms')
  })

type Connection = z.infer<typeof connection>

export default defineExtractor({
  summary: 'Metrics of Prometheus: queries over time or now, of several servers, and pages of exporters.',
  description: `Each query of each server is a lane of its own: one server that is down is a gap, and the others are loaded. The API
is that of Prometheus 2 and 3; Thanos, Mimir, Cortex and VictoriaMetrics speak it too.

**Records.** One per sample:

\`\`\`json
{"server":"eu","query":"spend","metric":"ad_spend_total","labels":{"campaign":"7"},"time":"2026-03-01T10:00:00.000Z","value":1024.5}
\`\`\`

\`server\` is the name in \`url\` (of one address its host), \`query\` the name in \`queries\`. \`metric\` is null where the query drops the
name. Read single labels by \`from: labels.campaign\`, or all of them by a column \`labels\` of type \`json\`, not both. \`value\` has the digits that the server sent; NaN and the infinities are
the texts \`NaN\`, \`Infinity\` and \`-Infinity\`, which the type \`double\` takes. A native histogram has the value null and a field \`histogram\` as the API
gives it: count, sum and buckets as exact texts; read it as \`json\`. A scraped page has \`type\` (counter, gauge …) in the place of \`query\`, and classic histograms
as the samples that they are. Exemplars are not read. Stale markers are no samples: the server leaves the series out from there on.

**Points.** \`range\` asks for the points of \`step\` from the last one that was read to now less \`lag\`, in parts that stay
below the limit of the server and of \`max_page\`: an answer that is too large, or that the server refuses as too much, is asked for in smaller parts. A
point is asked for once it is older than \`lag\`; what arrives later than that is not seen. \`instant\` and \`scrape\` give one point per run, and nothing where the step of
the last one has not passed. Another \`step\` or query goes on from the last point.

**Warnings.** An answer with warnings may lack a part (a store behind Thanos does not answer): it is a gap and asked for again, unless \`partial: keep\` says
otherwise. Remarks of PromQL on the query itself go to the log.

**Gaps.** Wrong credentials, a query that does not parse, HTML instead of data, a page with a line that is no sample, a time-out: the
points before are loaded, a gap says the rest, and the next run begins there.`,
  options,
  silenceMs: () => 10_000,
  example: {
    url: { eu: 'https://prometheus.eu.example', us: 'https://prometheus.us.example' },
    queries: { spend: 'sum by (campaign) (rate(ad_spend_total[5m]))' },
    step: '1m',
  },
  discovery: discovery(connection, (chosen, env) => {
    const [url = ''] = Object.values(serversOf(chosen))
    return discoverMetrics(url, chosen.mode, apiOf(chosen, env), env)
  }),
  diagnose: (chosen, env) => {
    const limit = (ms: number) => Math.min(ms, env.answerMs)
    const brief = { ...chosen, timeout: limit(chosen.timeout), retry: { ...chosen.retry, attempts: 1, patience: 0 } }
    const { queries, mode, lag } = chosen
    return diagnosePrometheus({ servers: serversOf(chosen), queries, mode, lagMs: lag }, apiOf(brief, env), env)
  },
  create: (chosen, env) => {
    const { mode, queries, step, lag, start, partial } = chosen
    const fetcher = new PrometheusFetcher(apiOf(chosen, env, env.hosts), {
      ...{ servers: serversOf(chosen), mode, queries, stepMs: step, lagMs: lag, partial, maxPoints: chosen.max_points },
      start: typeof start === 'number' ? { agoMs: start } : { atMs: Date.parse(start) },
      warn: (place, text) => env.log.warn({ source: env.id, place }, text),
    })
    return stagedExtractor(fetcher, env, { staging: chosen.staging, pollMs: chosen.poll })
  },
})

/** Of one address the records have its host. */
function serversOf({ url }: Connection): Readonly<Record<string, string>> {
  return typeof url === 'string' ? { [new URL(url).host]: url } : url
}

function apiOf(chosen: Connection, env: ComponentEnv, hosts?: HostGate): PrometheusApi {
  const { timeout, retry } = chosen
  const client = new SourceClient({
    auth: chosen.auth,
    limits: {
      ...{ connectMs: timeout, headersMs: timeout, bodyMs: timeout, totalMs: timeout },
      allowPrivate: chosen.allow_private,
      tls: tlsMaterial(chosen.tls, env.baseDir),
    },
    body: { maxRatio: 1000, maxBytes: chosen.max_page },
    concurrency: chosen.concurrency,
    perSecond: chosen.requests_per_second,
    hosts,
    ...{ attempts: retry.attempts, initialMs: retry.initial, maxMs: retry.max, patienceMs: retry.patience },
  })
  return new PrometheusApi(client, { params: chosen.params, headers: chosen.headers, timeoutMs: timeout })
}
