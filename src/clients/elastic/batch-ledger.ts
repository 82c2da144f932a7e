/**
 * The batches that were begun and those that are whole: documents of one hidden index, read by their id, which is exact at
 * once. An entry is changed only by whoever saw its last state (sequence numbers).
 */
import type { BatchInfo, Since, StoreRecord } from '../../core/contracts.ts'
import { AdflowError } from '../../core/errors.ts'
import { type LanePlace, lanesToTell } from '../../core/lanes-to-tell.ts'
import { atMost } from '../../core/positions.ts'
import type { Elastic, ElasticRequest } from './http.ts'

export interface LedgerPlace {
  /** The hidden index. */
  readonly index: string
  /** Index, alias or data stream that the batches go to. The same token may go to several. */
  readonly target: string
  /** Id of the loader in its job. */
  readonly loader: string
}

/** Which state of an entry was seen. */
export interface Seen {
  readonly seqNo: number
  readonly primaryTerm: number
}

export interface HeldBatch extends Seen {
  /** `begun`: an attempt was not seen to its end, and left some of its documents, or all, or none. */
  readonly state: 'begun' | 'done'
  readonly digest: string
  readonly rows: number
  /** Digest of the documents of the attempt. */
  readonly content: string
}

/** Of what an attempt writes. */
interface AttemptContent {
  readonly rows: number
  readonly content: string
}

interface Found {
  readonly found?: boolean
  readonly _seq_no: number
  readonly _primary_term: number
  readonly _source: Record<string, unknown>
  readonly error?: unknown
}

interface Tops {
  readonly aggregations: {
    readonly lanes: {
      readonly after_key?: object
      readonly buckets: readonly {
        readonly key: { readonly source: string; readonly lane: string }
        readonly top: { readonly value: number }
      }[]
    }
  }
}

const PAGE = 1000
const FENCE_ATTEMPTS = 20
const KEYWORDS = ['state', 'target', 'loader', 'job', 'source', 'lane', 'from', 'to', 'token', 'digest', 'content']

/** Asked first: who may write but not create must not be refused for an index that is there. */
export async function createLedger(elastic: Elastic, index: string): Promise<void> {
  const doing = `look for the index ${index}`
  const { status } = await elastic.request({ method: 'HEAD', path: [index], expect: [404], doing })
  if (status !== 404) return
  const body = {
    settings: {
      'index.hidden': true,
      'index.number_of_shards': 1,
      'index.auto_expand_replicas': '0-1',
      'index.translog.durability': 'request',
    },
    mappings: {
      dynamic: false,
      properties: {
        ...Object.fromEntries(KEYWORDS.map((name) => [name, { type: 'keyword' }])),
        rows: { type: 'long' },
        fence: { type: 'long' },
        clock: { type: 'date' },
        written_at: { type: 'date' },
      },
    },
  }
  // Another process may have made it meanwhile.
  await elastic.request({ method: 'PUT', path: [index], body, doing: `create the index ${index}` }).catch((error) => {
    if (!(error instanceof AdflowError) || error.details?.['type'] !== 'resource_already_exists_exception') throw error
  })
}

export class BatchLedger {
  readonly #elastic: Elastic
  readonly #place: LedgerPlace
  readonly #query: Readonly<Record<string, string>>

  /** `query`: of every write, such as `wait_for_active_shards`. */
  constructor(elastic: Elastic, place: LedgerPlace, query: Readonly<Record<string, string>>) {
    this.#elastic = elastic
    this.#place = place
    this.#query = query
  }

  async find(token: string): Promise<HeldBatch | undefined> {
    const found = await this.#get(token)
    if (found === undefined) return undefined
    const { state, digest, rows, content } = found._source
    return {
      state: state === 'done' ? 'done' : 'begun',
      digest: String(digest),
      rows: Number(rows),
      content: String(content),
      ...seen(found),
    }
  }

  /** Before the first document. Rejects where another process has moved the entry since it was `held`. */
  begin(batch: BatchInfo, attempt: AttemptContent, held: Seen | undefined): Promise<Seen> {
    return this.#move(batch, 'begun', attempt, held)
  }

  /** After the last document: from now on the batch is refused. */
  complete(batch: BatchInfo, attempt: AttemptContent, begun: Seen): Promise<Seen> {
    return this.#move(batch, 'done', attempt, begun)
  }

  /** A number greater than any that was given for this target before, by any process: version of the documents of one attempt.
   *  It grows with the clock, so that it still does when the index of the ledger was lost. */
  async fence(): Promise<number> {
    for (let attempt = 1; ; attempt += 1) {
      const found = await this.#get('fence')
      const fence = Math.max(Number(found?._source['fence'] ?? 0) + 1, Date.now())
      const written = await this.#put('fence', { target: this.#place.target, fence }, found && seen(found))
      if (written !== undefined) return fence
      if (attempt === FENCE_ATTEMPTS) throw this.#overtaken()
    }
  }

