/** Keys of Redis: parts of a batch by script, each with its mark in the slot of its data. */
import { z } from 'zod'
import {
  askServer,
  type Begun,
  batchesOf,
  beginBatch,
  closeBatch,
  enterBatch,
  findBatch,
  type HeldBatch,
  type LedgerPlace,
  targetOf,
} from '../clients/redis/batch-ledger.ts'
import { placeOf, RedisServer } from '../clients/redis/connect.ts'
import { dataShape, optionsGoWithKind } from '../clients/redis/data-options.ts'
import { type DataSql, dataSql } from '../clients/redis/data-sql.ts'
import { diagnoseRedis } from '../clients/redis/diagnose.ts'
import { connectionShape, masterGoesWithSentinel } from '../clients/redis/options.ts'
import { cutBatch, dropParts } from '../clients/redis/parts.ts'
import { remarksOf } from '../clients/redis/remarks.ts'
import { sendParts } from '../clients/redis/send.ts'
import type { HistoryContext, LoadBatch, Loader, LoaderEnv, Receipt, StoreRecord } from '../core/contracts.ts'
import { defineLoader } from '../core/define.ts'
import { AdflowError } from '../core/errors.ts'

const options = z
  .strictObject({ ...connectionShape, ...dataShape })
  .superRefine(masterGoesWithSentinel)
  .superRefine(optionsGoWithKind)

type Options = z.infer<typeof options>

class RedisLoader implements Loader {
  readonly replay = 'token'
  readonly order: 'lane' | 'none'
  readonly #options: Options
  readonly #server: RedisServer
  readonly #place: LedgerPlace
  readonly #label: string

  constructor(chosen: Options, env: LoaderEnv) {
    const { as, prefix } = chosen
    // Sums do not care which batch comes first; of everything else the last one counts, or readers see the order.
    this.order = as === 'counter' ? 'none' : 'lane'
    this.#options = chosen
    this.#server = new RedisServer(chosen, env.baseDir)
    this.#place = placeIn(chosen, env.id)
    this.#label = `${prefix}* (${as})`
  }

