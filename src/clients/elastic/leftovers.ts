/** What an attempt that was not seen to its end has left: looked for and removed by the ids that it used. */
import { AdflowError } from '../../core/errors.ts'
import { idsOf } from './documents.ts'
import type { Elastic } from './http.ts'

/** Terms of one query; a server takes 65,536. */
const IDS = 10_000

export interface Leftovers {
  readonly target: string
  readonly token: string
  /** Rows of the longest attempt. */
  readonly rows: number
  readonly signal: AbortSignal
}

/** Documents under the ids of the batch, in all indexes behind the target. */
export async function countDocuments(elastic: Elastic, own: Leftovers): Promise<number> {
  await refresh(elastic, own.target)
  let count = 0
  for await (const body of queries(elastic, own, '_count')) {
    const { count: some, _shards: shards } = body as { count: number; _shards: { failed: number } }
    if (shards.failed > 0) throw unfinished(own, 'count')
    count += some
  }
  return count
}

/** Also where an alias or a data stream has got another index to write to meanwhile. */
export async function removeDocuments(elastic: Elastic, own: Leftovers): Promise<void> {
  await refresh(elastic, own.target)
  for await (const body of queries(elastic, own, '_delete_by_query')) {
    const { failures, timed_out } = body as { failures: readonly unknown[]; timed_out: boolean }
    if (failures.length > 0 || timed_out) throw unfinished(own, 'remove')
  }
  await refresh(elastic, own.target)
}

/** From now on a search finds what was written. */
export async function refresh(elastic: Elastic, target: string): Promise<void> {
  await elastic.request({ method: 'POST', path: [target, '_refresh'], doing: `refresh ${target}` })
}

function unfinished({ target }: Leftovers, what: string): AdflowError {
  const text = `cannot ${what} what an interrupted batch has left in ${target}: some shards did not answer`
  return new AdflowError('STORE_UNAVAILABLE', text, { hint: 'the batch is tried again' })
}

async function* queries(
  elastic: Elastic,
  { target, token, rows, signal }: Leftovers,
  what: '_count' | '_delete_by_query',
): AsyncGenerator<unknown> {
  let values: string[] = []
  const ask = async (): Promise<unknown> => {
    const query = { ids: { values } }
    values = []
    const doing = `look for what a batch has left in ${target}`
    return (await elastic.request({ method: 'POST', path: [target, what], body: { query }, signal, doing })).body
  }
  for (const id of idsOf(token, rows)) {
    values.push(id)
    if (values.length === IDS) yield await ask()
  }
  if (values.length > 0) yield await ask()
}
