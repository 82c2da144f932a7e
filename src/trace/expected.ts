/** What each store should hold of each batch, from the ledger alone: what it held when it was written, without what later batches
 *  have replaced. */
import type { ContentDigest } from '../core/store-contract.ts'
import { tokenNumber } from '../core/token.ts'
import type { Session } from '../engine/session.ts'

export interface ExpectedContent {
  readonly rows: number
  /** Rows that later batches have replaced. */
  readonly replaced: number
  /** undefined: written by another engine, or partly replaced by one: not comparable. */
  readonly value: string | undefined
  readonly algorithm: string
}

/** Store → number of the batch as text → content; empty number: rows that were there before rows were numbered. A batch that
 *  told no content is not here. */
export async function expectedContents(
  session: Session,
): Promise<ReadonlyMap<string, ReadonlyMap<string, ExpectedContent>>> {
  const rows = await session.rows(
    `WITH closed AS (SELECT seq, token, unnest(map_entries(stores)) AS s FROM ledger WHERE type = 'batch_closed'),
      outcomes AS (SELECT seq, s."key" AS store, token AS batch, coalesce(s."value".token, token) AS token, s."value".content AS content FROM closed)
     SELECT seq, store, token, content::VARCHAR AS content FROM outcomes WHERE content IS NOT NULL
     UNION ALL SELECT p.seq, p.loader, any_value(o.token), any_value(p.content)::VARCHAR FROM ledger p
       JOIN outcomes o ON o.batch = p.token AND o.store = p.loader
       WHERE p.type = 'store_paid' AND p.content IS NOT NULL GROUP BY p.seq, p.loader ORDER BY 1`,
  )
  const stores = new Map<string, Written[]>()
  for (const { seq, store, token, content } of rows) {
    const list = stores.get(String(store)) ?? []
    stores.set(String(store), list)
    list.push({
      seq: Number(seq),
      number: String(tokenNumber(String(token))),
      content: JSON.parse(String(content)) as ContentDigest,
    })
  }
  return new Map([...stores].map(([store, written]) => [store, inStore(written)]))
}

interface Written {
  readonly seq: number
  readonly number: string
  readonly content: ContentDigest
}

/** A batch that is closed again after a crash tells the same content again: that is one writing. */
function distinct(written: readonly Written[]): Written[] {
  const seen = new Set<string>()
  return written.filter(({ number, content }) => {
    const text = JSON.stringify([number, content])
    return seen.size < seen.add(text).size
  })
}

function inStore(written: readonly Written[]): Map<string, ExpectedContent> {
  const writings = distinct(written)
  const byNumber = Map.groupBy(writings, ({ number }) => number)
  const replacements = Map.groupBy(
    writings.flatMap(({ seq, content }) =>
      Object.entries(content.replaced ?? {}).map(([number, part]) => ({
        seq,
        number,
        algorithm: content.algorithm,
        ...part,
      })),
    ),
    ({ number }) => number,
  )
  const expected = new Map<string, ExpectedContent>()
  for (const [number, own] of byNumber) {
    const last = own.at(-1)
    if (last === undefined) continue
    const { content } = last
    // Batches under way at once may be booked in another order than they were written; only a batch that was written again
    // has lost rows before.
    const parts = (replacements.get(number) ?? []).filter(({ seq }) => own.length === 1 || seq > last.seq)
    const replaced = parts.reduce((total, part) => total + part.rows, 0)
    const comparable = parts.every(({ algorithm }) => algorithm === content.algorithm)
    expected.set(number, {
      rows: content.rows - replaced,
      replaced,
      value: comparable ? without(content.value, parts) : undefined,
      algorithm: content.algorithm,
    })
  }
  const unnumbered = replacements.get('') ?? []
  const rows = unnumbered.reduce((total, part) => total - part.rows, 0)
  if (rows !== 0) expected.set('', { rows, replaced: -rows, value: undefined, algorithm: '' })
  return expected
}

function without(value: string, parts: readonly { readonly value: string }[]): string {
  if (parts.length === 0) return value
  return String(parts.reduce((rest, part) => rest - BigInt(part.value), BigInt(value)))
}
