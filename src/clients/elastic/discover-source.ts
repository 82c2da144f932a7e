/** Indexes and data streams that a user of Elasticsearch or OpenSearch sees; hidden ones are left out. */
import type { DiscoverEnv, Offer } from '../../core/discovery.ts'
import { Elastic, placeOf } from './http.ts'
import type { ConnectionOptions } from './options.ts'
import { ElasticReader } from './reader.ts'

/** Of a list. */
const LONGEST_ANSWER = 64 << 20

interface Index {
  readonly index: string
  readonly status: string
  readonly 'docs.count': string | null
  readonly 'store.size': string | null
}

/** How documents are read on is not for a list to say: offers read all of an index, each time. */
const AGAIN = { again: 'all' }

export async function* discoverIndexes(
  connection: Omit<ConnectionOptions, 'requests'>,
  { baseDir, signal }: DiscoverEnv,
): AsyncGenerator<Offer> {
  const { host } = placeOf(connection)
  const reader = new ElasticReader(new Elastic(connection, baseDir), LONGEST_ANSWER)
  try {
    const { body } = await reader.json({
      method: 'GET',
      path: ['_cat', 'indices'],
      query: { format: 'json', bytes: 'b', s: 'index', h: 'index,status,docs.count,store.size' },
      signal,
      doing: `list the indexes of ${host}`,
    })
    for (const { index, status, ...size } of body as readonly Index[]) {
      if (index.startsWith('.')) continue
      const offer = {
        kind: 'index',
        name: index,
        records: known(size['docs.count']),
        bytes: known(size['store.size']),
      } as const
      yield { ...offer, about: status === 'open' ? undefined : status, options: { index, ...AGAIN } }
    }
  } finally {
    await reader.close()
  }
}

/** A closed index does not say. */
function known(count: string | null): number | undefined {
  return count === null ? undefined : Number(count)
}
