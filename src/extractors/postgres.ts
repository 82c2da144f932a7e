/** A table of PostgreSQL: all of it, then what transactions have left since; by COPY, staged. */
import { z } from 'zod'
import { discoverTables } from '../clients/postgres/discover-source.ts'
import { connectionShape } from '../clients/postgres/options.ts'
import { diagnosePostgresSource } from '../clients/postgres/source/diagnose.ts'
import { sourceShape } from '../clients/postgres/source/options.ts'
import { QueryFetcher } from '../clients/postgres/source/query-fetcher.ts'
import { TableFetcher } from '../clients/postgres/source/table-fetcher.ts'
import type { Fetcher } from '../clients/staging/fetcher.ts'
import { stagedExtractor } from '../clients/staging/staged-extractor.ts'
import type { ComponentEnv } from '../core/contracts.ts'
import { defineExtractor } from '../core/define.ts'
import { discovery } from '../core/discovery.ts'
import { duration } from '../core/job/units.ts'

const options = z
  .strictObject({
    ...sourceShape,
    table: z
      .union([z.string().min(1), z.array(z.string().min(1)).min(1)])
      .optional()
      .describe(
        'The table, or several of one shape, as in SQL: `events`, `public.events`, `public."Odd name"`. Each is a lane. With partitions: all of them.',
      ),
    query: z
      .string()
      .min(1)
      .optional()
      .describe('A SELECT in place of `table`, without a semicolon: for views, joins, foreign tables.'),
    columns: z.array(z.string().min(1)).min(1).optional().describe('Columns of `table` that are read. Default: all.'),
    cursor: z
      .array(z.string().min(1))
      .min(1)
      .optional()
      .describe(
        'Of a table: column of numbers or times that rises when a row is inserted or changed, with an index. Later runs look only at what is above its highest value less the `lag`. Without it they look through all of the table. Of a query: columns by which rows are ordered and read on; more than one where rows share the first.',
      ),
    lag: z
      .union([duration.transform((ms) => ({ ms })), z.number().nonnegative()])
      .optional()
      .describe(
        'How far below the highest value of `cursor` rows may appear late: as long as the longest transaction. Of a table the default is `1h`, or 100000 where it is a number, and what was read already is left out. Of a query there is none; it needs `key`.',
      ),
    key: z
      .array(z.string().min(1))
      .default([])
      .describe(
        'Columns that tell a row of a query: what the `lag` brings again, with the same values in `cursor`, is left out.',
      ),
    again: z
      .enum(['changed', 'all'])
      .default('changed')
      .describe(
        'What later runs read. `changed`: rows that were inserted or changed; of a query what stands behind its cursor. `all`: all rows, as new records.',
      ),
    parallel: z
      .int()
      .min(1)
      .max(32)
      .default(2)
      .describe('Connections that read a table at the same time, in one snapshot.'),
    idle_timeout: duration
      .prefault('5m')
      .describe('How long the server keeps the snapshot while adflow is busy. Then reading goes on in a new one.'),
  })
  .superRefine(({ table, query, columns, cursor, lag, key, again }, context) => {
    const issue = (path: string, message: string) => context.addIssue({ code: 'custom', path: [path], message })
    if ((table === undefined) === (query === undefined)) issue('table', 'give either `table` or `query`')
    if (lag !== undefined && cursor === undefined) issue('cursor', '`lag` is about its first column')
    if (query === undefined && key.length > 0) issue('key', 'rows of a table are told by their transaction')
    if (query === undefined) return
    if (columns !== undefined) issue('columns', 'are those of a `table`; a `query` names its own')
    if (cursor === undefined && again === 'changed')
      issue('cursor', 'say what a later run reads: `cursor`, or `again: all`')
    if ((lag === undefined) !== (key.length === 0)) issue('key', 'a query needs `lag` and `key` together')
    if (again === 'all' && lag !== undefined) issue('lag', 'has no meaning with `again: all`')
  })

type Options = z.infer<typeof options>

export default defineExtractor({
  summary: 'A table or a query of PostgreSQL, incrementally, by COPY.',
  description: `The first run reads all rows, later ones what was inserted or changed since. Rows are told apart by the transaction that has
left them: a run reads what transactions have left that were over when it began, and no later run reads that again. A transaction that commits
late, with lower numbers or earlier times than what was read already, is not missed; one that is rolled back never shows. While a transaction is open
in the database – on a standby: anywhere in the cluster – what later ones have written waits for it; a warning names it and its process. \`PREPARE TRANSACTION\` leaves one open as well.

**Each row version comes once.** Where rows are only added, each comes once: \`write: append\`. Where they are changed, the row comes again as it is now: load it
with \`write: merge\`. What was changed twice between two runs comes once. Deleted rows are not told: see \`postgres_cdc\`.

**\`cursor\` and \`lag\`.** Without \`cursor\` each run looks through the table: exact, and the server reads all of it each time. With it an index finds
what is new. Then a transaction that commits more than the \`lag\` behind the highest value is missed, and so is a change that leaves the column as it was.

**Killed in the middle**, the next run goes on at the place in the table where it was, with the same set of transactions. What was changed meanwhile comes in the
pass after it, which looks through all of the table.

**Values.** Times are in UTC with microseconds, \`numeric\` with all digits, arrays and composites are JSON, bytes fit \`blob\`; NULL and the empty text differ.
Name what you need in the contract: \`bigint\`, \`decimal(38,18)\`, \`timestamptz\`, \`json\`, \`varchar[]\` …

**\`query\`.** Its rows know no transaction. They come in the order of \`cursor\`; later runs read what stands behind the last row. Rows without a value there are not read. What is committed later with
lower values is missed, unless a \`lag\` reads the last stretch again, and \`key\` leaves out what was read of it – for up to 4000 rows within the lag. Rows that share all values of \`cursor\` stay together in
a page. Without \`cursor\` the whole answer is one page, which begins anew when it breaks off. \`numeric\` is text in its records.

**Where it reads.** In transactions that may not write, on a standby as well. Views, foreign tables and catalogs of the whole cluster (\`pg_database\`) only by \`query\`. The user needs SELECT. After a restore to an earlier time, or a
move to another cluster, transactions are numbered otherwise: a gap says so, and nothing is guessed. PostgreSQL 14 or newer is fast; older ones read slowly in parts.`,
  options,
  example: {
    url: 'postgres://reader@db.example:5432/ads',
    password: '${PGPASSWORD:-password}',
    table: 'public.impressions',
    cursor: ['updated_at'],
    lag: '2h',
  },
  discovery: discovery(z.object({ ...connectionShape, ...sourceShape }), (chosen, env) => discoverTables(chosen, env)),
  // `statement_timeout` says it earlier, and of what.
  silenceMs: () => 600_000,
  diagnose: (chosen, env) => diagnosePostgresSource(chosen, env),
  create: (chosen, env) =>
    stagedExtractor(fetcherOf(chosen, env), env, { staging: chosen.staging, pollMs: chosen.poll }),
})

function fetcherOf(chosen: Options, { id, baseDir, log }: ComponentEnv): Fetcher {
  const { cursor: columns, lag, query } = chosen
  const cursor = columns === undefined ? undefined : { columns, lag }
  if (query !== undefined) return new QueryFetcher({ ...chosen, query, cursor }, baseDir)
  const tables = chosen.table === undefined ? [] : [chosen.table].flat()
  return new TableFetcher({ ...chosen, columns: chosen.columns, tables, cursor }, baseDir, (text) =>
    log.warn({ source: id }, text),
  )
}
