/** An index of Elasticsearch or OpenSearch: bulk requests under ids that repeat, between two entries of the batch's own. */
import { z } from 'zod'
import { BatchLedger, createLedger, type HeldBatch, type Seen } from '../clients/elastic/batch-ledger.ts'
import { type BulkOutcome, sendDocuments } from '../clients/elastic/bulk.ts'
import { diagnoseElastic } from '../clients/elastic/diagnose.ts'
import {
  appendSql,
  type DocumentColumn,
  type Documents,
  dropDocuments,
  encodeDocuments,
  mergeSql,
} from '../clients/elastic/documents.ts'
import { type Fields, fieldsOf, STREAM_TIME, STREAM_TIMESTAMP } from '../clients/elastic/fields.ts'
import { Elastic, placeOf } from '../clients/elastic/http.ts'
import { countDocuments, refresh, removeDocuments } from '../clients/elastic/leftovers.ts'
import { connectionShape } from '../clients/elastic/options.ts'
import { remarksOf } from '../clients/elastic/remarks.ts'
import { fitNext, nextOf, swapIn } from '../clients/elastic/swap.ts'
import { findTarget, fitTarget, type TargetPlan, unfinishedReplace } from '../clients/elastic/target.ts'
import type { Column, HistoryContext, LoadBatch, Loader, LoaderEnv, Receipt, StoreRecord } from '../core/contracts.ts'
import { defineLoader } from '../core/define.ts'
import { AdflowError } from '../core/errors.ts'
import { keyGoesWithMerge, tableShape } from '../core/table-loader.ts'
import { tokenNumber } from '../core/token.ts'
import { ident } from '../engine/sql-text.ts'

