import { tmpdir } from 'node:os'
import grpc from '../../src/extractors/grpc.ts'
import { GrpcSource } from '../harness/grpc-source.ts'
import { extractorConformance } from './suites/extractor.ts'
import { SOURCE_ROWS, sourceFaults } from './suites/source-faults.ts'

const RETRY = { attempts: 3, initial: '20ms', max: '50ms' }
const LIST = {
  method: 'ads.v1.Events/List',
  request: { after_id: '{position}', page_token: '{token}' },
  records: 'rows',
  next: 'next_page_token',
  position: { field: 'id', start: '0' },
} as const
const WATCH = {
  method: 'ads.v1.Events/Watch',
  request: { after_id: '{position}' },
  position: { field: 'id', start: '0' },
} as const

const rowsOf = (count: number) =>
  Array.from({ length: count }, (_, n) => `{"id":"${n + 1}","micros":"${n}.5","name":"name ü ${n}"}`)

extractorConformance('grpc', grpc, async () => {
  const lanes = { clicks: rowsOf(40), orders: rowsOf(25) }
  const plain = (rows: readonly string[]) => rows.map((row) => row.replace(/"(\d[\d.]*)"/g, '$1'))
  const clicks = await new GrpcSource(plain(lanes.clicks)).start()
  const orders = await new GrpcSource(plain(lanes.orders)).start()
  const options = {
    ...LIST,
    address: { clicks: clicks.address, orders: orders.address },
    request: { ...LIST.request, page_size: 3 },
    retry: { attempts: 1 },
  }
  const latin1 = (text: string) => Buffer.from(text).toString('latin1')
  return {
    options,
    baseDir: tmpdir(),
    lanes: { clicks: lanes.clicks.map(latin1), orders: lanes.orders.map(latin1) },
    sources: {
      clicks: Buffer.from(`${lanes.clicks.join('\n')}\n`),
      orders: Buffer.from(`${lanes.orders.join('\n')}\n`),
    },
    chunkBytes: { min: 200, max: 1500 },
    broken: { ...options, address: { nothing: '127.0.0.1:9' } },
    close: async () => {
      await clicks.end()
      await orders.end()
    },
  }
})

const METHODS = process.env['ADFLOW_TEST_LONG'] === '1' ? { list: LIST, watch: WATCH } : { watch: WATCH }

for (const [name, method] of Object.entries(METHODS))
  sourceFaults(`grpc: ${name}`, async () => {
    const server = await new GrpcSource(SOURCE_ROWS).start()
    const pages = 'next' in method ? { request: { ...method.request, page_size: 150 } } : {}
    return {
      extract: { type: 'grpc', address: server.address, ...method, ...pages, retry: RETRY },
      recordBytes: 90,
      kill9: () => server.kill9(),
      restart: () => server.restart(),
      end: () => server.end(),
    }
  })
