/** Indexes that a name, a pattern, an alias or a data stream stands for. */
import { AdflowError } from '../../core/errors.ts'
import type { ElasticReader } from './reader.ts'

export interface FoundIndex {
  readonly name: string
  readonly uuid: string
  readonly shards: number
}

interface At {
  /** For people. */
  readonly origin: string
  readonly signal: AbortSignal
}

/** undefined: the user may not know. @throws AdflowError SOURCE_MISSING where there is none */
export async function findIndexes(
  reader: ElasticReader,
  index: string,
  { origin, signal }: At,
): Promise<readonly FoundIndex[] | undefined> {
  const { status, body } = await reader.json({
    method: 'GET',
    path: [index, '_settings', 'index.uuid,index.number_of_shards'],
    query: { allow_no_indices: 'false', expand_wildcards: 'open' },
    signal,
    doing: `look for ${origin}`,
    expect: [403],
  })
  if (status === 403) return undefined
  const found = (body ?? {}) as Readonly<
    Record<
      string,
      { readonly settings: { readonly index: { readonly uuid: string; readonly number_of_shards: string } } }
    >
  >
  return Object.entries(found)
    .map(([name, { settings }]) => ({
      name,
      uuid: settings.index.uuid,
      shards: Number(settings.index.number_of_shards),
    }))
    .sort((a, b) => (a.name < b.name ? -1 : 1))
}

/** Documents that went with an index cannot be had any more. @throws AdflowError SOURCE_MISSING */
export function refuseDeleted(
  before: readonly FoundIndex[] | undefined,
  now: readonly FoundIndex[] | undefined,
  origin: string,
): void {
  const there = new Set((now ?? before ?? []).map(({ uuid }) => uuid))
  const gone = (before ?? []).filter(({ uuid }) => !there.has(uuid)).map(({ name }) => name)
  if (gone.length === 0) return
  throw new AdflowError('SOURCE_MISSING', `${gone.join(', ')} of ${origin} was deleted while it was read`, {
    hint: 'what came until then is loaded; the next run goes on behind it with what is there',
  })
}

/** @throws AdflowError SOURCE_UNSUPPORTED where documents have no place in the order */
export async function countMissing(
  reader: ElasticReader,
  index: string,
  { origin, signal, query, field }: At & { readonly query: object | undefined; readonly field: string },
): Promise<void> {
  const { body } = await reader.json({
    method: 'POST',
    path: [index, '_count'],
    body: JSON.stringify({
      query: { bool: { filter: query === undefined ? [] : [query], must_not: [{ exists: { field } }] } },
    }),
    signal,
    doing: `count what ${origin} has without ${field}`,
  })
  const { count = 0, _shards } = (body ?? {}) as { count?: number; _shards?: { failed?: number } }
  if ((_shards?.failed ?? 0) > 0)
    throw new AdflowError('SOURCE_UNREADABLE', `not all shards of ${origin} say what they have without ${field}`, {
      hint: 'look at the health of the cluster; all that was read is loaded',
    })
  if (count === 0) return
  throw new AdflowError('SOURCE_UNSUPPORTED', `${count} documents of ${origin} have no ${field}, and are not read`, {
    hint: 'give them one, read another field, or say `incremental.missing: skip`; all others are read',
  })
}
