/** Methods of gRPC servers: pages of a unary one, or a stream of answers; fetched messages are staged. */
import { resolve } from 'node:path'
import { z } from 'zod'
import { GrpcChannel } from '../clients/grpc/channel.ts'
import { diagnoseGrpc } from '../clients/grpc/diagnose-source.ts'
import { discoverMethods } from '../clients/grpc/discover-source.ts'
import { GrpcFetcher, type GrpcFetcherOptions } from '../clients/grpc/grpc-fetcher.ts'
import { hasPlaceholder } from '../clients/grpc/request.ts'
import type { SchemaOptions } from '../clients/grpc/schema.ts'
import { pathOf } from '../clients/http/paging.ts'
import { stagingOptions } from '../clients/staging/options.ts'
import { SINCE_KINDS } from '../clients/staging/since.ts'
import { stagedExtractor } from '../clients/staging/staged-extractor.ts'
import type { ComponentEnv } from '../core/contracts.ts'
import { defineExtractor } from '../core/define.ts'
import { discovery } from '../core/discovery.ts'
import { byteSize, duration } from '../core/job/units.ts'
import { tlsModeShape } from '../core/tls.ts'

const position = z
  .strictObject({
    field: z.string().min(1).describe('Field of the records, keys separated by dots: `event.id`.'),
    as: z
      .enum(SINCE_KINDS)
      .default('number')
      .describe(
        'What its values are: `number` (of any size), `time` (ISO 8601, as timestamps are), `text` and others as in `http`.',
      ),
    start: z
      .string()
      .min(1)
      .optional()
      .describe('What `{position}` is in the first run. Without it, the key is left out.'),
  })
  .describe(
    'A run asks only for what comes after the highest value that was read. The server must give that, and nothing of it.',
  )

const retry = z
  .strictObject({
    attempts: z
      .int()
      .min(1)
      .default(5)
      .describe('How often a call is made before it is a gap. A stream that got further counts anew.'),
    initial: duration.prefault('500ms').describe('Pause after the first failure; doubled each time.'),
    max: duration.prefault('30s').describe('Longest pause.'),
    patience: duration.prefault('2m').describe('Longest `grpc-retry-pushback-ms` that is waited for.'),
  })
  .describe('UNAVAILABLE, RESOURCE_EXHAUSTED, ABORTED, DEADLINE_EXCEEDED, INTERNAL and UNKNOWN are tried again.')

const address = z.string().regex(/^(?:\[[0-9A-Fa-f:.]+\]|[^\s,:/]+):\d{1,5}$/, 'expected `host:443`')

const connectionShape = {
  address: z
    .union([address, z.record(z.string().min(1), address)])
    .describe('Host and port of the server, `ads.example:443`, or several by the name of their lane.'),
  proto: z
    .union([z.string().min(1), z.array(z.string().min(1)).min(1)])
    .optional()
    .describe(
      'Files of the service, relative to the job file. Without them the server is asked, by server reflection.',
    ),
  proto_path: z
    .array(z.string().min(1))
    .default([])
    .describe('Folders in which their imports are looked for, beside their own.'),
  metadata: z
    .record(z.string().regex(/^[0-9a-z_.-]+$/, 'expected lower case letters, digits, `_`, `-` and `.`'), z.string())
    .default({})
    .describe(
      'Metadata of each call, such as `authorization: "Bearer ${ADS_TOKEN}"`. Keys that end in `-bin` have base64.',
    ),
  tls: z
    .strictObject(tlsModeShape)
    .prefault({})
    .describe('How the connection is secured. Paths are relative to the job file.'),
  timeout: duration
    .prefault('60s')
    .describe('Deadline of one call. A stream that reaches it is asked for anew, from its position.'),
  max_message: byteSize.prefault('16MiB').describe('Most bytes of one message.'),
} as const
const connection = z.object(connectionShape)

const options = z
  .strictObject({
    ...connectionShape,
    method: z
      .string()
      .regex(/^[\w.]+\/\w+$/, 'expected `package.Service/Method`')
      .describe('Service and method: `ads.v1.Events/List`. Unary, or with a stream of answers.'),
    request: z
      .record(z.string(), z.unknown())
      .default({})
      .describe(
        'The request, as ProtoJSON with the names of the .proto file. `{position}` and `{token}` are filled in; what has none yet is left out.',
      ),
    records: z
      .string()
      .default('$')
      .describe('Where the records stand in an answer, keys separated by dots: `events`. `$`: the answer is one.'),
    next: z
      .string()
      .min(1)
      .optional()
      .describe(
        'Unary: where the token of the next page stands in an answer: `next_page_token`. Empty there: it was the last page.',
      ),
    position: position.optional(),
    again: z
      .literal('all')
      .optional()
      .describe('What a later run asks for, where `position` is not set: everything, as new records.'),
    idle: duration.prefault('5s').describe('Stream: when nothing has come for so long, what is there now is read.'),
    longest: duration
      .prefault('5m')
      .describe('Stream with a position: how long one run follows it. The next one goes on there.'),
    max_pages: z
      .int()
      .positive()
      .default(10_000)
      .describe('More pages in one run are an error: most likely they have no end.'),
    retry: retry.prefault({}),
    poll: duration.prefault('1m').describe('How often a job that runs for ever asks again.'),
    staging: stagingOptions.prefault({}),
  })
  .superRefine(({ position, again, request, next }, context) => {
    const wrong = (path: string, message: string) => context.addIssue({ code: 'custom', path: [path], message })
    if ((position === undefined) === (again === undefined))
      wrong('position', 'say what a later run asks for: `position`, or `again: all`')
    if (position !== undefined && !hasPlaceholder(request, 'position'))
      wrong('request', '`position` is set, and `{position}` stands nowhere in the request')
    if ((next !== undefined) !== hasPlaceholder(request, 'token'))
      wrong('request', '`next` and `{token}` in the request belong together')
  })

