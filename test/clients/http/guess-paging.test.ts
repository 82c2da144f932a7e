import { describe, expect, it } from 'vitest'
import { guessPaging } from '../../../src/clients/http/guess-paging.ts'
import { pagingOptions } from '../../../src/clients/http/paging.ts'

const guess = (body: unknown, { url = 'https://a.example/v1/list', headers = {}, records = 10 } = {}) =>
  guessPaging({ body, headers, url, path: ['items'], records })?.paginate

describe('the paging of an answer', () => {
  it.each([
    ['a Link header', {}, { headers: { link: '<https://a.example/?p=2>; rel="next"' } }, { type: 'link' }],
    ['Django', { count: 90, next: 'https://a.example/?page=2', items: [] }, {}, { type: 'next', path: 'next' }],
    ['HAL', { _links: { next: { href: '/v1/list?c=2' } } }, {}, { type: 'next', path: '_links.next.href' }],
    ['JSON:API', { links: { self: '/x', next: '/x?page=2' } }, {}, { type: 'next', path: 'links.next' }],
    ['an address that is null at the end', { next_url: null }, {}, { type: 'next', path: 'next_url' }],
    [
      'Slack',
      { response_metadata: { next_cursor: 'dGVhbTpD' } },
      {},
      { type: 'cursor', path: 'response_metadata.next_cursor' },
    ],
    ['Google', { nextPageToken: 'CAE' }, {}, { type: 'cursor', path: 'nextPageToken', param: 'pageToken' }],
    [
      'HubSpot',
      { paging: { next: { after: '22' } } },
      {},
      { type: 'cursor', path: 'paging.next.after', param: 'after' },
    ],
    [
      'GraphQL',
      { pageInfo: { hasNextPage: true, endCursor: 'abc' } },
      {},
      { type: 'cursor', path: 'pageInfo.endCursor', param: 'after', more: 'pageInfo.hasNextPage' },
    ],
    ['numbers of pages', { page: 1, total_pages: 9 }, {}, { type: 'page' }],
    ['a page in the address', {}, { url: 'https://a.example/?p=1' }, { type: 'page', param: 'p' }],
    [
      'Jira',
      { startAt: 0, maxResults: 50, total: 900 },
      {},
      { type: 'offset', param: 'startAt', limit_param: 'maxResults', limit: 50 },
    ],
    ['an offset', { meta: { offset: 0, limit: 20, total: 90 } }, {}, { type: 'offset', limit: 20 }],
    ['all that there is', { offset: 0, limit: 20, total: 10 }, {}, undefined],
    ['nothing', { items: [], status: 'ok', version: 3 }, {}, undefined],
    ['a list', [], {}, undefined],
  ] as const)('%s', (_, body, more, paginate) => {
    const found = guess(body, more)
    expect(found).toEqual(paginate)
    if (found !== undefined) expect(() => pagingOptions.parse(found)).not.toThrow()
  })
})
