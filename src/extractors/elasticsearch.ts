/** An index, a pattern or a data stream of Elasticsearch or OpenSearch, in the order of a field; fetched documents are staged. */
import { z } from 'zod'
import { diagnoseElasticSource } from '../clients/elastic/diagnose-source.ts'
import { discoverIndexes } from '../clients/elastic/discover-source.ts'
import { METADATA } from '../clients/elastic/hit.ts'
import { Elastic, placeOf } from '../clients/elastic/http.ts'
import { IndexFetcher, type IndexFetcherOptions } from '../clients/elastic/index-fetcher.ts'
import { connectionShape } from '../clients/elastic/options.ts'
import { ElasticReader } from '../clients/elastic/reader.ts'
import { retryOptions } from '../clients/staging/attempts.ts'
import { stagingOptions } from '../clients/staging/options.ts'
import { stagedExtractor } from '../clients/staging/staged-extractor.ts'
import { defineExtractor } from '../core/define.ts'
import { discovery } from '../core/discovery.ts'
import { byteSize, duration } from '../core/job/units.ts'

const name = z.string().min(1)
const { requests: _, ...connection } = connectionShape

const incremental = z
  .strictObject({
    field: name.describe(
      'A date, a number or a keyword that rises: `@timestamp`. Or `_seq_no`, of one index with one shard.',
    ),
    start: z.union([name, z.number()]).optional().describe('The first run begins with this value.'),
    lag: z
      .union([duration, z.int().nonnegative()])
      .prefault('0s')
      .describe(
        'So much before the highest value is read again, for documents that come late: a duration for dates, a number for integers.',
      ),
    leave_out: z
      .boolean()
      .default(true)
      .describe(
        'Documents that the lag brings again as they were are left out, up to 4000 within it. false: they come again.',
      ),
    settle: duration
      .prefault('0s')
      .describe('Documents whose date is younger than this, by the clock of the server, are left for a later run.'),
    missing: z
      .enum(['gap', 'skip'])
      .default('gap')
      .describe('Documents without the field are not read. `gap`: the run says so; `skip`: it does not look for them.'),
  })
  .describe('A run reads what stands behind the highest value of a field that was read.')

