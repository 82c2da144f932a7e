/** A gRPC server in a process of its own: `node server.ts PORT ROWS_FILE [CERTIFICATE KEY AUTHORITY]`. Says `ready PORT`. */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import * as grpc from '@grpc/grpc-js'
import * as loader from '@grpc/proto-loader'
import { ReflectionService } from '@grpc/reflection'

interface Request {
  readonly after_id: string
  readonly page_token: string
  readonly page_size: number
  readonly trouble: string
}
type Row = { readonly id: string; readonly micros: string; readonly name: string }

const [port = '0', rowsFile = '', certificate, key, authority] = process.argv.slice(2)
const PROTO = fileURLToPath(new URL('events.proto', import.meta.url))
const definition = loader.loadSync(PROTO, { keepCase: true, longs: String, defaults: true })
const events = (grpc.loadPackageDefinition(definition) as unknown as { ads: { v1: { Events: { service: object } } } })
  .ads
const TOKEN = 'Bearer t0ken'

/** JSON texts, one a line; read anew for each call, so that a test may add some. Ids are 64-bit. */
function rowsAfter(after: string): Row[] {
  const rows = readFileSync(rowsFile, 'utf8').trim().split('\n').filter(Boolean)
  return rows
    .map((text): Row => {
      const {
        id = '',
        micros = '',
        name = '',
      } = /"id":(?<id>\d+),"micros":(?<micros>[\d.]+),"name":"(?<name>[^"]*)"/.exec(text)?.groups ?? {}
      return { id, micros, name }
    })
    .filter(({ id }) => BigInt(id) > BigInt(after))
}

let calls = 0
/** true: it was answered. */
function troubled(request: Request, metadata: grpc.Metadata, refuse: (error: object) => void): boolean {
  calls += 1
  const [name, more] = request.trouble.split(' ')
  const answer = (code: grpc.status, details: string, pushback?: string) => {
    const trailer = new grpc.Metadata()
    if (pushback !== undefined) trailer.set('grpc-retry-pushback-ms', pushback)
    refuse({ code, details, metadata: trailer })
    return true
  }
  if (name === 'status') return answer(Number(more), 'as you wish')
  if (name === 'first-exhausted' && calls === 1) return answer(grpc.status.RESOURCE_EXHAUSTED, 'slow down', '20')
  if (name === 'go-away') return answer(grpc.status.RESOURCE_EXHAUSTED, 'for today', '-1')
  if (name === 'secret' && metadata.get('authorization')[0] !== TOKEN)
    return answer(grpc.status.UNAUTHENTICATED, 'who are you?')
  return name === 'hang'
}

const server = new grpc.Server()
server.addService(events.v1.Events.service as grpc.ServiceDefinition, {
  List(call: grpc.ServerUnaryCall<Request, object>, callback: grpc.sendUnaryData<object>) {
    const { request } = call
    if (troubled(request, call.metadata, callback as never)) return
    const rows = rowsAfter(request.after_id)
    const from = Number(request.page_token || 0)
    const to = from + (request.page_size || 1000)
    const endless = request.trouble === 'endless'
    callback(null, { rows: rows.slice(from, to), next_page_token: endless ? '5' : to < rows.length ? String(to) : '' })
  },
  async Watch(call: grpc.ServerWritableStream<Request, Row>) {
    const { request } = call
    if (troubled(request, call.metadata, (error) => call.emit('error', error))) return
    const rows = rowsAfter(request.after_id)
    if (request.trouble === 'backwards') rows.reverse()
    for (const [index, row] of rows.entries()) {
      if (request.trouble === 'break' && index === 5)
        return call.emit('error', { code: grpc.status.UNAVAILABLE, details: 'bye' })
      if (!call.write(row)) await new Promise((resolve) => call.once('drain', resolve))
    }
    if (request.trouble !== 'open') call.end()
  },
  Everything(call: grpc.ServerWritableStream<Request, object>) {
    call.write({
      ...{
        id: '9007199254740993',
        big_count: '18446744073709551615',
        raw: Buffer.from([0, 1, 255]),
        kind: 'KIND_CLICK',
      },
      ...{
        at: { seconds: '1772323200', nanos: 123456789 },
        note: { value: 'ü' },
        took: { seconds: '1', nanos: 500000000 },
      },
      extra: { fields: { a: { listValue: { values: [{ numberValue: 1 }, { nullValue: 0 }] } } } },
      ...{
        counts: { x: '9223372036854775807' },
        values: [0.1, Number.NaN, Number.POSITIVE_INFINITY],
        maybe: 0,
        zip: 0,
      },
      ...{ row: { id: '5' }, is_set: true, ratio: 0.5 },
    })
    call.write({ kind: 7 })
    call.end()
  },
  Push(_: unknown, callback: grpc.sendUnaryData<object>) {
    callback(null, {})
  },
})
new ReflectionService(definition).addToServer(server as never)
const credentials =
  certificate === undefined || key === undefined
    ? grpc.ServerCredentials.createInsecure()
    : grpc.ServerCredentials.createSsl(
        authority === undefined ? null : readFileSync(authority),
        [{ cert_chain: readFileSync(certificate), private_key: readFileSync(key) }],
        authority !== undefined,
      )
server.bindAsync(`127.0.0.1:${port}`, credentials, (error, bound) => {
  if (error !== null) throw error
  process.stdout.write(`ready ${bound}\n`)
})
