/** A real gRPC server in a process of its own; `trouble` in the request says how it misbehaves. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { Positions } from '../../src/core/contracts.ts'
import grpc from '../../src/extractors/grpc.ts'
import { diagnosed, statuses } from '../harness/diagnosis.ts'
import { GrpcSource, PROTO } from '../harness/grpc-source.ts'
import { makeCertificate } from '../harness/servers/core/certificates.ts'
import { makeFolder } from '../harness/servers/core/folder.ts'
import { stagedRun } from '../harness/staged-run.ts'

const root = await mkdtemp(join(tmpdir(), 'adflow-grpc-'))
let server: GrpcSource
let cases = 0

const rows = (from: number, count: number) =>
  Array.from({ length: count }, (_, n) => `{"id":${from + n},"micros":1.5,"name":"ü ${from + n}"}`)
beforeAll(async () => {
  server = await new GrpcSource(rows(1, 20)).start()
})
beforeEach(() => {
  cases += 1
})
afterAll(async () => {
  await server.end()
  await rm(root, { recursive: true, force: true })
})

const LIST = {
  method: 'ads.v1.Events/List',
  request: { after_id: '{position}', page_token: '{token}', page_size: 3 },
  records: 'rows',
  next: 'next_page_token',
  position: { field: 'id', start: '0' },
}
const WATCH = {
  method: 'ads.v1.Events/Watch',
  request: { after_id: '{position}' },
  position: { field: 'id', start: '0' },
}

const withRetries = (options: object) => ({
  address: server.address,
  retry: { attempts: 3, initial: '5ms', max: '10ms' },
  ...options,
})
const run = (options: object, from: Positions = {}) =>
  stagedRun(grpc, withRetries(options), { root, stage: join(root, String(cases)), from })
const ids = (records: readonly string[]) => records.map((record) => Number((JSON.parse(record) as { id: string }).id))
const numbers = (from: number, count: number) => Array.from({ length: count }, (_, n) => from + n)
const troubled = <M extends typeof LIST | typeof WATCH>(method: M, trouble: string) => ({
  ...method,
  request: { ...method.request, trouble },
})

describe('records of gRPC', () => {
  it.each(['reflection', 'a .proto file'])('are ProtoJSON with every digit, by %s', async (how) => {
    const proto = how === 'reflection' ? {} : { proto: PROTO }
    const { records, gaps } = await run({ method: 'ads.v1.Events/Everything', again: 'all', ...proto })
    expect(gaps).toEqual([])
    expect(records).toEqual([
      '{"id":"9007199254740993","big_count":"18446744073709551615","raw":"AAH/","kind":"KIND_CLICK","at":"2026-03-01T00:00:00.123456789Z","note":"ü","extra":{"a":[1,null]},"took":"1.500s","counts":{"x":"9223372036854775807"},"values":[0.1,"NaN","Infinity"],"maybe":0,"zip":0,"row":{"id":"5","micros":"","name":""},"is_set":true,"ratio":0.5}',
      '{"id":"0","big_count":"0","raw":"","kind":7,"counts":{},"values":[],"is_set":false,"ratio":0}',
    ])
  })

  it.each([
    ['pages', LIST],
    ['a stream', WATCH],
    ['a stream that does not end', { ...troubled(WATCH, 'open'), idle: '300ms' }],
  ])('come once by %s, and later only what is new', async (_, method) => {
    const own = await new GrpcSource(rows(1, 10)).start()
    try {
      const first = await run({ ...method, address: own.address })
      expect(ids(first.records)).toEqual(numbers(1, 10))
      own.add(rows(11, 4))
      const second = await run({ ...method, address: own.address }, first.positions)
      expect(ids(second.records)).toEqual(numbers(11, 4))
      const third = await run({ ...method, address: own.address }, second.positions)
      expect(third).toMatchObject({ records: [], gaps: [] })
    } finally {
      await own.end()
    }
  })

  it('of a stream that breaks off and comes no further are a gap; nothing of them is lost or doubled afterwards', async () => {
    const broken = await run(troubled(WATCH, 'break'))
    expect(broken.records).toEqual([])
    expect(broken.gaps).toMatchObject([
      { code: 'SOURCE_UNREADABLE', message: expect.stringMatching(/UNAVAILABLE: bye/) },
    ])
    const whole = await run(WATCH, broken.positions)
    expect(ids(whole.records)).toEqual(numbers(1, 20))
  })
})

describe('a call', () => {
  it('is made again when the server is busy, after the pause that it asks for', async () => {
    const own = await new GrpcSource(rows(1, 3)).start()
    try {
      const { records, gaps } = await run({ ...troubled(LIST, 'first-exhausted'), address: own.address })
      expect({ ids: ids(records), gaps }).toEqual({ ids: [1, 2, 3], gaps: [] })
    } finally {
      await own.end()
    }
  })

  it('carries metadata', async () => {
    const asked = troubled(LIST, 'secret')
    expect((await run(asked)).gaps).toMatchObject([
      { code: 'SOURCE_DENIED', message: expect.stringMatching(/UNAUTHENTICATED.*`metadata`/) },
    ])
    cases += 1
    expect((await run({ ...asked, metadata: { authorization: 'Bearer t0ken' } })).records).toHaveLength(20)
  })

  it('is secured by TLS with certificates of both sides', async () => {
    const folder = makeFolder('grpc-tls')
    const good = await makeCertificate(folder)
    const own = await new GrpcSource(rows(1, 3), good).start()
    try {
      const tls = { mode: 'verify', ca: good.authorityFile, certificate: good.certificateFile, key: good.keyFile }
      expect((await run({ ...LIST, address: `localhost:${own.port}`, tls })).records).toHaveLength(3)
      cases += 1
      const [unknown] = (await run({ ...LIST, address: `localhost:${own.port}`, tls: { mode: 'verify' } })).gaps
      expect(unknown).toMatchObject({ code: 'SOURCE_DENIED', message: expect.stringMatching(/certificate.*tls\.ca/) })
      expect(statuses(await diagnosed(grpc, withRetries({ ...LIST, address: `localhost:${own.port}`, tls })))).toEqual({
        reachable: 'ok',
        tls: 'ok',
        target: 'ok',
      })
    } finally {
      await own.end()
      folder.remove()
    }
  })

  it.each([
    ['INVALID_ARGUMENT', troubled(LIST, 'status 3'), 'SOURCE_UNREADABLE', /as you wish.*correct `request`/],
    ['NOT_FOUND', troubled(LIST, 'status 5'), 'SOURCE_MISSING', /NOT_FOUND/],
    ['PERMISSION_DENIED in a stream', troubled(WATCH, 'status 7'), 'SOURCE_DENIED', /PERMISSION_DENIED/],
    ['DATA_LOSS', troubled(LIST, 'status 15'), 'SOURCE_DAMAGED', /DATA_LOSS/],
    ['UNAVAILABLE for good', troubled(LIST, 'status 14'), 'SOURCE_UNREADABLE', /UNAVAILABLE/],
    ['RESOURCE_EXHAUSTED without another try', troubled(LIST, 'go-away'), 'SOURCE_UNREADABLE', /for today/],
    [
      'no answer within the deadline',
      { ...troubled(LIST, 'hang'), timeout: '200ms', retry: { attempts: 1 } },
      'SOURCE_UNREADABLE',
      /DEADLINE_EXCEEDED.*`timeout`/,
    ],
    ['a token that repeats', troubled(LIST, 'endless'), 'SOURCE_UNREADABLE', /same token/],
    ['a stream out of order', troubled(WATCH, 'backwards'), 'SOURCE_UNSUPPORTED', /19 after 20/],
    ['a message that is too large', { ...LIST, max_message: '20B' }, 'SOURCE_BOMB', /`max_message`/],
    ['an unknown method', { ...LIST, method: 'ads.v1.Events/Lost' }, 'SOURCE_MISSING', /one of ads.v1.Events\/List/],
    ['an unknown service', { ...LIST, method: 'ads.v1.Other/List' }, 'SOURCE_MISSING', /knows no ads.v1.Other/],
    [
      'a stream of requests',
      { method: 'ads.v1.Events/Push', again: 'all' },
      'SOURCE_UNSUPPORTED',
      /stream of requests/,
    ],
    ['an unknown field', { ...LIST, records: 'events' }, 'SOURCE_UNSUPPORTED', /no field `events`.*rows/],
    [
      'a request that does not fit',
      { ...LIST, request: { ...LIST.request, page_sice: 3 } },
      'SOURCE_UNSUPPORTED',
      /page_sice.*page_size/,
    ],
    ['no server', { ...LIST, address: '127.0.0.1:9' }, 'SOURCE_UNREADABLE', /UNAVAILABLE/],
    ['a .proto file that is not there', { ...LIST, proto: 'no.proto' }, 'SOURCE_UNSUPPORTED', /`proto`/],
  ])('that meets %s is a gap that says so', async (_, options, code, message) => {
    const { gaps } = await run(options)
    expect(gaps).toMatchObject([{ code, message: expect.stringMatching(message) }])
  })

  it('whose messages are others than the files say is a gap', async () => {
    const other = join(root, 'other.proto')
    await writeFile(
      other,
      'syntax = "proto3"; package ads.v1; message Q { int64 after_id = 1; } message R { repeated S rows = 1; } message S { string id = 1; Q micros = 2; } service Events { rpc List(Q) returns (R); }',
    )
    const { gaps } = await run({ ...LIST, next: undefined, request: { after_id: '{position}' }, proto: other })
    expect(gaps).toMatchObject([{ code: 'SOURCE_DAMAGED', message: expect.stringMatching(/is no ads.v1.R.*`proto`/) }])
  })
})

it('the doctor finds server, security and method, or says what is wrong', async () => {
  const ask = async (options: object) => statuses(await diagnosed(grpc, withRetries(options)))
  expect(await ask(LIST)).toEqual({ reachable: 'ok', tls: 'ok', target: 'ok' })
  expect(await ask({ ...LIST, metadata: { authorization: 'x' } })).toMatchObject({ tls: 'warning' })
  expect(await ask({ ...LIST, method: 'ads.v1.Events/Lost' })).toMatchObject({ target: 'failed SOURCE_MISSING' })
  expect(await ask({ ...LIST, address: '127.0.0.1:9' })).toEqual({ reachable: 'failed SOURCE_UNREADABLE' })
})

it.each([
  [{ position: undefined }, /say what a later run asks for/],
  [{ again: 'all' }, /say what a later run asks for/],
  [{ request: { page_token: '{token}' } }, /`\{position\}` stands nowhere/],
  [{ next: undefined }, /belong together/],
  [{ address: 'https://host' }, /host:443/],
])('the options %j are refused', (options, message) => {
  expect(() => grpc.options.parse({ address: 'host:443', ...LIST, ...options })).toThrow(message)
})
