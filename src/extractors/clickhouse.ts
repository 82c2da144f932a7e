/** A table or a query of ClickHouse, in the order of its cursor; fetched rows are staged. */
import { z } from 'zod'
import { ClickHouse, placeOf } from '../clients/clickhouse/connect.ts'
import { diagnoseClickHouseSource } from '../clients/clickhouse/diagnose-source.ts'
import { discoverTables } from '../clients/clickhouse/discover-source.ts'
import { connectionShape } from '../clients/clickhouse/options.ts'
import { READER } from '../clients/clickhouse/reader.ts'
import { TableFetcher, type TableFetcherOptions } from '../clients/clickhouse/table-fetcher.ts'
import { retryOptions } from '../clients/staging/attempts.ts'
import { stagingOptions } from '../clients/staging/options.ts'
import { stagedExtractor } from '../clients/staging/staged-extractor.ts'
import { defineExtractor } from '../core/define.ts'
import { discovery } from '../core/discovery.ts'
import { duration } from '../core/job/units.ts'

const name = z.string().min(1)

const parallel = z
  .discriminatedUnion('by', [
    z.strictObject({
      by: z.literal('partition').describe('Each partition of the table is a lane.'),
    }),
    z.strictObject({
      by: z.literal('modulo').describe('Each row belongs to the lane that the hash of an expression says.'),
      of: z.string().min(1).describe('SQL of the expression, such as `id`. It must give the same for a row each time.'),
      count: z.int().min(2).max(64).describe('Number of lanes. Another number makes other lanes, which begin anew.'),
    }),
  ])
  .describe('Lanes that are read side by side, `concurrency` at a time. Without it there is one.')

const options = z
  .strictObject({
    ...connectionShape,
    table: name.optional().describe('The table, or view, in the database of `url`.'),
    query: name
      .optional()
      .describe('A SELECT in place of `table`, without FORMAT, SETTINGS and a semicolon. It is read as a subquery.'),
    columns: z
      .array(name)
      .min(1)
      .optional()
      .describe('Columns that are read, those of `cursor` and `key` on top. Without it: all that `SELECT *` gives.'),
    where: name.optional().describe('SQL of a condition, which must not change from run to run for a row.'),
    final: z
      .boolean()
      .default(false)
      .describe('true: rows as the engine of the table merges them (`FINAL`), not as its parts hold them.'),
    cursor: z
      .array(name)
      .max(8)
      .default([])
      .describe(
        'Columns by which rows are ordered and read on: a time or a number that rises, and more where rows share it. Best a prefix of the sorting key.',
      ),
    start: name.optional().describe('The first run begins with this value of the first column of `cursor`.'),
    lag: z
      .union([duration, z.int().nonnegative()])
      .prefault('0s')
      .describe(
        'So much before the highest value is read again, for rows that come late: a duration for times and dates, a number for integers. State `key` with it.',
      ),
    key: z
      .array(name)
      .default([])
      .describe('Columns that tell a row: what the `lag` brings again, with the same values in `cursor`, is left out.'),
    settle: duration
      .prefault('0s')
      .describe(
        'Rows whose time in the first column of `cursor` is younger than this, by the clock of the server, are left for a later run.',
      ),
    again: z
      .enum(['newer', 'all'])
      .default('newer')
      .describe('What a later run reads. `newer`: what stands behind the cursor. `all`: everything, as new rows.'),
    parallel: parallel.optional(),
    query_rows: z
      .int()
      .positive()
      .default(1_000_000)
      .describe('Most rows of one answer of the server, where there is a `cursor`; then the next one is asked for.'),
    idle_timeout: duration
      .prefault('2m')
      .describe('Between two pieces of an answer, waiting for the engine not counted.'),
    requests_per_second: z.number().positive().optional().describe('Queries that begin in a second.'),
    concurrency: z
      .int()
      .positive()
      .max(64)
      .default(4)
      .describe('Queries under way at the same time. One lane has one.'),
    retry: retryOptions.prefault({}),
    poll: duration.prefault('1m').describe('How often a job that runs for ever asks again.'),
    staging: stagingOptions.prefault({}),
  })
  .superRefine(({ table, query, final, cursor, lag, key, settle, start, again, parallel: lanes }, context) => {
    const issue = (path: string, message: string) => context.addIssue({ code: 'custom', path: [path], message })
    if ((table === undefined) === (query === undefined)) issue('table', 'give either `table` or `query`')
    if (final && table === undefined) issue('final', 'is said of a `table`; in `query` write FINAL there')
    if (lanes?.by === 'partition' && table === undefined) issue('parallel', 'partitions are those of a `table`')
    if (cursor.length === 0) {
      if (again === 'newer') issue('cursor', 'say what a later run reads: `cursor`, or `again: all`')
      if (lag > 0 || settle > 0 || start !== undefined)
        issue('cursor', '`lag`, `settle` and `start` are about its first column')
    }
    if (again === 'all' && lag > 0) issue('lag', 'has no meaning with `again: all`')
    if (key.length > 0 && lag === 0) issue('key', 'leaves out what the `lag` brings again: set that, too')
  })

