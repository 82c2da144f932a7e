import { describe, expect, it } from 'vitest'
import { malformation } from '../../src/engine/malformed.ts'
import type { ContractColumn } from '../../src/engine/read-plan.ts'
import type { TypeTree } from '../../src/engine/types.ts'

const leaf: TypeTree = { kind: 'text', sql: 'VARCHAR' }
const list: TypeTree = { kind: 'list', sql: 'VARCHAR[]', item: leaf }
const geo: TypeTree = {
  kind: 'struct',
  sql: 'STRUCT(lat DOUBLE, tags VARCHAR[])',
  fields: [
    { name: 'lat', type: { kind: 'other', sql: 'DOUBLE' } },
    { name: 'tags', type: list },
  ],
}

function column(name: string, type: TypeTree, from = name): ContractColumn {
  return { name, type, required: false, from }
}

const columns = [column('id', leaf), column('geo', geo), column('os', leaf, 'device.os')]

function json(text: string | Buffer): [field: string | null, reason: string] {
  const { field, reason } = malformation(Buffer.from(text), { type: 'ndjson' }, columns)
  return [field, reason]
}

describe('what is wrong with a JSON record', () => {
  it.each<[what: string, text: string | Buffer, field: string | null, reason: RegExp]>([
    ['bytes that are no text', Buffer.from([0x7b, 0xff, 0x7d]), null, /^not valid UTF-8$/],
    ['a NUL byte', '{"id":"a\0"}', null, /^a NUL byte$/],
    ['a record cut off', '{"id":', null, /^not JSON: Unexpected end/],
    ['a list', '[1]', null, /^not a JSON object$/],
    ['null', 'null', null, /^not a JSON object$/],
    ['a high surrogate alone', '{"id":"\\ud800"}', null, /lone surrogate/],
    ['a low surrogate alone', '{"id":"\\uDC00"}', null, /lone surrogate/],
    ['surrogates the wrong way round', '{"id":"\\udc00\\ud800"}', null, /lone surrogate/],
    ['a surrogate pair with something between', '{"id":"\\ud83d-\\ude00"}', null, /lone surrogate/],
    ['a key twice', '{"id":1,"x":{"a":1},"id":2}', 'id', /the key "id" stands twice/],
    ['a key twice, once in other letters', '{"id":1,"\\u0069d":2}', 'id', /stands twice/],
    ['a key twice inside', '{"geo":{"lat":1,"lat":2}}', 'lat', /the key "lat" stands twice/],
    ['a text for a struct', '{"geo":"x"}', 'geo', /another shape than STRUCT.*: expected an object$/],
    ['a list for a struct', '{"geo":[]}', 'geo', /expected an object$/],
    ['a text for a list inside', '{"geo":{"tags":"a"}}', 'geo', /expected a list in tags$/],
    ['a number where a path goes on', '{"device":5}', 'os', /another shape than VARCHAR: expected an object$/],
    ['nothing that is known here', '{"id":"\\ud83d\\ude00 \\\\ud800","geo":null}', null, /stands twice, or a value/],
  ])('%s', (_, text, field, reason) => {
    expect(json(text)).toEqual([field, expect.stringMatching(reason)])
  })

  it('is found in a record nested 100,000 deep, and in one of a megabyte', () => {
    const deep = `{"id":${'['.repeat(1e5)}${']'.repeat(1e5)},"id":1}`
    expect(json(deep)).toEqual(['id', expect.stringContaining('stands twice')])
    expect(json(`{"id":"${'\\n'.repeat(4e5)}","id":1}`)).toEqual(['id', expect.stringContaining('stands twice')])
  })

  it('is said of keys that every object has, too', () => {
    expect(json('{"__proto__":1,"__proto__":2}')).toEqual(['__proto__', expect.stringContaining('stands twice')])
    expect(json('{"__proto__":{"device":5}}')[0]).toBeNull()
  })
})

describe('what is wrong with a CSV record', () => {
  it.each([
    ['1,2', '2 fields, not 3 as the header has'],
    ['1', '1 field, not 3 as the header has'],
    ['1,2,3,4', '4 fields, not 3 as the header has'],
    ['1,"2,3",4,5', '4 fields, not 3 as the header has'],
    ['1,"a""b",c,d', '4 fields, not 3 as the header has'],
    ['1,"a"b,c', 'text after the closing quote of field 2'],
    ['1,2,"open', 'the quote of field 3 is never closed'],
    ['1,a"b,c', 'a broken quotation'],
  ])('%s: %s', (text, reason) => {
    const format = { type: 'csv', delimiter: ',', quote: '"', header: ['a', 'b', 'c'] } as const
    expect(malformation(Buffer.from(text), format, columns)).toEqual({ field: null, reason })
  })
})