type Connection = z.infer<typeof connection>
type Options = z.infer<typeof options>

export default defineExtractor({
  summary: 'gRPC servers: unary methods page by page, or streams of answers, from .proto files or by reflection.',
  description: `Each server is a lane. A unary method is called once, or page by page where \`next\` names the token of the next page; of a
method with a stream every answer is read. What the messages are is said by the files in \`proto\`, or by the server.

**Records** are ProtoJSON with the names of the .proto file: 64-bit integers exactly, as texts, which the contract casts; bytes as
base64, enums by name (an unknown one by number), \`NaN\` and infinities as texts; timestamps and durations with all nine digits, wrappers, structs, field
masks and \`Any\` in their own forms. Fields without a value have their default (\`0\`, \`""\`, \`false\`, \`[]\`, the first name of an enum); fields that know
whether they were set (\`optional\`, oneofs, messages) are missing.

**What a later run reads.** With \`position\` what comes after the highest value that was read. A unary method may give its records in any order; a
stream must come in the order of the position, and what has the same value must come together. With \`again: all\` everything, as new
records: load it with \`write: merge\`. A unary method that is interrupted goes on with the token of the next page; a stream goes on from the last position,
and one without a position from its beginning, in one page that must come whole.

**The end of a stream** is its end, or \`idle\` without an answer, so that a method that follows what happens can be read, too.

**Gaps.** A deadline, wrong credentials, a method or a field that is not there, a message that does not decode, tokens that repeat: what came
before is loaded, a gap says the rest, and the next run goes on there.`,
  options,
  example: {
    address: 'ads.example:443',
    method: 'ads.v1.Events/List',
    request: { page_size: 500, page_token: '{token}', after_id: '{position}' },
    records: 'events',
    next: 'next_page_token',
    position: { field: 'id', start: '0' },
    metadata: { authorization: 'Bearer ${ADS_TOKEN:-token}' },
  },
  discovery: discovery(connection, async function* (chosen, env) {
    const [channel, ...others] = Object.values(channelsOf(chosen, env, 'server'))
    for (const other of others) await other.close()
    if (channel !== undefined) yield* discoverMethods(channel, schemaOf(chosen, env), env)
  }),
  diagnose: (chosen, env) => {
    const brief = {
      ...chosen,
      timeout: Math.min(chosen.timeout, env.answerMs),
      retry: { attempts: 1, initial: 0, max: 0, patience: 0 },
    }
    return diagnoseGrpc(Object.values(channelsOf(brief, env, chosen.method)), fetcherOptions(brief, env), env)
  },
  create: (chosen, env) => {
    const fetcher = new GrpcFetcher(channelsOf(chosen, env, chosen.method), fetcherOptions(chosen, env))
    return stagedExtractor(fetcher, env, { staging: chosen.staging, pollMs: chosen.poll })
  },
})

function fetcherOptions(chosen: Options, env: ComponentEnv): GrpcFetcherOptions {
  const { method, request, position, next, retry } = chosen
  return {
    method,
    request,
    records: pathOf(chosen.records),
    next: next === undefined ? undefined : pathOf(next),
    position:
      position === undefined ? undefined : { path: pathOf(position.field), kind: position.as, start: position.start },
    schema: schemaOf(chosen, env),
    retry: { attempts: retry.attempts, initialMs: retry.initial, maxMs: retry.max, patienceMs: retry.patience },
    maxPages: chosen.max_pages,
    idleMs: chosen.idle,
    longestMs: chosen.longest,
  }
}

function schemaOf({ proto = [], proto_path: folders }: Connection, { baseDir }: ComponentEnv): SchemaOptions {
  const absolute = (path: string) => resolve(baseDir, path)
  return { files: [proto].flat().map(absolute), folders: folders.map(absolute) }
}

/** `name`: of the lane, where there is one address. */
function channelsOf(chosen: Connection, env: ComponentEnv, name: string): Readonly<Record<string, GrpcChannel>> {
  const { address, metadata, timeout, max_message } = chosen
  const { mode, ...tls } = chosen.tls
  const limits = { timeoutMs: timeout, maxMessageBytes: max_message }
  const servers = typeof address === 'string' ? { [name]: address } : address
  return Object.fromEntries(
    Object.entries(servers).map(([lane, own]) => [
      lane,
      new GrpcChannel({ address: own, metadata, mode, tls, baseDir: env.baseDir, ...limits }),
    ]),
  )
}