type Options = z.infer<typeof options>

export default defineExtractor({
  summary: 'A table or a query of ClickHouse, incrementally by a cursor of columns, in parallel lanes.',
  description: `Rows come in the order of \`cursor\`, streamed, compressed on the way, and staged durably before anything else is done with them. Rows that
share all values of \`cursor\` stay together, however many they are: a page, and an answer (\`LIMIT … WITH TIES\`), ends only where they change. So nothing is lost or
doubled where an answer breaks off, adflow is killed or the server is: the next statement begins behind the last page that is durable. Without \`cursor\` the whole
answer is one page, which begins anew when it breaks off.

**What a later run reads.** Rows whose \`cursor\` is greater than the greatest that was read. A row that is inserted later with a smaller one is not seen, nor is one that an
asynchronous insert or a replica shows late: \`settle\` leaves the youngest rows for the next run, which is enough where rows come at most so late after the time
that they carry; \`lag\` reads the last stretch again, and \`key\` leaves out what was read of it – for up to 4000 rows within the lag. Beyond that use \`settle\`, or \`lag\` without \`key\` and the step \`dedupe\` or
\`write: merge\`. What comes later than both is not read by a later run. Deleted rows are not reported.

**Merges.** Statements of one pass see the table at different times. In a ReplacingMergeTree, an older version of a row may be read before it is merged away, and a newer one
comes too where its \`cursor\` is greater; with \`final\` each statement sees merged rows. Rows of Summing- and AggregatingMergeTree change their values without moving: read these with \`again: all\`.

**Values.** Rows are JSONEachRow, whose NULL is not empty text and whose lists, maps and tuples are JSON. Integers of 64 bits and more, decimals and floats are texts, with all
digits, \`nan\`, \`inf\` and \`-0\`; DateTime and DateTime64 are UTC, with their digits (\`2026-03-01 10:00:00.123456Z\`); an Enum is its name, a FixedString has all of its bytes. Inside of lists, maps and tuples numbers are
written by the server: exact too. A String that is not UTF-8 is quarantined: read it by \`query\`, as \`hex(…)\`.

**A read-only user is enough**, with SELECT on what is read: no table, no setting of the server is changed. With readonly = 1 no setting can be sent: answers are not compressed then, and where the
user's own settings would cut rows off in silence (\`result_overflow_mode = 'break'\`, \`limit\` …) or lose values, the source is a gap that names them. Everybody else's statements override these.

**Errors in the middle of an answer** are seen: a row is a whole line that begins with the first column, and what the server writes instead is its error, never data.

**Lanes.** With \`parallel\` each lane has a cursor of its own. A lane that is new, because a partition is, begins at \`start\`.`,
  options,
  example: {
    url: 'https://reader@warehouse.example:8443/ads',
    password: '${CLICKHOUSE_PASSWORD:-password}',
    table: 'impressions',
    cursor: ['inserted_at', 'id'],
    settle: '30s',
  },
  discovery: discovery(z.object(connectionShape), discoverTables),
  diagnose: (chosen, env) => diagnoseClickHouseSource(chosen, fetcherOptions(chosen), env),
  create: (chosen, env) => {
    const clickhouse = new ClickHouse(
      { ...chosen, connections: Math.max(chosen.connections, chosen.concurrency) },
      env.baseDir,
      undefined,
      READER,
    )
    return stagedExtractor(new TableFetcher(clickhouse, { ...fetcherOptions(chosen), hosts: env.hosts }), env, {
      staging: chosen.staging,
      pollMs: chosen.poll,
    })
  },
})

function fetcherOptions(chosen: Options): TableFetcherOptions {
  const { server, database } = placeOf(chosen)
  return {
    server,
    database,
    ...{ table: chosen.table, query: chosen.query, columns: chosen.columns, where: chosen.where, final: chosen.final },
    ...{ cursor: chosen.cursor, key: chosen.key, start: chosen.start, lag: chosen.lag, settleMs: chosen.settle },
    ...{ again: chosen.again, lanes: chosen.parallel, queryRows: chosen.query_rows },
    ...{ statementMs: chosen.statement_timeout, idleMs: chosen.idle_timeout },
    ...{ concurrency: chosen.concurrency, perSecond: chosen.requests_per_second, retry: chosen.retry },
  }
}