  /** By loader too: the positions of one loader say nothing about those of another on the same target. */
  async history(job: string, since: Since | undefined): Promise<readonly StoreRecord[]> {
    const { index, target, loader } = this.#place
    const doing = `read the batches of ${target}`
    await this.#elastic.request({ method: 'POST', path: [index, '_refresh'], doing })
    const own = Object.entries({ job, loader, target, state: 'done' }).map(([name, value]) => ({
      term: { [name]: value },
    }))
    const lanes = since && (await this.#lanesToTell(own, since))
    if (lanes?.length === 0) return []
    const filter =
      lanes === undefined ? own : [...own, { bool: { should: lanes.map(behind), minimum_should_match: 1 } }]
    const records: { record: StoreRecord; writtenAt: string }[] = []
    for (let after: string | undefined; ; ) {
      const { hits } = await this.#search<{ hits: { hits: readonly Found[] } }>(doing, {
        size: PAGE,
        track_total_hits: false,
        sort: [{ token: 'asc' }],
        query: { bool: { filter } },
        ...(after === undefined ? {} : { search_after: [after] }),
      })
      for (const { _source } of hits.hits) records.push(recordOf(_source))
      if (hits.hits.length < PAGE) break
      after = records.at(-1)?.record.token
    }
    return records.sort((a, b) => a.writtenAt.localeCompare(b.writtenAt)).map(({ record }) => record)
  }

  /** undefined: all is asked for, also where the cluster runs no scripts, or not now; where it is down that question says so. */
  async #lanesToTell(own: readonly object[], since: Since): Promise<readonly LanePlace[] | undefined> {
    try {
      return lanesToTell(await this.#tops(own), since)
    } catch (error) {
      if (error instanceof AdflowError) return undefined
      throw error
    }
  }

  /** Where the last batch of each lane begins, or a little behind that. All entries are looked at, by the server. */
  async #tops(own: readonly object[]): Promise<LanePlace[]> {
    const places: LanePlace[] = []
    const sources = ['source', 'lane'].map((field) => ({ [field]: { terms: { field } } }))
    for (let after: object | undefined; ; ) {
      const { aggregations } = await this.#search<Tops>(`look at the batches of ${this.#place.target}`, {
        size: 0,
        query: { bool: { filter: own } },
        aggs: {
          lanes: {
            composite: { size: PAGE, sources, ...(after === undefined ? {} : { after }) },
            aggs: { top: { max: { script: { lang: 'painless', source: "Double.parseDouble(doc['from'].value)" } } } },
          },
        },
      })
      const { after_key, buckets } = aggregations.lanes
      for (const { key, top } of buckets) places.push({ ...key, at: atMost(top.value) })
      if (after_key === undefined || buckets.length < PAGE) return places
      after = after_key
    }
  }

  async #search<Answer>(doing: string, body: Record<string, unknown>): Promise<Answer> {
    const answer = await this.#elastic.request({
      method: 'POST',
      path: [this.#place.index, '_search'],
      query: { allow_partial_search_results: 'false' },
      body,
      doing,
    })
    const { timed_out } = answer.body as { timed_out: boolean }
    if (timed_out) throw new AdflowError('STORE_UNAVAILABLE', `cannot ${doing}: the search did not come to its end`)
    return answer.body as Answer
  }

  /** Realtime: what was acknowledged is found, refreshed or not. */
  async #get(name: string): Promise<Found | undefined> {
    const doing = `look for a batch of ${this.#place.target}`
    const { status, body } = await this.#elastic.request({ ...this.#path('GET', name), expect: [404], doing })
    const found = body as Found
    if (status !== 404) return found
    if (found?.found === false) return undefined
    throw new AdflowError('STORE_DAMAGED', `cannot ${doing}: there is no index ${this.#place.index} any more`, {
      hint: 'restore it; without it no batch of this target is known',
    })
  }

  async #move(
    { token, job, source, range, digest, clock }: BatchInfo,
    state: HeldBatch['state'],
    { rows, content }: AttemptContent,
    over: Seen | undefined,
  ): Promise<Seen> {
    const { target, loader } = this.#place
    const { lane, from, to } = range
    const written_at = new Date().toISOString()
    const entry = {
      state,
      target,
      loader,
      job,
      source,
      lane,
      from,
      to,
      token,
      digest,
      rows,
      content,
      clock,
      written_at,
    }
    const written = await this.#put(token, entry, over)
    if (written === undefined) throw this.#overtaken()
    return written
  }

  /** undefined: the entry is no longer as it was seen. */
  async #put(name: string, body: Record<string, unknown>, over: Seen | undefined): Promise<Seen | undefined> {
    const { target } = this.#place
    const condition: Record<string, string> =
      over === undefined
        ? { op_type: 'create' }
        : { if_seq_no: String(over.seqNo), if_primary_term: String(over.primaryTerm) }
    const answer = await this.#elastic.request({
      ...this.#path('PUT', name),
      query: { ...this.#query, ...condition },
      body,
      expect: [409],
      doing: `write the entry of a batch of ${target}`,
    })
    return answer.status === 409 ? undefined : seen(answer.body as Found)
  }

  #overtaken(): AdflowError {
    return new AdflowError('STORE_UNAVAILABLE', `another process writes the same batches into ${this.#place.target}`, {
      hint: 'the batch is tried again; end the other process if it should not run',
    })
  }

  #path(method: 'GET' | 'PUT', name: string): Pick<ElasticRequest, 'method' | 'path'> {
    return { method, path: [this.#place.index, '_doc', `${this.#place.target}/${name}`] }
  }
}

/** A query for what begins there or later in its lane. */
function behind({ source, lane, at }: LanePlace): object {
  const text =
    "String from = doc['from'].value; int more = from.length() - params.at.length(); return more > 0 || (more == 0 && from.compareTo(params.at) >= 0)"
  const script = { lang: 'painless', source: text, params: { at } }
  return { bool: { filter: [{ term: { source } }, { term: { lane } }, { script: { script } }] } }
}

function seen({ _seq_no, _primary_term }: Found): Seen {
  return { seqNo: _seq_no, primaryTerm: _primary_term }
}

function recordOf(entry: Record<string, unknown>): { record: StoreRecord; writtenAt: string } {
  return {
    writtenAt: String(entry['written_at']),
    record: {
      token: String(entry['token']),
      source: String(entry['source']),
      range: { lane: String(entry['lane']), from: String(entry['from']), to: String(entry['to']) },
      digest: String(entry['digest']),
      rows: Number(entry['rows']),
      clock: String(entry['clock']),
    },
  }
}