  dataset() {
    const { host, port, database } = placeOf(this.#options)
    const { as, prefix } = this.#options
    return { namespace: `redis://${host}:${port}`, name: `${database}.${prefix}${as}` }
  }

  async open(): Promise<void> {
    await this.#server.with(`open ${this.#label}`, ({ client }) => askServer(client, this.#place))
  }

  async write(batch: LoadBatch, { signal }: { readonly signal: AbortSignal }): Promise<Receipt> {
    const doing = `write batch ${batch.token.slice(0, 12)} to ${this.#label}`
    return this.#server.with(
      doing,
      async ({ client, confirm }) => {
        if (batch.empty === true) {
          const other = await enterBatch(client, this.#place, batch)
          await confirm()
          return other === undefined ? this.#receipt(0, false) : this.#repeated(batch, other)
        }
        const held = await findBatch(client, this.#place, batch.token)
        if (held !== undefined) return this.#repeated(batch, held)
        const sql = await this.#sqlFor(batch)
        const { prefix, topology } = this.#options
        try {
          const { pages, rows } = await cutBatch(batch, sql, { prefix, clustered: topology === 'cluster' })
          const begin = async (above?: number): Promise<Begun | HeldBatch> =>
            beginBatch(client, this.#place, batch, above)
          const begun = await begin()
          if ('digest' in begun) return this.#repeated(batch, begun)
          const { target } = this.#place
          const renew = async (above: number): Promise<Begun> => {
            const again = await begin(above)
            if (!('digest' in again)) return again
            throw new AdflowError('STORE_UNAVAILABLE', 'another writer has written the batch meanwhile')
          }
          const sending = { client, batch, options: this.#options, target, sql, signal, renew }
          await sendParts(sending, begun, pages)
          await confirm()
          const other = await closeBatch(client, this.#place, batch, rows)
          await confirm()
          return other === undefined ? this.#receipt(rows, false) : this.#repeated(batch, other)
        } finally {
          await dropParts(batch)
        }
      },
      signal,
    )
  }

  async probe(token: string): Promise<Receipt | undefined> {
    const held = await this.#server.with(`look for a batch in ${this.#label}`, ({ client }) =>
      findBatch(client, this.#place, token),
    )
    return held === undefined ? undefined : this.#receipt(held.rows, true)
  }

  history(job: string, { since }: HistoryContext): Promise<readonly StoreRecord[]> {
    return this.#server.with(`read the batches of ${this.#label}`, ({ client }) =>
      batchesOf(client, this.#place, { job, since }),
    )
  }

  close(): Promise<void> {
    return this.#server.close()
  }

  async #sqlFor({ columns, engine, relation }: LoadBatch): Promise<DataSql> {
    const { score } = this.#options
    const typed = score === undefined ? [] : await engine.rows(`DESCRIBE SELECT (${score}\n) FROM ${relation} AS batch`)
    return dataSql(this.#options, { columns, scoreType: String(typed[0]?.['column_type']) })
  }

  #repeated({ range, source, token, digest }: LoadBatch, held: HeldBatch): Receipt {
    if (held.digest === digest) return this.#receipt(held.rows, true)
    throw new AdflowError(
      'STORE_MISMATCH',
      `${this.#label} holds batch ${token.slice(0, 12)} (${source}, ${range.lane} ${range.from}–${range.to}) with the digest ${held.digest}; it now has other bytes`,
      { hint: 'the source has changed under a range that was loaded; load it anew with an audited replay' },
    )
  }

  #receipt(rows: number, repeated: boolean): Receipt {
    return { rows, repeated, outputs: [this.dataset().name] }
  }
}

/** Whatever decides what is written makes the target: of two loaders that differ in it neither may take the other's batches for its own. */
function placeIn(
  { as, prefix, key, fields, value, member, score, increment, increments }: Options,
  loader: string,
): LedgerPlace {
  const target = targetOf([as, prefix, key, fields, value, member, score, increment, increments])
  return { prefix, target, loader }
}

export default defineLoader({
  summary: 'Writes into Redis: hashes, strings, sorted sets, counters and streams.',
  description: `A batch is sent in parts, each at most 1,000 entries or 512 KiB in one slot, and each part is one script. The script first asks
what may fail (privileges, types of keys, ends of counters), then marks the part as begun, writes, and marks it as done, in a small hash
(the fence, \`<prefix>_adflow:<target>:{…}\`) that lies in the slot of its data. So data and mark are written, replicated and lost together. When
all parts are done the batch is entered into \`<prefix>_adflow:{<target>}:batches\`, which remembers all batches, about 300 bytes each; where the last one of each lane begins stands beside it (\`:tops\`). A batch that
comes again, wherever it was cut off, leaves the parts that are done as they are and adds those that are missing: no counter is raised twice.
A reader may see a part of a batch before the rest. Nothing is ever sent again by the client itself; a redirection (MOVED, ASK, TRYAGAIN)
repeats the one script that it answers. \`<target>\` names what is written (\`as\`, \`prefix\`, \`key\`, the fields and expressions): loaders that write
the same share it, and one whose expressions have changed is another target, which knows nothing of the batches before.

**hash**: the row's fields are set, and those that are NULL are removed; other fields of the key stay. **string**: set; NULL removes the key. **sorted_set**: the
member gets the score. Of rows with the same key (and member) in one batch the last one counts; batches of a lane come one after the other.
**counter**: the increments of a batch are summed for each key (and field), and added once; NULL adds nothing. **stream**: each row is an entry, with an id
of the server; NULL fields are left out.

**Counters are integers of 64 bits.** A decimal is counted as an integer too: \`{ of: spend, scale: 6 }\` counts millionths, exactly, and readers divide by
10^6. A value with more digits than \`scale\`, and a sum that leaves 64 bits, are refused. Nothing is added as a floating point number.

**Types.** All is text. Numbers have all their digits, timestamps are \`2026-01-02 03:04:05.678901\` (with time zone: in UTC, behind it \`+00\`), structs, lists
and maps JSON, BLOB hexadecimal. NULL is an absent field, the empty string an empty one. In the JSON of a row NaN and infinity are bare, as in no
standard. A score is a double: one that a double does not hold exactly is refused.

**Cluster.** Keys stay as \`key\` makes them, with or without a \`{tag}\`; fences carry a tag that lies in the slot of the data. Slots may be moved during
a run: until a slot has arrived, its new keys wait. Each batch sends a script to every slot that it touches, so keys that share tags are
faster. A \`prefix\` that is a tag (\`{ads}:\`) puts everything into one slot.

**Failover.** Redis replicates after it has answered. A master that dies may take the last parts with it, data and marks together. Of a batch that is still
under way the next attempt finds and repeats them. Of one that was entered it would not: set \`wait\`, so that a batch counts only when replicas have
it, and min-replicas-to-write on the server; keep appendonly on, with appendfsync always where one machine is all there is. Where a master was lost
for good, load the ranges anew into an emptied prefix.

**Least privilege** (Redis 7.0 or newer): keys \`~<prefix>*\`; commands \`evalsha eval hget hset hdel hlen hkeys hgetall hscan type\`; besides \`set del\` for
string, \`zadd\` for sorted_set, \`hincrby hmget\` or \`incrby get\` for counter, \`xadd\` for stream; \`pexpire\` with \`ttl\`; \`wait\` with \`wait\`; \`cluster|slots readonly readwrite
asking\` in a cluster. Deleting \`<prefix>_adflow:*\` makes the store forget its batches, and so
does a maxmemory-policy that drops any key (\`allkeys-…\`): use noeviction, or \`volatile-…\` with \`ttl\`.`,
  options,
  example: {
    url: 'redis://adflow@127.0.0.1:6379/0',
    password: '${REDIS_PASSWORD}',
    as: 'counter',
    prefix: 'spend:',
    key: "campaign_id || ':' || strftime(event_time, '%Y-%m-%d')",
    increments: { impressions: '1', spend_micros: { of: 'spend', scale: 6 } },
    ttl: '90d',
  },
  async check(chosen, env) {
    return remarksOf(chosen, env)
  },
  diagnose: (chosen, env) => diagnoseRedis(chosen, placeIn(chosen, env.id), env),
  create: (chosen, env) => new RedisLoader(chosen, env),
})
