/** A table of PostgreSQL: all of it, then what transactions have left since; by COPY, staged. */
import { z } from 'zod'
import { discoverTables } from '../clients/postgres/discover-source.ts'
import { connectionShape } from '../clients/postgres/options.ts'
import { diagnosePostgresSource } from '../clients/postgres/source/diagnose.ts'
import { sourceShape } from '../clients/postgres/source/options.ts'
import { TableFetcher, type TableOptions } from '../clients/postgres/source/table-fetcher.ts'
import { stagedExtractor } from '../clients/staging/staged-extractor.ts'
import { defineExtractor } from '../core/define.ts'
import { discovery } from '../core/discovery.ts'
import { duration } from '../core/job/units.ts'

const options = z.strictObject({
  ...sourceShape,
  table: z
    .union([z.string().min(1), z.array(z.string().min(1)).min(1)])
    .describe(
      'The table, or several of one shape, as in SQL: `events`, `public.events`, `public."Odd name"`. Each is a lane. With partitions: all of them.',
    ),
  columns: z.array(z.string().min(1)).min(1).optional().describe('Columns that are read. Default: all.'),
  cursor: z
    .array(z.string().min(1))
    .min(1)
    .optional()
    .describe(
      'Column of numbers or times that rises when a row is inserted or changed, with an index. Later runs look only at what is above its highest value less the `lag`. Without it they look through all of the table.',
    ),
  lag: z
    .union([duration.transform((ms) => ({ ms })), z.number().nonnegative()])
    .optional()
    .describe(
      'How far below the highest value of `cursor` rows may appear late: as long as the longest transaction. Default: `1h`, or 100000 where it is a number. What was read already is left out.',
    ),
  again: z
    .enum(['changed', 'all'])
    .default('changed')
    .describe('What later runs read. `changed`: rows that were inserted or changed. `all`: all rows, as new records.'),
  parallel: z.int().min(1).max(32).default(2).describe('Connections that read at the same time, in one snapshot.'),
  idle_timeout: duration
    .prefault('5m')
    .describe('How long the server keeps the snapshot while adflow is busy. Then reading goes on in a new one.'),
})

export default defineExtractor({
  summary: 'A table of PostgreSQL, incrementally, by COPY.',
  description: `The first run reads all rows, later ones what was inserted or changed since. Rows are told apart by the transaction that has
left them: a run reads what transactions have left that were over when it began, and no later run reads that again. A transaction that commits
late, with lower numbers or earlier times than what was read already, is not missed; one that is rolled back never shows. While a transaction is open
anywhere in the cluster, what later ones have written waits for it; a warning says so.

**Each row version comes once.** Where rows are only added, each comes once: \`write: append\`. Where they are changed, the row comes again as it is now: load it
with \`write: merge\`. What was changed twice between two runs comes once. Deleted rows are not told: see \`postgres_cdc\`.

**\`cursor\` and \`lag\`.** Without \`cursor\` each run looks through the table: exact, and the server reads all of it each time. With it an index finds
what is new. Then a transaction that commits more than the \`lag\` behind the highest value is missed, and so is a change that leaves the column as it was.

**Killed in the middle**, the next run goes on at the place in the table where it was, with the same set of transactions. What was changed meanwhile comes in the
pass after it, which looks through all of the table.

**Values.** Times are in UTC with microseconds, \`numeric\` with all digits, arrays and composites are JSON, bytes fit \`blob\`; NULL and the empty text differ.
Name what you need in the contract: \`bigint\`, \`decimal(38,18)\`, \`timestamptz\`, \`json\`, \`varchar[]\` …

**Where it reads.** In transactions that may not write, on a standby as well. Not from views and foreign tables. The user needs SELECT. After a restore to an earlier time, or a
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
  diagnose: (chosen, env) => diagnosePostgresSource(chosen, env),
  create: (chosen, env) =>
    stagedExtractor(
      new TableFetcher(tableOptions(chosen), env.baseDir, (text) => env.log.warn({ source: env.id }, text)),
      env,
      { staging: chosen.staging, pollMs: chosen.poll },
    ),
})

function tableOptions(chosen: z.infer<typeof options>): TableOptions {
  const { cursor, lag, table, ...rest } = chosen
  return {
    ...rest,
    tables: [table].flat(),
    columns: chosen.columns,
    cursor: cursor === undefined ? undefined : { columns: cursor, lag },
  }
}