const indexName = z
  .string()
  .regex(
    /^(?![-_+.])(?!.*__adflow_)[^A-Z\s\\/*?"<>|,#:]{1,200}$/,
    'expected the name of an index: lower case, without blanks, `/`, `*`, `,` and `:`',
  )

const options = z
  .strictObject({
    ...connectionShape,
    index: indexName.describe(
      'The index. Made from the columns that reach the loader when it is missing. It may be an alias, or a data stream.',
    ),
    write: tableShape.write.describe(
      '`append` adds documents; `merge` puts each row in the place of the document with its `key`; `replace` puts what one run has read in the place of the index, at the end of that run.',
    ),
    key: tableShape.key,
    data_stream: z
      .string()
      .min(1)
      .optional()
      .describe(
        'Column whose value becomes `@timestamp`: then `index` is a data stream, which refuses rows without it. For `append` only.',
      ),
    create: z
      .enum(['missing', 'never'])
      .default('missing')
      .describe('`missing`: the index, or the data stream with its index template, is made where it is missing.'),
    evolve: z
      .boolean()
      .default(true)
      .describe('New columns are added to the mapping. false: any difference is an error.'),
    batch_column: tableShape.batch_column,
    fields: z
      .record(
        z.string().min(1),
        z.looseObject({ type: z.string().optional().describe('`text`, `nested`, `date_nanos` …') }),
      )
      .default({})
      .describe(
        'Mapping of columns, in the words of the index, in the place of the usual one: `title: { type: text, analyzer: english }`. A part of a struct is named by its path, `device.os`.',
      ),
    dynamic: z
      .enum(['strict', 'false'])
      .default('strict')
      .describe(
        'What a new index does with fields that are not in its mapping: refuse the document, or keep and ignore them.',
      ),
    settings: z
      .record(z.string().min(1), z.union([z.string(), z.number(), z.boolean()]))
      .default({})
      .describe('Settings of a new index: `number_of_shards`, `number_of_replicas`, `index.lifecycle.name` …'),
    wait_for_active_shards: z
      .union([z.int().min(1), z.literal('all')])
      .default(1)
      .describe('Copies of a shard that must be there before a document is written to it.'),
    refresh: z
      .enum(['none', 'batch'])
      .default('none')
      .describe(
        '`batch`: a batch counts as written when a search finds it. `none`: a search finds it after the refresh interval of the index.',
      ),
    batches: z
      .string()
      .regex(/^\.?[a-z0-9][a-z0-9._-]*$/, 'expected the name of an index')
      .default('.adflow-batches')
      .describe('Hidden index with the entries of the batches. Whoever loads into one index must name the same.'),
  })
  .superRefine(keyGoesWithMerge)
  .superRefine(({ write, data_stream, user, api_key, password }, context) => {
    const issue = (path: string, message: string) => context.addIssue({ code: 'custom', path: [path], message })
    if (data_stream !== undefined && write !== 'append')
      issue('data_stream', 'a data stream takes `write: append` only')
    if (api_key !== undefined && (user ?? password) !== undefined)
      issue('api_key', 'give either `api_key`, or `user` and `password`')
    if (password !== undefined && user === undefined) issue('password', '`password` needs a `user`')
  })

type Options = z.infer<typeof options>

class ElasticsearchLoader implements Loader {
  readonly replay = 'token'
  readonly order: 'lane' | 'none'
  readonly streams: Loader['streams']
  readonly #options: Options
  readonly #elastic: Elastic
  readonly #ledger: BatchLedger
  readonly #workDir: string
  /** Where documents go. */
  readonly #target: string
  /** Parameters of every write. */
  readonly #shards: Readonly<Record<string, string>>
  readonly #fitted = new Map<string, Promise<void>>()

  constructor(chosen: Options, env: LoaderEnv) {
    const { batches, index, request_timeout, wait_for_active_shards, write } = chosen
    this.order = write === 'merge' ? 'lane' : 'none'
    // A merge reads the rows twice: it counts those that a later row of the same key replaces.
    this.streams = write === 'merge' ? undefined : 'chunks'
    this.#options = chosen
    this.#elastic = new Elastic(chosen, env.baseDir)
    this.#workDir = env.workDir
    this.#target = write === 'replace' ? nextOf(index) : index
    // The server gives up before the request does.
    const shards = { timeout: `${Math.ceil(request_timeout / 2)}ms` }
    this.#shards = { ...shards, wait_for_active_shards: String(wait_for_active_shards) }
    this.#ledger = new BatchLedger(
      this.#elastic,
      { index: batches, target: index, loader: env.id },
      // Its index has as many copies as it finds nodes, two at most.
      { ...shards, wait_for_active_shards: wait_for_active_shards === 1 ? '1' : 'all' },
    )
  }

  dataset() {
    const { host } = placeOf(this.#options)
    return { namespace: `elasticsearch://${host}`, name: this.#options.index }
  }

  async open({ columns }: { readonly columns: readonly Column[] }): Promise<void> {
    const { batches, index, write } = this.#options
    await createLedger(this.#elastic, batches)
    if (write === 'replace') return
    if ((await findTarget(this.#elastic, nextOf(index))) !== undefined) throw unfinishedReplace(nextOf(index))
    await this.#fit(columns)
  }

  async write(batch: LoadBatch, { signal }: { readonly signal: AbortSignal }): Promise<Receipt> {
    const held = await this.#ledger.find(batch.token)
    if (held?.state === 'done') return this.#repeated(batch, held)
    await this.#fit(batch.columns)
    const documents = await encodeDocuments(batch, await this.#select(batch), this.#workDir)
    try {
      const merges = this.#options.write === 'merge'
      const attempt = { rows: merges ? await countRows(batch) : documents.count, content: documents.content }
      const begun = merges
        ? await this.#merge(batch, documents, { attempt, held, signal })
        : await this.#append(batch, documents, { attempt, held, signal })
      if (this.#options.refresh === 'batch') await refresh(this.#elastic, this.#target)
      await this.#ledger.complete(batch, attempt, begun)
      return this.#receipt(attempt.rows, false)
    } finally {
      await dropDocuments(documents)
    }
  }

  async finish({ complete }: { readonly complete: boolean }): Promise<void> {
    if (this.#options.write === 'replace' && complete) await swapIn(this.#elastic, this.#options.index)
  }

  async probe(token: string): Promise<Receipt | undefined> {
    const held = await this.#ledger.find(token)
    return held?.state === 'done' ? this.#receipt(held.rows, true) : undefined
  }

  history(job: string, { since }: HistoryContext): Promise<readonly StoreRecord[]> {
    return this.#ledger.history(job, since)
  }

  close(): Promise<void> {
    return this.#elastic.close()
  }

  /** An older document is overwritten, a newer one never: not even by a request that was held up on its way. */
  async #merge(batch: LoadBatch, documents: Documents, { attempt, held, signal }: Attempt): Promise<Seen> {
    const begun = await this.#ledger.begin(batch, attempt, held)
    const { conflicts } = await this.#send(batch, documents, signal)
    if (conflicts === 0) return begun
    throw new AdflowError(
      'STORE_UNAVAILABLE',
      `cannot ${this.#doing(batch)}: ${conflicts} of its documents are newer than the batch`,
      { hint: 'another process writes to the index too; the batch is tried again, with a higher version' },
    )
  }

  /** A document that is there already is the same one: what an attempt of other content has left goes first. */
  async #append(batch: LoadBatch, documents: Documents, { attempt, held, signal }: Attempt): Promise<Seen> {
    const changed = held !== undefined && held.content !== attempt.content
    const rows = Math.max(held?.rows ?? 0, attempt.rows)
    const leftovers = { target: this.#target, token: batch.token, rows, signal }
    if (changed) await removeDocuments(this.#elastic, leftovers)
    const begun = await this.#ledger.begin(batch, attempt, held)
    const { conflicts, doubtful } = await this.#send(batch, documents, signal)
    if (held === undefined && conflicts === 0 && !doubtful) return begun
    // An alias or a data stream may have got another index to write to meanwhile, and have documents in both.
    const there = await countDocuments(this.#elastic, leftovers)
    if (there === attempt.rows && !(changed && conflicts > 0)) return begun
    await removeDocuments(this.#elastic, leftovers)
    throw new AdflowError(
      'STORE_UNAVAILABLE',
      `cannot ${this.#doing(batch)}: ${there} documents of interrupted attempts and of this one are there, ${attempt.rows} were to be`,
      { hint: 'they were removed; the batch is tried again' },
    )
  }

  #send(batch: LoadBatch, { file, count }: Documents, signal: AbortSignal): Promise<BulkOutcome> {
    const { requests, write } = this.#options
    return sendDocuments(this.#elastic, file, count, {
      target: this.#target,
      // The alias of a replace must not come into being as an index.
      query: { ...this.#shards, ...(write === 'replace' ? { require_alias: 'true' } : {}) },
      ...requests,
      doing: this.#doing(batch),
      signal,
    })
  }

  async #select(batch: LoadBatch): Promise<string> {
    const columns = documentColumns(this.#options, batch.columns, batch.token)
    const { key } = this.#options
    return key === undefined ? appendSql(columns, batch.token) : mergeSql(columns, key, await this.#ledger.fence())
  }

  /** Once for the same columns. Repeats harmlessly. */
  async #fit(columns: readonly Column[]): Promise<void> {
    const wanted = documentColumns(this.#options, columns)
    const list = JSON.stringify(wanted.map(({ name, type }) => [name, type]))
    const fitting = this.#fitted.get(list) ?? this.#fitNow(wanted)
    this.#fitted.set(list, fitting)
    await fitting.catch((error: unknown) => {
      this.#fitted.delete(list)
      throw error
    })
  }

  async #fitNow(columns: readonly DocumentColumn[]): Promise<void> {
    const { index, key, write } = this.#options
    const plan = planOf(this.#options)
    const wanted = wantedFields(this.#options, columns)
    if (write === 'replace') return fitNext(this.#elastic, index, wanted, plan)
    const { indices } = await fitTarget(this.#elastic, index, wanted, plan)
    if (key !== undefined && indices.length > 1)
      throw new AdflowError(
        'STORE_MISMATCH',
        `${index} stands for ${indices.length} indexes: \`merge\` finds a document only in the one that is written to`,
        { hint: 'name one index' },
      )
  }

  #doing({ token }: LoadBatch): string {
    return `write batch ${token.slice(0, 12)} to ${this.#options.index}`
  }

  #repeated({ range, source, token, digest }: LoadBatch, held: HeldBatch): Receipt {
    if (held.digest === digest) return this.#receipt(held.rows, true)
    throw new AdflowError(
      'STORE_MISMATCH',
      `${this.#options.index} holds batch ${token.slice(0, 12)} (${source}, ${range.lane} ${range.from}–${range.to}) with the digest ${held.digest}; it now has other bytes`,
      { hint: 'the source has changed under a range that was loaded; load it anew with an audited replay' },
    )
  }

  #receipt(rows: number, repeated: boolean): Receipt {
    return { rows, repeated, outputs: [this.#options.index] }
  }
}

interface Attempt {
  readonly attempt: { readonly rows: number; readonly content: string }
  readonly held: HeldBatch | undefined
  readonly signal: AbortSignal
}

function planOf({ create, data_stream, dynamic, evolve, settings }: Options): TargetPlan {
  return { create: create === 'missing', evolve, stream: data_stream !== undefined, dynamic, settings }
}

function wantedFields({ data_stream: timestamp, fields }: Options, columns: readonly DocumentColumn[]): Fields {
  return fieldsOf(columns, {
    ...(timestamp === undefined ? {} : { [STREAM_TIMESTAMP]: STREAM_TIME }),
    ...(fields as Fields),
  })
}

/** `token`: of the batch, where values are written. */
function documentColumns(
  { batch_column: numbered, data_stream: timestamp }: Options,
  columns: readonly Column[],
  token?: string,
): DocumentColumn[] {
  const own = columns.map(({ name, type }) => ({ name, type, sql: ident(name) }))
  const moment = own.find(({ name }) => name === timestamp)
  if (moment !== undefined && moment.name !== STREAM_TIMESTAMP) own.unshift({ ...moment, name: STREAM_TIMESTAMP })
  if (numbered === false) return own
  return [...own, { name: numbered, type: 'BIGINT', sql: `(${token === undefined ? 0 : tokenNumber(token)})` }]
}

/** Also those that a later row of the same key replaces. */
async function countRows({ engine, relation }: LoadBatch): Promise<number> {
  const [row] = await engine.rows(`SELECT count(*) AS n FROM ${relation} AS batch`)
  return Number(row?.['n'])
}

export default defineLoader({
  summary: 'Loads into an index of Elasticsearch or OpenSearch, by bulk requests.',
  description: `A batch has an entry in the hidden index \`.adflow-batches\`: written as begun before its first document, and as done after its
last one. A batch that is done is refused. One that was begun and not seen to its end is written again under the same ids, which doubles
nothing: a document that is there already is the same one. Where the rows have changed meanwhile (another version of the job, another
order of the rows), what the interrupted attempt has left is removed first. After such a repetition the documents of the batch are counted, also over all
indexes of a data stream or an alias that has got another index meanwhile.

There are no transactions here: while a batch is being written, and after an attempt that failed, searches find a part of it. Whether it
is whole says its entry, or \`batch_column\`.

**append** creates documents under ids of the batch and the row's place in it; several batches at a time. **merge** puts each row in the place of the
document with its \`key\`: all of it, also columns that the batch lacks. The \`_id\` is the value of a key that is one column of text, integers or
UUIDs, else a hash. Of rows with the same key in one batch the last one wins; one batch at a time. Each attempt takes a number that is higher than all before
(\`version_type: external_gte\`), so that no request that was held up on its way overwrites a newer document. When the job is changed
between an interrupted attempt and its repetition, rows that only the interrupted one had stay. **replace** collects what a run reads in an index behind the alias
\`<index>__adflow_next\` and puts it in the place of the old one in one step, when the run has read everything and nothing is owed; \`index\` is an
alias from then on. An index of that name, or of an earlier replace, is deleted; another one loses the alias only.

**Refusals.** Documents that the server refuses because it is busy (429) or a shard is away (5xx) are sent again, those alone, a few times. A document that
does not fit the mapping fails the batch with its id and the reason; the other documents of the batch stay, and repeating it is harmless. A full disk (the
flood stage) and a read-only index fail the batch at once; it is owed.

**Types.** \`_source\` has every value exactly. Integers become \`long\`, UBIGINT \`unsigned_long\`; HUGEINT and decimals text, of which decimals of up to 15
digits are indexed as \`scaled_float\` (exactly) and the others as \`keyword\`; timestamps and dates ISO 8601 text in UTC with all their digits, indexed as
\`date\`, which searches and sorts by milliseconds, also before 1970; NaN and infinities text that is not indexed; BLOB base64; text, UUIDs and
intervals \`keyword\` (longer than 8,191 characters: kept, not searched); structs objects, lists several values, lists of structs objects too unless
\`fields\` says \`nested\`; JSON and maps are kept and not indexed. NULL is \`null\`, empty text is empty text.

**Durability.** A batch is done when every copy of a shard that counts has it on disk: \`index.translog.durability\` must be \`request\`, the default, and an index
where it is \`async\`, or whose \`_source\` is not kept as it came, is refused.

**Elasticsearch and OpenSearch** are spoken to by the API that both have. The tests run against OpenSearch 3; Elasticsearch is not tested.
A lifecycle policy of Elasticsearch is named in \`settings\`, one of OpenSearch names the index in its own \`ism_template\`.

**Least privilege.** With \`create: never\` and \`evolve: false\` the user needs on the index \`view_index_metadata\`, \`create_doc\` (for \`merge\` \`index\`), and for repetitions \`read\`,
\`delete\` and \`maintenance\`; on \`.adflow-batches\` \`read\`, \`index\`, \`maintenance\`, and \`create_index\` until it is there. Else \`manage\` on the index, and for a new data stream
\`manage_index_templates\`.`,
  options,
  example: {
    url: 'https://search.example:9200',
    user: 'adflow',
    password: 'set by ${ELASTIC_PASSWORD}',
    index: 'events',
    write: 'merge',
    key: ['event_id'],
    fields: { title: { type: 'text', analyzer: 'english' } },
  },
  async check(chosen, { path, columns }) {
    return remarksOf(chosen, columns, path)
  },
  diagnose(chosen, env) {
    const { batches, index, write } = chosen
    const columns = env.columns === undefined ? undefined : documentColumns(chosen, env.columns)
    const fields = columns === undefined ? undefined : wantedFields(chosen, columns)
    return diagnoseElastic(chosen, { index, write, batches, plan: planOf(chosen), fields }, env)
  },
  create: (chosen, env) => new ElasticsearchLoader(chosen, env),
})
