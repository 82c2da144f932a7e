/** Where the next page of a source is, for each way of paging. */
import { z } from 'zod'
import { AdflowError } from '../../core/errors.ts'
import type { JsonPath } from '../../records/json-page.ts'

const name = z.string().min(1)
const path = z.string().min(1).describe('Keys in the body, separated by dots: `meta.next`.')

export const pagingOptions = z
  .discriminatedUnion('type', [
    z.strictObject({ type: z.literal('none').describe('One answer is everything.') }),
    z
      .strictObject({
        type: z.literal('cursor').describe('Each answer has a cursor for the next request.'),
        param: name.default('cursor').describe('Parameter of the query in which the cursor is sent.'),
        path: path.optional(),
        header: name.optional().describe('Header of the answer that has the cursor, instead of `path`.'),
        more: z.string().min(1).optional().describe('Path of a boolean in the body that is false at the end.'),
      })
      .refine((own) => (own.path === undefined) !== (own.header === undefined), 'either `path` or `header`'),
    z.strictObject({
      type: z.literal('offset').describe('By the number of records before the page.'),
      param: name.default('offset').describe('Parameter with the offset.'),
      limit_param: name.default('limit').describe('Parameter with the size of a page.'),
      limit: z.int().positive().default(100).describe('Records of a page.'),
      overlap: z
        .int()
        .nonnegative()
        .optional()
        .describe(
          'With `key`: how many records before the page are asked for again, so that none is missed when some before it go away. Default: a tenth of `limit`.',
        ),
    }),
    z.strictObject({
      type: z.literal('page').describe('By the number of the page.'),
      param: name.default('page').describe('Parameter with the number.'),
      start: z.int().nonnegative().default(1).describe('Number of the first page.'),
      size_param: name.optional().describe('Parameter with the size of a page.'),
      size: z.int().positive().optional().describe('Records of a page.'),
      overlap: z
        .boolean()
        .default(false)
        .describe(
          'With `key`: each page is asked for once more after the one behind it, for records that moved forward meanwhile.',
        ),
    }),
    z.strictObject({ type: z.literal('link').describe('By the header `Link: <…>; rel="next"`.') }),
    z.strictObject({ type: z.literal('next').describe('By a URL in the body.'), path }),
  ])
  .describe('How the source gives more than one answer can hold.')

export type PagingOptions = z.infer<typeof pagingOptions>

/** Which page is asked for. */
export interface PageAt {
  readonly cursor?: string
  readonly offset?: number
  readonly page?: number
  /** Asked for as it is. */
  readonly url?: string
  /** A page is looked at again; this comes after it. */
  readonly behind?: PageAt | 'end'
}

export interface PageSeen {
  readonly values: Readonly<Record<string, string>>
  readonly headers: Readonly<Record<string, string>>
  /** Where it came from. */
  readonly url: string
  /** All that were in it; those that were not known; and whether some were. */
  readonly records: number
  readonly fresh: number
}

export interface Paging {
  readonly first: PageAt
  /** Values of the body that are wanted. */
  readonly values: Readonly<Record<string, JsonPath>>
  /** Parameters of the query, which placeholders of the same meaning replace. */
  params(at: PageAt): Readonly<Record<string, string>>
  /** undefined: there is none. @throws AdflowError where the paging cannot be followed */
  next(at: PageAt, seen: PageSeen): PageAt | undefined
}

export function pathOf(text: string): JsonPath {
  return text
    .replace(/^\$\.?/, '')
    .split('.')
    .filter((key) => key !== '')
}

export function pagingOf(options: PagingOptions, hasKey: boolean): Paging {
  switch (options.type) {
    case 'none':
      return { first: {}, values: {}, params: () => ({}), next: () => undefined }
    case 'cursor':
      return byCursor(options)
    case 'offset':
      return byOffset(options, hasKey)
    case 'page':
      return byNumber(options, hasKey)
    case 'link':
      return byUrl({}, ({ headers }) => nextLink(headers['link']))
    case 'next':
      return byUrl({ next: pathOf(options.path) }, ({ values }) => textOf(values['next']))
  }
}