const options = z
  .strictObject({
    ...connection,
    index: name
      .regex(/^[^/\s?#]+$/, 'expected names of indexes, patterns, aliases or data streams, separated by commas')
      .describe(
        'Name of an index, an alias or a data stream, or a pattern: `logs-*`. Several are separated by commas.',
      ),
    query: z
      .record(z.string(), z.unknown())
      .optional()
      .describe('What is read, in the query DSL. Default: everything.'),
    source: z
      .strictObject({
        includes: z.array(name).optional().describe('Fields that are kept, with patterns: `request.*`.'),
        excludes: z.array(name).optional().describe('Fields that are left out.'),
      })
      .optional()
      .describe(
        'Parts of a document. The server writes it anew then, and its decimals with the digits of a double. Without it a document comes as it was sent.',
      ),
    metadata: z
      .array(z.enum(METADATA))
      .default(['_id', '_index'])
      .describe('What is told of a document beside its fields, in columns of these names.'),
    incremental: incremental.optional(),
    again: z
      .enum(['newer', 'all'])
      .default('newer')
      .describe(
        'What a later run reads. `newer`: what stands behind the highest value. `all`: everything, as new records.',
      ),
    lanes: z
      .enum(['one', 'index'])
      .default('one')
      .describe(
        '`index`: each index of a pattern or data stream is a lane, which is read by itself. An index that is new begins at `start`.',
      ),
    slices: z
      .int()
      .min(1)
      .max(16)
      .default(1)
      .describe('Slices of a lane that are fetched at the same time, and merged in order.'),
    size: z.int().min(1).max(10_000).default(1000).describe('Documents of one answer.'),
    max_page: byteSize.prefault('128MiB').describe('Most decompressed bytes of one answer; it is held in memory.'),
    keep_alive: duration
      .prefault('5m')
      .describe('How long the server keeps a point in time between two requests. When it ends a new one is opened.'),
    requests_per_second: z.number().positive().optional().describe('Requests that begin in a second.'),
    concurrency: z.int().positive().max(64).default(4).describe('Requests under way at the same time.'),
    retry: retryOptions.prefault({}),
    poll: duration.prefault('1m').describe('How often a job that runs for ever asks again.'),
    staging: stagingOptions.prefault({}),
  })
  .superRefine(({ incremental: field, again }, context) => {
    const issue = (path: string, message: string) => context.addIssue({ code: 'custom', path: [path], message })
    if (field === undefined && again === 'newer')
      issue('incremental', 'say what a later run reads: `incremental`, or `again: all`')
    if (field !== undefined && again === 'all' && field.lag > 0)
      issue('again', 'a `lag` has no meaning with `again: all`')
  })

type Options = z.infer<typeof options>

export default defineExtractor({
  summary: 'An index, a pattern or a data stream of Elasticsearch or OpenSearch, incrementally by a field.',
  description: `Documents come from a point in time, in the order of \`incremental.field\`, and are staged durably before anything else is done with them. Documents
with the same value of the field stay together, however many they are: a page ends only where the value changes. Among them the order is that of \`_shard_doc\`, which
Elasticsearch and OpenSearch from 3.3 on have in a point in time (before: \`_id\`). That order means nothing in another point in time, so nothing is kept of it: when
one ends – it expired, a node went, adflow was killed – a new one is opened, and begins behind the last value whose documents are all durable. Nothing is lost or
doubled by it. Without \`incremental\` everything is one page, which begins anew then.

**Whole answers only.** Each point in time says how many documents it has found; fewer or more are an error, as is any shard that fails, a search that times out, and a cluster that is skipped.

**What a later run reads.** Documents whose value is greater than the greatest that was read. A document is found by searches only after a refresh, and may be sent long after the time that
it carries: \`settle\` leaves the youngest for the next run; \`lag\` reads the last stretch again, and what is there as it was (index, \`_id\`, \`_seq_no\`) is left out. A document that is changed comes again
where its value has risen, or lies within the lag. What comes later than both is not read. Deleted documents are not reported.
\`_seq_no\` is the order in which one shard took changes: it finds every change since, also of documents whose own times say nothing; state a \`lag\` for changes that were under way side by side, such as 1000.

**Values.** A record is the \`_source\` as it was sent, byte for byte, with \`_id\` and \`_index\` before its fields: integers of any size and decimals keep their digits. With \`source\`
the server writes it anew: OpenSearch 3.8 makes 0.12345678901234568 of 0.123456789012345678901234.

**An index that is deleted while it is read** is a gap that names it; what came until then is loaded.

**Privileges.** \`read\` on the index is enough. With \`view_index_metadata\` a deleted index is told by its name; \`lanes: index\` and \`_seq_no\` need it.

This project has no Elasticsearch to test against: its own API for points in time is tested by a server that stands in for it.`,
  options,
  example: {
    url: 'https://search.example:9200',
    user: 'reader',
    password: '${ELASTIC_PASSWORD:-password}',
    index: 'logs-*',
    query: { term: { 'event.kind': 'click' } },
    incremental: { field: '@timestamp', settle: '1m' },
  },
  discovery: discovery(z.object(connection), discoverIndexes),
  diagnose: (chosen, env) => diagnoseElasticSource(connectionOf(chosen), fetcherOptions(chosen), env),
  create: (chosen, env) => {
    const reader = new ElasticReader(new Elastic(connectionOf(chosen), env.baseDir), chosen.max_page)
    return stagedExtractor(new IndexFetcher(reader, { ...fetcherOptions(chosen), hosts: env.hosts }), env, {
      staging: chosen.staging,
      pollMs: chosen.poll,
    })
  },
})

function connectionOf(chosen: Options) {
  return { ...chosen, connections: Math.max(chosen.connections, chosen.concurrency) }
}

function fetcherOptions(chosen: Options): IndexFetcherOptions {
  const { incremental: by } = chosen
  return {
    server: placeOf(chosen).host,
    ...{ index: chosen.index, query: chosen.query, source: chosen.source, metadata: chosen.metadata },
    field: by?.field,
    start: by?.start,
    lag: by?.lag ?? 0,
    leaveOut: by?.leave_out ?? true,
    settleMs: by?.settle ?? 0,
    missing: by?.missing ?? 'gap',
    ...{ again: chosen.again, lanes: chosen.lanes, slices: chosen.slices, size: chosen.size },
    keepAliveMs: chosen.keep_alive,
    ...{ concurrency: chosen.concurrency, perSecond: chosen.requests_per_second, retry: chosen.retry },
  }
}
