/** A view of an index that does not change while it is read. Elasticsearch and OpenSearch each have an API of their own for it. */
import { AdflowError } from '../../core/errors.ts'
import type { ElasticReader } from './reader.ts'

type Kind = 'elasticsearch' | 'opensearch'

const OPENSEARCH = ['_search', 'point_in_time'] as const

export class PointInTime {
  /** Changes with answers. */
  id: string
  readonly #reader: ElasticReader
  readonly #kind: Kind

  private constructor(reader: ElasticReader, kind: Kind, id: string) {
    this.#reader = reader
    this.#kind = kind
    this.id = id
  }

  /** @throws AdflowError SOURCE_… where it cannot be opened, or not of all shards */
  static async open(
    reader: ElasticReader,
    index: string,
    {
      keepAlive,
      origin,
      signal,
    }: { readonly keepAlive: string; readonly origin: string; readonly signal: AbortSignal },
  ): Promise<PointInTime> {
    const doing = `open a point in time of ${origin}`
    const kind = await kindOf(reader, signal)
    const ask = (own: Kind) =>
      reader.json({
        method: 'POST',
        path: [index, ...(own === 'opensearch' ? OPENSEARCH : ['_pit'])],
        query: {
          keep_alive: keepAlive,
          ...(own === 'opensearch' ? { allow_partial_pit_creation: 'false' } : {}),
        },
        signal,
        doing,
        expect: kind === undefined && own === 'elasticsearch' ? [400, 405] : [],
      })
    let own = kind ?? 'elasticsearch'
    let answer = await ask(own)
    if (answer.status >= 400) {
      own = 'opensearch'
      answer = await ask(own)
    }
    const {
      id,
      pit_id = id,
      _shards,
    } = (answer.body ?? {}) as { id?: string; pit_id?: string; _shards?: { failed?: number } }
    if (pit_id === undefined || (_shards?.failed ?? 0) > 0)
      throw new AdflowError('SOURCE_UNREADABLE', `cannot ${doing}: not all of its shards answer`, {
        hint: 'look at the health of the cluster; the next run goes on where this one stopped',
      })
    return new PointInTime(reader, own, pit_id)
  }

  async close(signal: AbortSignal): Promise<void> {
    const opensearch = this.#kind === 'opensearch'
    await this.#reader
      .json({
        method: 'DELETE',
        path: opensearch ? OPENSEARCH : ['_pit'],
        body: JSON.stringify(opensearch ? { pit_id: [this.id] } : { id: this.id }),
        signal,
        doing: 'close a point in time',
      })
      .catch(() => undefined) // it ends by itself after `keep_alive`
  }
}

/** undefined: the user may not ask. */
async function kindOf(reader: ElasticReader, signal: AbortSignal): Promise<Kind | undefined> {
  const { status, body } = await reader.json({
    method: 'GET',
    path: [],
    signal,
    doing: 'ask what the server is',
    expect: [403, 404],
  })
  if (status !== 200) return undefined
  const { version } = (body ?? {}) as { version?: { distribution?: string } }
  return version?.distribution === 'opensearch' ? 'opensearch' : 'elasticsearch'
}
