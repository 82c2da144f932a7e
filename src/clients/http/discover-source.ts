/** What an API answers, seen once: where its records stand, how it leads to the next page, which field tells them apart. */
import type { DiscoverEnv, Offer } from '../../core/discovery.ts'
import { AdflowError } from '../../core/errors.ts'
import { guessPaging } from './guess-paging.ts'
import { placeOf, SourceClient, type SourceClientOptions, type SourceRequest } from './source-client.ts'

/** Looked at. */
const MOST_BYTES = 16 << 20
const DEEPEST = 4
const NAMED_FIELDS = 12
/** Fields by which records are told, the likeliest first. */
const KEYS = ['id', 'uuid', 'guid', '_id', 'key']

const PLACEHOLDER = /\{\w+\}/g

export interface Asking {
  readonly url: string
  readonly method: 'GET' | 'POST'
  readonly headers: Readonly<Record<string, string>>
  readonly query: Readonly<Record<string, string | number | boolean>>
  readonly body: string | undefined
}

/** What a run asks that knows nothing yet: parameters whose placeholder has no value are left out. */
export function firstRequest({ url, method, headers, query, body }: Asking): SourceRequest {
  const address = new URL(url.replaceAll(PLACEHOLDER, ''))
  for (const [name, value] of Object.entries(query))
    if (!/\{\w+\}/.test(String(value))) address.searchParams.set(name, String(value))
  const filled = body?.replaceAll(PLACEHOLDER, '')
  return { method, url: address.href, headers, ...(filled === undefined ? {} : { body: filled }) }
}

interface List {
  readonly path: readonly string[]
  readonly records: readonly unknown[]
}

export async function* discoverLists(
  request: SourceRequest,
  options: SourceClientOptions,
  { signal }: DiscoverEnv,
): AsyncGenerator<Offer> {
  const client = new SourceClient(options)
  try {
    const { text, headers } = await client.ask(request, signal, async (answer) => ({
      text: await textOf(answer.body, request.url),
      headers: answer.headers,
    }))
    const body = jsonOf(text)
    if (body === undefined) return yield* otherOffer(text, headers['content-type'], request.url)
    for (const list of listsOf(body)) {
      const { path, records } = list
      const guess = guessPaging({ body, headers, url: request.url, path, records: records.length })
      const key = keyOf(records)
      yield {
        kind: 'list',
        name: path.length === 0 ? '$' : path.join('.'),
        records: records.length,
        about: [fieldsOf(records), guess === undefined ? 'no sign of a next page' : `paged: ${guess.because}`].join(
          '; ',
        ),
        options: {
          ...(path.length === 0 ? {} : { records: path.join('.') }),
          ...(guess === undefined ? {} : { paginate: guess.paginate, again: 'all' }),
          ...(key === undefined ? {} : { key: [key] }),
        },
      }
    }
  } finally {
    await client.close()
  }
}

async function textOf(
  body: { read(target: Buffer, offset: number, length: number): Promise<number> },
  url: string,
): Promise<string> {
  const parts: Buffer[] = []
  for (let bytes = 0; ; ) {
    const part = Buffer.allocUnsafe(64 << 10)
    const count = await body.read(part, 0, part.length)
    if (count === 0) return Buffer.concat(parts).toString()
    bytes += count
    parts.push(part.subarray(0, count))
    if (bytes > MOST_BYTES)
      throw new AdflowError(
        'SOURCE_UNSUPPORTED',
        `the answer of ${placeOf(url)} is larger than ${MOST_BYTES >> 20} MiB`,
        {
          hint: 'ask for less of it: a parameter such as `limit` in the address',
        },
      )
  }
}

/** undefined: it is no JSON. Integers that no number holds are texts: as keys they are told apart. */
function jsonOf(text: string): unknown {
  const exact = (_: string, value: unknown, context?: { readonly source?: string }) =>
    Number.isInteger(value) && !Number.isSafeInteger(value) ? (context?.source ?? value) : value
  try {
    return JSON.parse(text, exact as (key: string, value: unknown) => unknown) as unknown
  } catch {
    return undefined
  }
}

function* otherOffer(text: string, type = '', url: string): Generator<Offer> {
  if (/html/i.test(type) || /^\s*<(?:!doctype|html)/i.test(text))
    throw new AdflowError('SOURCE_UNSUPPORTED', `${placeOf(url)} answers with an HTML page, not with records`, {
      hint: 'check the address and `auth`: most likely it asks to log in',
    })
  const lines = text.split('\n').filter((line) => line.trim() !== '')
  const [first = ''] = lines
  if (first === '') return
  const isJson = jsonOf(first) !== undefined
  if (!isJson && !/csv/i.test(type))
    throw new AdflowError(
      'SOURCE_UNSUPPORTED',
      `${placeOf(url)} answers neither with JSON nor with CSV (${type || 'no content type'})`,
      {
        hint: 'say what it is by `--set format=csv` and write the job by hand',
      },
    )
  yield {
    kind: 'list',
    name: '$',
    records: isJson ? lines.length : lines.length - 1,
    about: isJson ? fieldsOf([jsonOf(first)]) : `CSV: ${first.trim().slice(0, 100)}`,
    options: { format: isJson ? 'ndjson' : 'csv' },
  }
}

/** Lists of objects, the likeliest first: that with the most records, and of those the least deep. */
function listsOf(body: unknown): List[] {
  const found = [...lists(body, [])]
  found.sort((a, b) => b.records.length - a.records.length || a.path.length - b.path.length)
  const some = found.filter(({ records }) => records.length > 0)
  if (some.length > 0) return some
  // One record, or a list that is empty today.
  return found.length > 0 ? found : isObject(body) ? [{ path: [], records: [body] }] : []
}

function* lists(value: unknown, path: readonly string[]): Generator<List> {
  if (Array.isArray(value)) {
    if (value.every(isObject)) yield { path, records: value }
    return
  }
  if (!isObject(value) || path.length === DEEPEST) return
  for (const [key, inner] of Object.entries(value))
    if (key !== '' && !key.includes('.')) yield* lists(inner, [...path, key])
}

function fieldsOf(records: readonly unknown[]): string {
  const names = [...new Set(records.slice(0, 100).flatMap((record) => (isObject(record) ? Object.keys(record) : [])))]
  if (names.length === 0) return 'no record now'
  const more = names.length > NAMED_FIELDS ? ` and ${names.length - NAMED_FIELDS} more` : ''
  return `fields ${names.slice(0, NAMED_FIELDS).join(', ')}${more}`
}

/** One that every record has, each another. */
function keyOf(records: readonly unknown[]): string | undefined {
  if (records.length < 2) return undefined
  return KEYS.find((key) => {
    const values = records.map((record) => (isObject(record) ? record[key] : undefined))
    const scalar = values.every((value) => typeof value === 'string' || typeof value === 'number')
    return scalar && new Set(values).size === values.length
  })
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
