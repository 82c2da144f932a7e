/** How an answer of an API seems to lead to the next one: a guess, for a draft that people look at. */
import { nextLink, type PagingOptions } from './paging.ts'

type Json = Readonly<Record<string, unknown>>
/** Options as they stand in a job file, and how it came to them. */
export interface PagingGuess {
  readonly paginate: Partial<PagingOptions> & Pick<PagingOptions, 'type'>
  readonly because: string
}

export interface Answer {
  readonly body: unknown
  readonly headers: Readonly<Record<string, string>>
  /** What was asked. */
  readonly url: string
  /** Keys to the records, and how many there are. */
  readonly path: readonly string[]
  readonly records: number
}

interface Found {
  readonly path: string
  /** The last key, in lower case without signs between words: `nextpagetoken`. */
  readonly word: string
  readonly value: unknown
}

const DEEPEST = 4
const CURSOR =
  /^(?:(?:next|end|after|scroll)?(?:page)?(?:cursor|token|marker)|after|continuation(?:token)?|nextkey|next)$/
const LINK = /^(?:next(?:page)?(?:url|link|uri|href)?|href)$/
const PAGE_PARAM = /^(?:page|p|pagenumber|pageno)$/i

/** undefined: nothing speaks of another page. */
export function guessPaging(answer: Answer): PagingGuess | undefined {
  const { body, headers, url, path } = answer
  if (nextLink(headers['link']) !== undefined)
    return { paginate: { type: 'link' }, because: 'the header Link has rel="next"' }
  const found = [...scalars(body, path, [])]
  return (
    byUrl(found) ??
    byCursor(found) ??
    byCount(found, answer, new URL(url).searchParams) ??
    (found.some(({ word, value }) => value === null && LINK.test(word))
      ? next(found.find(({ word, value }) => value === null && LINK.test(word)) as Found, 'is null')
      : undefined)
  )
}

function byUrl(found: readonly Found[]): PagingGuess | undefined {
  const link = found.find(
    ({ path, word, value }) =>
      typeof value === 'string' && /^(?:https?:\/\/|\/|\?)/.test(value) && LINK.test(word) && /next/i.test(path),
  )
  return link === undefined ? undefined : next(link, 'is an address')
}

function next({ path }: Found, is: string): PagingGuess {
  return { paginate: { type: 'next', path }, because: `${path} ${is}` }
}

function byCursor(found: readonly Found[]): PagingGuess | undefined {
  const cursor = found.find(
    ({ word, value }) =>
      CURSOR.test(word) && ((typeof value === 'string' && value !== '') || typeof value === 'number'),
  )
  if (cursor === undefined) return undefined
  const { path } = cursor
  const own = path.split('.').at(-1) ?? ''
  const param = own
    .replace(/^next[_-]?(?=[a-z])/, '')
    .replace(/^next([A-Z])/, (_, first: string) => first.toLowerCase())
  const more = found.find(
    ({ word, value }) => typeof value === 'boolean' && /^(?:hasmore|hasnext|hasnextpage|more)$/.test(word),
  )
  return {
    paginate: {
      type: 'cursor',
      path,
      ...(param === 'next' || param === 'cursor' ? {} : { param: /^end_?cursor$/i.test(param) ? 'after' : param }),
      ...(more === undefined ? {} : { more: more.path }),
    },
    because: `${path} looks like a cursor; check \`param\`, in which it is sent`,
  }
}

function byCount(found: readonly Found[], { records }: Answer, query: URLSearchParams): PagingGuess | undefined {
  const number = (pattern: RegExp) => found.find(({ word, value }) => typeof value === 'number' && pattern.test(word))
  const asked = [...query.keys()].find((key) => PAGE_PARAM.test(key))
  const page = number(/^(?:page|currentpage|pagenumber|pageindex)$/)
  const pages = number(/^(?:totalpages|pages|pagecount|lastpage|numpages)$/)
  if (
    asked !== undefined ||
    (page !== undefined && (pages !== undefined || number(/^(?:total|totalcount|count|totalitems)$/) !== undefined))
  )
    return {
      paginate: { type: 'page', ...(asked === undefined || asked === 'page' ? {} : { param: asked }) },
      because: page === undefined ? `the address has ${asked}` : `${page.path} is a number of a page`,
    }
  const offset = number(/^(?:offset|skip|startat|start)$/)
  const limit = number(/^(?:limit|maxresults|size|pagesize|perpage|count)$/)
  const total = number(/^(?:total|totalcount|totalitems|totalrecords)$/)
  const askedOffset = [...query.keys()].find((key) => /^(?:offset|skip)$/i.test(key))
  if (offset === undefined && askedOffset === undefined) return undefined
  if (total !== undefined && Number(total.value) <= records && askedOffset === undefined) return undefined
  const [own, size] = [offset?.path.split('.').at(-1) ?? askedOffset ?? 'offset', limit?.path.split('.').at(-1)]
  return {
    paginate: {
      type: 'offset',
      ...(own === 'offset' ? {} : { param: own }),
      ...(size === undefined || size === 'limit' ? {} : { limit_param: size }),
      ...(limit === undefined || Number(limit.value) <= 0 ? {} : { limit: Number(limit.value) }),
    },
    because: `${offset?.path ?? askedOffset} is a number of records`,
  }
}

/** Values beside the records, with their paths. */
function* scalars(value: unknown, records: readonly string[], at: readonly string[]): Generator<Found> {
  if (Array.isArray(value) || at.length > DEEPEST) return
  if (typeof value === 'object' && value !== null) {
    for (const [key, inner] of Object.entries(value as Json))
      if (key !== '' && !key.includes('.')) yield* scalars(inner, records, [...at, key])
    return
  }
  const last = at.at(-1)
  if (last === undefined) return
  // `links.next.href` is the address of what it is in.
  const named = /^(?:href|url)$/i.test(last) && at.length > 1 ? `${at.at(-2)}${last}` : last
  yield { path: at.join('.'), word: named.toLowerCase().replace(/[^a-z0-9]/g, ''), value }
}
