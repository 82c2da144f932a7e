/** HTTP APIs: paging, incremental reading, credentials, limits; fetched pages are staged. */
import { z } from 'zod'
import { authOptions } from '../clients/http/auth.ts'
import { diagnoseHttpSource } from '../clients/http/diagnose-source.ts'
import { discoverLists, firstRequest } from '../clients/http/discover-source.ts'
import { HttpFetcher } from '../clients/http/http-fetcher.ts'
import { pagingOf, pagingOptions, pathOf } from '../clients/http/paging.ts'
import { retryOptions } from '../clients/http/retry-options.ts'
import { SourceClient, type SourceClientOptions } from '../clients/http/source-client.ts'
import { stagingOptions } from '../clients/staging/options.ts'
import { SINCE_KINDS } from '../clients/staging/since.ts'
import { stagedExtractor } from '../clients/staging/staged-extractor.ts'
import { csvHeader, csvShape } from '../core/csv-options.ts'
import { defineExtractor } from '../core/define.ts'
import { discovery } from '../core/discovery.ts'
import { byteSize, duration } from '../core/job/units.ts'

const address = z
  .string()
  .regex(/^https?:\/\/[^\s/?#]+/, 'expected a URL that begins with https:// or http://')
  .refine((url) => URL.canParse(url.replace(/\{\w+\}/g, '0')), 'expected a URL')

const csv = z
  .strictObject({ ...csvShape, header: csvHeader('the first record of each page') })
  .describe('How CSV is written.')

const incremental = z
  .strictObject({
    field: z.string().min(1).describe('Field of the records, keys separated by dots: `meta.updated_at`.'),
    as: z
      .enum(SINCE_KINDS)
      .default('time')
      .describe(
        'What its values are, and how they are asked for: `time` (ISO 8601), `date` (asked for by the day), `unix` (seconds), `unix_ms`, `number` (a counter), `text`.',
      ),
    param: z
      .string()
      .min(1)
      .optional()
      .describe('Parameter of the query. Not needed where `{since}` stands in `url`, `query` or `body`.'),
    start: z.string().min(1).optional().describe('What the first run asks for. Without it, for everything.'),
    lag: duration
      .prefault('0s')
      .describe(
        'So much before the highest value is asked for again: for records that the source shows late. State `key` with it.',
      ),
  })
  .describe('A run asks only for what is newer than the highest value of a field that was read.')

const timeouts = z
  .strictObject({
    connect: duration.prefault('10s').describe('To connect.'),
    headers: duration.prefault('30s').describe('From the request to the last header of the answer.'),
    body: duration.prefault('30s').describe('Between two pieces of the body.'),
    total: duration.prefault('30s').describe('For one answer, all of it; waiting for the engine not counted.'),
  })
  .describe('Time-outs of one request. `staging.timeout` bounds all of a lane.')

const shape = z.strictObject({
  url: z
    .union([address, z.record(z.string().min(1), address)])
    .describe(
      'Address, or several by the name of their lane. `{since}`, `{until}` (when the pass began), `{cursor}`, `{offset}`, `{page}` and `{limit}` are filled in, here, in `query` and in `body`.',
    ),
  method: z
    .enum(['GET', 'POST'])
    .default('GET')
    .describe('POST for sources that are asked by a body. It must change nothing there.'),
  query: z
    .record(z.string(), z.union([z.string(), z.number(), z.boolean()]))
    .default({})
    .describe('Parameters. One whose placeholder has no value is left out.'),
  headers: z.record(z.string(), z.string()).default({}).describe('Headers of each request.'),
  body: z.string().optional().describe('Body of a POST. What is filled in is escaped as in a JSON string.'),
  auth: authOptions.optional(),
  format: z
    .enum(['auto', 'json', 'ndjson', 'csv'])
    .default('auto')
    .describe('Format of the body. `auto`: by its content type, else JSON.'),
  records: z
    .string()
    .default('$')
    .describe(
      'JSON: where the records stand, keys separated by dots: `data.items`. An array, or one record. `$`: the body itself.',
    ),
  csv: csv.prefault({}),
  paginate: pagingOptions.prefault({ type: 'none' }),
  incremental: incremental.optional(),
  again: z
    .enum(['all', 'added'])
    .optional()
    .describe(
      'What a later run asks for, where `incremental` is not set. `added`: the list only grows at its end, and is read on from its last page. `all`: everything, as new records.',
    ),
  key: z
    .array(z.string().min(1))
    .default([])
    .describe('Fields that tell a record: where requests overlap, one that is known is left out.'),
  max_pages: z
    .int()
    .positive()
    .default(10_000)
    .describe('More pages in one pass are an error: most likely they have no end.'),
  requests_per_second: z
    .number()
    .positive()
    .optional()
    .describe(
      'Requests that begin in a second, to one host. The strictest limit of all sources of a job that ask the host holds.',
    ),
  concurrency: z
    .int()
    .positive()
    .default(4)
    .describe('Requests under way at the same time, to one host. One lane has one.'),
  timeouts: timeouts.prefault({}),
  retry: retryOptions.prefault({}),
  max_ratio: z
    .number()
    .min(1)
    .default(200)
    .describe(
      'Largest decompressed size over compressed size, from 16 MiB decompressed on; beyond it the page is a gap.',
    ),
  max_page: byteSize.prefault('512MiB').describe('Most decompressed bytes of one answer.'),
  allow_private: z
    .boolean()
    .default(false)
    .describe('true: also hosts of this machine and of private networks. Cloud metadata services stand there too.'),
  poll: duration.prefault('1m').describe('How often a job that runs for ever asks again.'),
  staging: stagingOptions.prefault({}),
})

const options = shape.superRefine(({ paginate, incremental, again }, context) => {
  if (paginate.type !== 'none' && incremental === undefined && again === undefined)
    context.addIssue({
      code: 'custom',
      path: ['again'],
      message: 'say what a later run asks for: `incremental`, `again: added` or `again: all`',
    })
})

type Options = z.infer<typeof options>

export default defineExtractor({
  summary: 'HTTP APIs: JSON, NDJSON or CSV, page by page, incrementally, with credentials and limits.',
  description: `Each address is a lane. Pages are staged durably before anything else is done with them, each with the place
from which the source goes on; a run that is killed goes on after the last page that is durable, and no page is asked for
twice. A page that breaks off – a reset, a 5xx in its middle, a body shorter than its Content-Length, truncated gzip – is
forgotten and asked for again. Bytes stay those of the source: integers and decimals never pass through a number of JavaScript.

**What a later run reads.** With \`incremental\` what is newer than the highest value that was read, less the \`lag\`. With
\`again: added\` what stands behind the records of the last page; they must still be there as they were. With \`again: all\`
everything, as new records: load it with \`write: merge\`. One answer without pages that has not changed (304 by its ETag or
Last-Modified, or the same records) brings nothing.

**When the list moves between two requests.** \`cursor\`, \`next\` and \`link\`: the source keeps its place; what it gives twice in
neighbouring pages is left out by \`key\`. \`offset\`: with \`key\`, each page begins some records earlier (\`overlap\`); known ones
are left out, and when none of them is there the list has moved further: a gap, not a loss. \`page\`: with \`key\` and \`overlap: true\`
each page is asked for once more after the one behind it. Without \`key\` records that move between two requests of \`offset\` or \`page\`
may be missed or come twice.

**\`lag\` and \`key\`.** What the lag asks for again is left out by \`key\`, for up to 4000 records within it; beyond that use the step
\`dedupe\` or \`write: merge\`, and no \`key\`.

**Gaps.** Wrong credentials, HTML instead of data, a time-out, endless pages, a decompression bomb: the pages before are loaded, a gap
says the rest, other lanes and sources go on, and the next run begins there. An OAuth 2 token that is refused is renewed once, also in the middle.

**Addresses.** Private ones are reached with \`allow_private\` only. Redirects are followed; credentials go to the host of \`url\` only, and
another host is never a private one. The next page must be on the same host.`,
  options,
  silenceMs: () => 30_000,
  example: {
    url: 'https://partner.example/v2/report',
    auth: { type: 'bearer', token: '${PARTNER_TOKEN:-token}' },
    records: 'data.items',
    paginate: { type: 'cursor', path: 'meta.next' },
    incremental: { field: 'updated_at', param: 'updated_since', lag: '6h' },
    key: ['id'],
  },
  discovery: discovery(
    z.object(shape.shape),
    (chosen, env) => {
      const [url = ''] = Object.values(urlsOf(chosen))
      return discoverLists(firstRequest({ ...chosen, url, body: chosen.body }), clientOptions(chosen), env)
    },
    ['records', 'paginate'],
  ),
  diagnose: (chosen, env) => diagnoseHttpSource(Object.values(urlsOf(chosen)), clientOptions(chosen), env),
  create: (chosen, env) => {
    const { paginate, incremental, key } = chosen
    const fetcher = new HttpFetcher(new SourceClient({ ...clientOptions(chosen), hosts: env.hosts }), {
      urls: urlsOf(chosen),
      method: chosen.method,
      headers: chosen.headers,
      query: Object.fromEntries(Object.entries(chosen.query).map(([name, value]) => [name, String(value)])),
      body: chosen.body,
      page: { format: chosen.format, records: pathOf(chosen.records), csv: chosen.csv },
      paging: pagingOf(paginate, key.length > 0),
      single: paginate.type === 'none',
      numbered: paginate.type === 'page',
      key: key.map(pathOf),
      incremental:
        incremental === undefined
          ? undefined
          : {
              path: pathOf(incremental.field),
              kind: incremental.as,
              lagMs: incremental.lag,
              start: incremental.start,
              param: incremental.param,
            },
      again: chosen.again ?? 'all',
      maxPages: chosen.max_pages,
      overlaps: incremental !== undefined || paginate.type === 'offset' || paginate.type === 'page',
    })
    return stagedExtractor(fetcher, env, { staging: chosen.staging, pollMs: chosen.poll })
  },
})

/** Of one address the lane is called as it is, without what is asked for. */
function urlsOf({ url }: Options): Readonly<Record<string, string>> {
  if (typeof url !== 'string') return url
  const { host, pathname } = new URL(url.replace(/\{\w+\}/g, ''))
  return { [`${host}${decodeURI(pathname)}`]: url }
}

function clientOptions(chosen: Options): SourceClientOptions {
  const { timeouts, retry } = chosen
  return {
    auth: chosen.auth,
    limits: {
      connectMs: timeouts.connect,
      headersMs: timeouts.headers,
      bodyMs: timeouts.body,
      totalMs: timeouts.total,
      allowPrivate: chosen.allow_private,
    },
    body: { maxRatio: chosen.max_ratio, maxBytes: chosen.max_page },
    concurrency: chosen.concurrency,
    perSecond: chosen.requests_per_second,
    attempts: retry.attempts,
    initialMs: retry.initial,
    maxMs: retry.max,
    patienceMs: retry.patience,
  }
}
