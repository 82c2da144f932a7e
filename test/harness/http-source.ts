/** A real HTTP server that gives records in every way of paging, badly where it is told to, and remembers what it was asked. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface Asked {
  readonly path: string
  readonly query: URLSearchParams
  readonly headers: IncomingMessage['headers']
  readonly body: string
}

/** true: the request was answered. */
export type Interference = (asked: Asked, response: ServerResponse) => boolean | undefined

export class HttpSource {
  /** path → JSON texts of its records. */
  readonly lists: Record<string, string[]> = {}
  readonly asked: Asked[] = []
  /** Asked first. */
  interfere: Interference = () => undefined
  pageRecords = 10
  #server: Server | undefined
  #port = 0

  get origin(): string {
    return `http://127.0.0.1:${this.#port}`
  }

  /** On the port that it had before. */
  async start(): Promise<this> {
    const server = createServer((request, response) => void this.#take(request, response))
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(this.#port, '127.0.0.1', () => resolve())
    })
    this.#port = (server.address() as AddressInfo).port
    this.#server = server
    return this
  }

  /** From now on connections are refused; those that are open break. */
  async stop(): Promise<void> {
    const server = this.#server
    this.#server = undefined
    if (server === undefined) return
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  }

  async #take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname, searchParams } = new URL(request.url ?? '/', this.origin)
    const parts: Buffer[] = []
    for await (const part of request) parts.push(part as Buffer)
    const asked = {
      path: pathname,
      query: searchParams,
      headers: request.headers,
      body: Buffer.concat(parts).toString(),
    }
    this.asked.push(asked)
    if (this.interfere(asked, response) === true) return
    const [, paging = '', list = ''] = pathname.split('/')
    const records = this.lists[list]
    if (records === undefined) return void response.writeHead(404).end()
    this.#answer(paging, list, records, searchParams, response)
  }

  #answer(paging: string, list: string, records: string[], query: URLSearchParams, response: ServerResponse): void {
    const number = (name: string, or: number) => Number(query.get(name) ?? or)
    const size = number('limit', this.pageRecords)
    const since = query.get('since')
    const field = (record: string) => (JSON.parse(record) as { at: string }).at
    const all = since === null ? records : records.filter((record) => field(record) >= since)
    const start =
      paging === 'offset'
        ? number('offset', 0)
        : paging === 'page'
          ? (number('page', 1) - 1) * size
          : number(paging === 'cursor' ? 'cursor' : 'from', 0)
    const page = paging === 'whole' ? all : all.slice(start, start + size)
    const next = start + size < all.length ? start + size : undefined
    const from = new URLSearchParams(query)
    from.set('from', String(next))
    const nextUrl = `/${paging}/${list}?${from}`
    if (paging === 'link' && next !== undefined)
      response.setHeader('link', `<${nextUrl}>; rel="next", <${nextUrl}>; rel="last"`)
    if (paging === 'header' && next !== undefined) response.setHeader('x-next', String(next))
    response.setHeader('content-type', 'application/json')
    response.end(
      `{"meta": {"skip": [1, {"next": 7}], "next": ${next === undefined ? 'null' : paging === 'next' ? JSON.stringify(nextUrl) : `"${next}"`}},\n "data": {"items": [${page.join(',\n  ')}]}, "more": ${next !== undefined}}`,
    )
  }
}

/** `{"id": …, "at": …, "amount": …}`, whose numbers no number of JavaScript can hold. */
export function record(id: number, at = 1_700_000_000_000 + id * 1000): string {
  return `{"id": ${9_007_199_254_740_993n + BigInt(id)}, "at": "${new Date(at).toISOString()}", "amount": 0.${String(id).padStart(18, '1')}, "name": "ü {\\"} ${id}"}`
}
