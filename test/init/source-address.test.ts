import { expect, it } from 'vitest'
import { sourceOfAddress } from '../../src/init/source-address.ts'

it.each([
  [
    'postgresql://u:p%40@db:5433/ads?table=public.events&cursor=[id]',
    'postgres',
    { url: 'postgres://u@db:5433/ads', password: 'p@', table: 'public.events', cursor: ['id'] },
  ],
  ['clickhouse+https://u@ch:8443/ads', 'clickhouse', { url: 'https://u@ch:8443/ads' }],
  ['s3://ads/a/b/?region=eu', 's3', { bucket: 'ads', prefix: 'a/b', region: 'eu' }],
  ['sftp://u@host:2222/upload/ads/', 'sftp', { url: 'sftp://u@host:2222', path: '/upload/ads' }],
  ['sftp://u@host/~/ads', 'sftp', { url: 'sftp://u@host', path: 'ads' }],
  ['kafka://a:1,b:2/events', 'kafka', { brokers: 'a:1,b:2', topics: 'events' }],
  ['opensearch://host:9200/logs', 'elasticsearch', { url: 'http://host:9200', index: 'logs' }],
  ['prometheus+https://host/prefix', 'prometheus', { url: 'https://host/prefix' }],
  ['grpc://host:443/a.B/C', 'grpc', { address: 'host:443', method: 'a.B/C' }],
  ['https://api.example/v1?x=1', 'http', { url: 'https://api.example/v1?x=1' }],
])('%s is a source of type %s', (address, type, options) => {
  expect(sourceOfAddress(address)).toMatchObject({ type, options })
})

it('options that are set win over those of the address; files are no addresses; others are refused', () => {
  expect(sourceOfAddress('s3://ads/x', ['prefix=y', 'files=["a", "b"]'])?.options).toEqual({
    bucket: 'ads',
    prefix: 'y',
    files: ['a', 'b'],
  })
  expect(sourceOfAddress('data/x.csv')).toBeUndefined()
  expect(() => sourceOfAddress('gopher://host')).toThrow(/no source with addresses such as gopher:/)
  expect(() => sourceOfAddress('s3://')).toThrow(/followed by no host/)
  expect(() => sourceOfAddress('s3://ads', ['prefix'])).toThrow(/no option with a value/)
})