function byCursor({ param, path, header, more }: Extract<PagingOptions, { type: 'cursor' }>): Paging {
  return {
    first: {},
    values: {
      ...(path === undefined ? {} : { cursor: pathOf(path) }),
      ...(more === undefined ? {} : { more: pathOf(more) }),
    },
    params: ({ cursor }): Record<string, string> => (cursor === undefined ? {} : { [param]: cursor }),
    next: (at, { values, headers, records }) => {
      const cursor = header === undefined ? textOf(values['cursor']) : headers[header.toLowerCase()]
      if (cursor === undefined || cursor === '' || values['more'] === 'false') return undefined
      // A feed at its end gives the cursor back that it got.
      if (cursor === at.cursor && records === 0) return undefined
      return { cursor }
    },
  }
}

function byOffset(options: Extract<PagingOptions, { type: 'offset' }>, hasKey: boolean): Paging {
  const { param, limit_param, limit } = options
  const overlap = hasKey ? Math.min(options.overlap ?? Math.ceil(limit / 10), limit - 1) : 0
  const begin = ({ offset = 0 }: PageAt) => Math.max(0, offset - overlap)
  return {
    first: { offset: 0 },
    values: {},
    params: (at) => ({ [param]: String(begin(at)), [limit_param]: String(limit) }),
    next: (at, { records, fresh }) => {
      const { offset = 0 } = at
      if (overlap > 0 && offset > 0 && records > 0 && records === fresh)
        throw new AdflowError('SOURCE_CHANGED', `the list moved by more than ${overlap} records while it was read`, {
          hint: 'raise `paginate.overlap`, or read it by `incremental`; records in front of the page may be missing',
        })
      return fresh === 0 ? undefined : { offset: begin(at) + records }
    },
  }
}

function byNumber(options: Extract<PagingOptions, { type: 'page' }>, hasKey: boolean): Paging {
  const { param, start, size_param, size } = options
  const looksBack = options.overlap && hasKey
  return {
    first: { page: start },
    values: {},
    params: ({ page = start }) => ({
      [param]: String(page),
      ...(size_param === undefined || size === undefined ? {} : { [size_param]: String(size) }),
    }),
    next: ({ page = start, behind }, { records }) => {
      if (behind !== undefined) return behind === 'end' ? undefined : behind
      const after: PageAt | 'end' = records === 0 ? 'end' : { page: page + 1 }
      if (looksBack && page > start) return { page: page - 1, behind: after }
      return after === 'end' ? undefined : after
    },
  }
}

function byUrl(values: Paging['values'], find: (seen: PageSeen) => string | undefined): Paging {
  return {
    first: {},
    values,
    params: () => ({}),
    next: (_, seen) => {
      const next = find(seen)
      if (next === undefined || next === '') return undefined
      if (!URL.canParse(next, seen.url))
        throw new AdflowError(
          'SOURCE_UNSUPPORTED',
          `the next page of ${new URL(seen.url).host} is no URL: ${next.slice(0, 80)}`,
          {
            hint: 'check `paginate.path`',
          },
        )
      return { url: new URL(next, seen.url).href }
    },
  }
}

/** A value of JSON as text: a number as it is written. */
function textOf(raw: string | undefined): string | undefined {
  if (raw === undefined || raw === 'null' || raw === 'false') return undefined
  return raw.startsWith('"') ? String(JSON.parse(raw)) : raw
}

/** Of RFC 8288, in as far as servers use it for paging. */
export function nextLink(header: string | undefined): string | undefined {
  for (const [, url, params = ''] of (header ?? '').matchAll(/<([^>]*)>((?:\s*;\s*[^,;]+(?:="[^"]*")?)*)/g))
    if (/;\s*rel\s*=\s*"?(?:[^";]*\s)?next(?:\s[^";]*)?"?/i.test(params)) return url
  return undefined
}
