import { expect, it } from 'vitest'
import type { LoaderCheckEnv } from '../../../src/core/loader-check.ts'
import elasticsearch from '../../../src/loaders/elasticsearch.ts'

const URL = 'http://127.0.0.1:9200'

async function remarks(options: Readonly<Record<string, unknown>>, columns: Readonly<Record<string, string>>) {
  const env = {
    path: ['load', 'search'],
    columns: Object.entries(columns).map(([name, type]) => ({ name, type, from: [name] })),
  }
  const parsed = elasticsearch.options.parse({ url: URL, index: 'events', ...options })
  const found = await elasticsearch.check?.(parsed, env as unknown as LoaderCheckEnv)
  return found?.map(({ kind, message, hint, path }) => `${kind} ${path.slice(2).join('.')}: ${message} (${hint})`)
}

it.for([
  ['a healthy job', {}, { id: 'BIGINT', at: 'TIMESTAMP', device: 'STRUCT(os VARCHAR, tags VARCHAR[])' }, []],
  [
    'a key that is not there',
    { write: 'merge', key: ['idd'] },
    { id: 'BIGINT' },
    [/^mistake key\.0: .*idd.*did you mean `id`/],
  ],
  ['a timestamp that is none', { data_stream: 'at' }, { at: 'VARCHAR' }, [/^mistake data_stream: .*VARCHAR/]],
  ['a batch column that comes in', {}, { _batch: 'BIGINT' }, [/^mistake batch_column/]],
  ['a type that no field holds', {}, { u: 'STRUCT(a UNION(x INTEGER))' }, [/^mistake index: .*cannot hold column u/]],
  ['a name with a dot', {}, { 'a.b': 'BIGINT' }, [/^mistake index: .*`a\.b`/]],
  ['a name of the server', {}, { d: 'STRUCT(_source VARCHAR)' }, [/^mistake index: column d.*`_source`/]],
  [
    'a field that is not there',
    { fields: { titel: { type: 'text' } } },
    { title: 'VARCHAR' },
    [/^mistake fields\.titel: .*did you mean `title`/],
  ],
  [
    'nanoseconds of any instant',
    { fields: { at: { type: 'date_nanos' } } },
    { at: 'TIMESTAMP' },
    [/^warning fields\.at: .*1970 to 2262/],
  ],
  ['the time of a stream', { data_stream: 'at', fields: { '@timestamp': { type: 'date' } } }, { at: 'TIMESTAMP' }, []],
  [
    'a long decimal as a number',
    { fields: { m: { type: 'double' } } },
    { m: 'DECIMAL(38,18)' },
    [/^warning fields\.m: .*15 digits/],
  ],
  ['a short decimal as a number', { fields: { m: { type: 'double' } } }, { m: 'DECIMAL(9,2)' }, []],
  [
    'a forgetful index',
    { settings: { 'index.translog.durability': 'async' } },
    { id: 'BIGINT' },
    [/^mistake settings/],
  ],
  [
    'an open line',
    { url: 'http://search.example:9200' },
    { id: 'BIGINT' },
    [/^warning url: .*search\.example is not encrypted/],
  ],
] as const)('%s', async ([, options, columns, expected]) => {
  const found = await remarks(options, columns)
  expect(found).toHaveLength(expected.length)
  for (const [index, pattern] of expected.entries()) expect(found?.[index]).toMatch(pattern)
})

it.for([
  [{ index: 'Events' }, 'lower case'],
  [{ index: 'events__adflow_1' }, 'name of an index'],
  [{ write: 'merge' }, 'needs a `key`'],
  [{ data_stream: 'at', write: 'replace' }, 'append'],
  [{ api_key: 'x', user: 'y' }, 'either'],
  [{ password: 'x' }, 'needs a `user`'],
] as const)('refuses %j', ([options, message]) => {
  const parsed = elasticsearch.options.safeParse({ url: URL, index: 'events', ...options })
  expect(parsed.error?.message).toContain(message)
})
