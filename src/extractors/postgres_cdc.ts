/** Changes of PostgreSQL tables by logical replication, in the order of commits; staged. */
import { hash } from 'node:crypto'
import { z } from 'zod'
import { ChangesFetcher, type ChangesOptions } from '../clients/postgres/replication/changes-fetcher.ts'
import { diagnoseChanges } from '../clients/postgres/replication/diagnose.ts'
import { sourceShape } from '../clients/postgres/source/options.ts'
import { stagedExtractor } from '../clients/staging/staged-extractor.ts'
import type { ComponentEnv } from '../core/contracts.ts'
import { defineExtractor } from '../core/define.ts'
import { byteSize } from '../core/job/units.ts'

const name = z.string().regex(/^[a-z0-9_]{1,63}$/, 'expected lower case letters, digits and underscores, at most 63')

const options = z
  .strictObject({
    ...sourceShape,
    tables: z
      .array(z.string().min(1))
      .min(1)
      .describe('The tables, as in SQL: `public.campaigns`. They become one stream, in the order of commits.'),
    slot: name
      .optional()
      .describe('The replication slot. Default: a name made of job and source. Each job needs one of its own.'),
    publication: name.optional().describe('The publication that has the tables. Default: the name of the slot.'),
    create: z
      .enum(['missing', 'never'])
      .default('missing')
      .describe('`missing`: slot and publication are made by the first run. Later runs never make a slot.'),
    snapshot: z
      .enum(['initial', 'never'])
      .optional()
      .describe(
        '`initial`: the rows that are there where the slot begins come first. Default, but with `create: never`: there only what the slot has kept comes.',
      ),
    max_slot_wal: byteSize
      .prefault('10GiB')
      .describe(
        'The log that the server keeps for the slot: beyond this a run and the doctor warn. It fills the disk of the server.',
      ),
  })
  .refine(({ create, snapshot }) => create !== 'never' || snapshot !== 'initial', {
    path: ['snapshot'],
    message: 'the rows of a slot that is there already cannot be had: `create: missing` makes one, with its snapshot',
  })

type Options = z.infer<typeof options>

export default defineExtractor({
  summary: 'Changes of PostgreSQL tables, by logical replication.',
  description: `Each change is a record: \`op\` (\`snapshot\`, \`insert\`, \`update\`, \`delete\`, \`truncate\`), \`schema\`, \`table\`, \`before\` and \`after\` (objects), \`lsn\`,
\`commit_lsn\`, \`commit_time\`, \`xid\`, and \`seq\`, its number in the transaction. Transactions come in the order of commits, whole. Rolled back ones never show. Columns are named in the
contract by their way: \`{ type: bigint, from: after.id }\`. \`numeric\` is text, so that no reader of JSON rounds it; arrays are arrays, times are in UTC.

**The first run** makes a publication and a slot, and reads the rows that are there where the slot begins, in its snapshot: what was committed before is a \`snapshot\` record, what is
committed later a change, nothing is both. Killed in the middle of it, the next run goes on in the table where it was: rows that are still as the slot's
snapshot has shown them come as \`snapshot\`; of those that were changed meanwhile only the change comes. Killed before the first rows are durable, a slot under adflow's own name is made anew;
one under a name of yours is not: the error says what to do.

**The slot is told what is safe** only after the checkpoint is durable. The server keeps the rest, also while no job runs: a slot that nobody reads fills its disk. \`max_slot_wal\` warns, and
\`max_slot_wal_keep_size\` of the server gives the slot up. A slot that is gone, or was read by somebody else, is a gap with exit 65: changes are lost, and no new slot is made in silence.
\`adflow state rewind --reload\` begins anew. To end it for ever: \`SELECT pg_drop_replication_slot('…')\`, \`DROP PUBLICATION …\`.

**Before images.** \`before\` of an update is there where the key was changed, or with \`ALTER TABLE … REPLICA IDENTITY FULL\`; else \`delete\` has the key alone. Large values that an update does not touch
are not told: they are missing in \`after\`, and named in \`unchanged\`. A table without primary key and replica identity is refused: once published, the server would refuse its updates.

**When tables change.** Records have the columns of their time; added, dropped and retyped columns are a warning. The contract decides what becomes of them.

**Into a store.** \`write: append\` keeps the log. \`write: merge\`, by the key and in the order of the stream, keeps the latest state of each row. Loaders do not delete: keep a column that says so, and leave
such rows out where you read. A change of the key leaves the row with the old one, and a \`truncate\` names no rows: find both in a log beside it.

\`\`\`yaml
version: 1
name: campaigns
extract:
  changes: { type: postgres_cdc, url: "postgres://replicator@localhost/ads", tables: [public.campaigns] }
contract:
  columns:
    op: varchar
    id_after: { type: bigint, from: after.id }
    id_before: { type: bigint, from: before.id }
    name: { type: varchar, from: after.name }
    commit_time: timestamptz
transform:
  - filter: "op <> 'truncate'"
  - derive: { id: "coalesce(id_after, id_before)", deleted: "op = 'delete'" }
load:
  latest: { type: duckdb, path: warehouse.duckdb, table: campaigns, write: merge, key: [id] }
\`\`\`

**Where it reads.** \`wal_level = logical\`, a user with REPLICATION and SELECT, who owns the tables where adflow makes the publication. A bounded run ends where the log ended when it began. One lane per slot: the
order across tables matters. A large transaction is staged in pages, and may be cut anywhere.`,
  options,
  example: {
    url: 'postgres://replicator@db.example:5432/ads',
    password: '${PGPASSWORD:-password}',
    tables: ['public.campaigns', 'public.budgets'],
    slot: 'adflow_campaigns',
  },
  // `statement_timeout` says it earlier, and of what.
  silenceMs: () => 600_000,
  diagnose: (chosen, env) => diagnoseChanges(changesOptions(chosen, env), env),
  create: (chosen, env) =>
    stagedExtractor(
      new ChangesFetcher(changesOptions(chosen, env), env.baseDir, (text) => env.log.warn({ source: env.id }, text)),
      env,
      { staging: chosen.staging, pollMs: chosen.poll },
    ),
})

function changesOptions(chosen: Options, { job, id }: Pick<ComponentEnv, 'job' | 'id'>): ChangesOptions {
  const { create, snapshot, ...rest } = chosen
  const slot = chosen.slot ?? ownName(job, id)
  return {
    ...rest,
    slot,
    ownName: chosen.slot === undefined,
    publication: chosen.publication ?? slot,
    create: create === 'missing',
    snapshot: (snapshot ?? (create === 'missing' ? 'initial' : 'never')) === 'initial',
  }
}

function ownName(job: string, id: string): string {
  const readable = `${job}_${id}`
    .toLowerCase()
    .replace(/[^a-z0-9_]+/g, '_')
    .slice(0, 40)
  return `adflow_${readable}_${hash('sha256', `${job}\n${id}`).slice(0, 8)}`
}
