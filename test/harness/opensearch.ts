/** What OpenSearch holds, by its own HTTP API and nobody's client: the bytes of `_source` as they were stored. */
import { appendFileSync, writeFileSync } from 'node:fs'

const PAGE = 1000

/** Pages of hits, as the server writes them, a line each. */
export async function writeDocuments(url: string, index: string, file: string): Promise<void> {
  writeFileSync(file, '')
  for await (const page of pages(url, index)) appendFileSync(file, `${page}\n`)
}

/** JSON of all documents, by pages of hits; what a search finds after a refresh. */
export async function* pages(url: string, index: string): AsyncGenerator<string> {
  await call(url, 'POST', `${index}/_refresh`)
  let page = await call(url, 'POST', `${index}/_search?scroll=1m`, { size: PAGE, sort: ['_doc'] })
  for (;;) {
    const { _scroll_id, hits } = JSON.parse(page) as { _scroll_id: string; hits: { hits: unknown[] } }
    if (hits.hits.length > 0) yield page
    if (hits.hits.length < PAGE) return void (await call(url, 'DELETE', `_search/scroll/${_scroll_id}`))
    page = await call(url, 'POST', '_search/scroll', { scroll: '1m', scroll_id: _scroll_id })
  }
}

/** `_source` of each document by its id; integers beyond 2^53 are rounded. */
export async function documents(
  url: string,
  index: string,
): Promise<Readonly<Record<string, Record<string, unknown>>>> {
  const found: Record<string, Record<string, unknown>> = {}
  for await (const page of pages(url, index))
    for (const { _id, _source } of (JSON.parse(page) as Found).hits.hits) found[_id] = _source
  return found
}

interface Found {
  readonly hits: { readonly hits: readonly { readonly _id: string; readonly _source: Record<string, unknown> }[] }
}

/** The text of the answer. @throws where it is no success */
export async function call(url: string, method: string, path: string, body?: unknown): Promise<string> {
  const response = await fetch(new URL(path, url), {
    method,
    headers: { 'content-type': 'application/json' },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  })
  const text = await response.text()
  if (!response.ok) throw new Error(`OpenSearch: ${method} ${path} gave ${response.status}: ${text}`)
  return text
}

const BULK = 5000

/** Indexes JSON documents as they stand, and makes them visible. @throws where one is refused */
export async function bulk(url: string, index: string, documents: readonly string[]): Promise<void> {
  for (let from = 0; from < documents.length; from += BULK) {
    const lines = documents.slice(from, from + BULK).map((document) => `{"index":{}}\n${document}\n`)
    const answer = await fetch(new URL(`${index}/_bulk?refresh=true`, url), {
      method: 'POST',
      headers: { 'content-type': 'application/x-ndjson' },
      body: lines.join(''),
    })
    if (((await answer.json()) as { errors?: boolean }).errors !== false)
      throw new Error(`OpenSearch: documents for ${index} were refused`)
  }
}
