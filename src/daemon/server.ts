/** HTTP of the daemon: probes, metrics and the API, with a token for all but the probes, and a limit for everything that comes in. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { Logger } from 'pino'
import { z } from 'zod'
import { bearerOf, digestOf, sameToken } from '../core/bearer.ts'
import { AdflowError } from '../core/errors.ts'
import { redact } from '../core/job/secrets.ts'
import { listenAt } from '../core/listen.ts'
import { upcoming } from './due.ts'
import { type DaemonFace, gapLines, jobLines, owedLines, runLines, statusOf } from './face.ts'
import { metricsText } from './metrics.ts'

const BODY_BYTES = 16_384
const CONNECTIONS = 64
/** A scheduler without a round for so long is taken for dead. */
const STUCK_SECONDS = 30

export interface ServerOptions {
  readonly host: string
  readonly port: number
  readonly token: string
  readonly face: DaemonFace
  readonly log: Logger
  /** Written down before it is done. */
  readonly audit: (entry: Readonly<Record<string, unknown>>) => Promise<void>
}

export interface RunningServer {
  readonly url: string
  close(): Promise<void>
}

interface Answer {
  readonly status: number
  readonly body: unknown
  readonly text?: string
  readonly headers?: Readonly<Record<string, string>>
}

/** @throws AdflowError DAEMON_ADDRESS */
export async function startServer(options: ServerOptions): Promise<RunningServer> {
  const { host, port, token, log } = options
  const digest = digestOf(token)
  const server = createServer(
    { maxHeaderSize: 16_384, headersTimeout: 10_000, requestTimeout: 15_000, keepAliveTimeout: 5_000 },
    (request, response) => {
      answer(request, digest, options)
        .catch((error: unknown): Answer => failureOf(error, log))
        .then((found) => send(response, found))
        .catch((error: unknown) => {
          log.error({ err: error }, 'an answer could not be sent')
          response.destroy()
        })
    },
  )
  server.maxConnections = CONNECTIONS
  return {
    url: await listenAt(server, host, port),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

async function answer(request: IncomingMessage, digest: Buffer, options: ServerOptions): Promise<Answer> {
  const { face } = options
  const { pathname, searchParams } = new URL(request.url ?? '/', 'http://daemon')
  if (pathname === '/livez') return probe(face.idleSeconds() < STUCK_SECONDS, face)
  if (pathname === '/readyz')
    return probe(['leading', 'standby'].includes(face.role()) && face.idleSeconds() < STUCK_SECONDS, face)
  const given = bearerOf(request.headers.authorization)
  if (given === undefined || !sameToken(digest, given))
    return { ...problem(401, 'TOKEN_UNSAFE', 'a token is needed'), headers: { 'www-authenticate': 'Bearer' } }
  if (request.method === 'POST') return act(pathname, request, options)
  if (request.method !== 'GET') return problem(405, 'USAGE', 'only GET and POST are answered')
  return look(pathname, searchParams, face)
}

async function look(path: string, query: URLSearchParams, face: DaemonFace): Promise<Answer> {
  const job = query.get('job') ?? undefined
  switch (path) {
    case '/metrics':
      return { status: 200, body: undefined, text: await metricsText(face) }
    case '/api/v1/status':
      return ok(await statusOf(face))
    case '/api/v1/jobs':
      return ok({ schema_version: 1, jobs: await jobLines(face) })
    case '/api/v1/runs':
      return ok({ schema_version: 1, runs: runLines(await face.book(), job, count(query, 'limit', 50, 1000)) })
    case '/api/v1/gaps':
      return ok({ schema_version: 1, gaps: gapLines(await face.book()) })
    case '/api/v1/owed':
      return ok({ schema_version: 1, owed: owedLines(await face.book()) })
    case '/api/v1/slots':
      return ok({ schema_version: 1, slots: await slots(face, job, count(query, 'count', 5, 100)) })
  }
  const name = /^\/api\/v1\/jobs\/([a-z][a-z0-9_]{0,62})$/.exec(path)?.[1]
  const found = name === undefined ? undefined : (await jobLines(face)).find((line) => line.job === name)
  return found === undefined ? problem(404, 'NOT_FOUND', `there is no ${path}`) : ok({ schema_version: 1, ...found })
}

const request = z.strictObject({ who: z.string().min(1).max(200), why: z.string().min(1).max(1000) })

async function act(path: string, incoming: IncomingMessage, options: ServerOptions): Promise<Answer> {
  const { face, audit, log } = options
  const [, job, verb] = /^\/api\/v1\/jobs\/([a-z][a-z0-9_]{0,62})\/(trigger|pause|resume)$/.exec(path) ?? []
  if (job === undefined || verb === undefined) return problem(404, 'NOT_FOUND', `nothing can be asked of ${path}`)
  const parsed = request.safeParse(await body(incoming))
  if (!parsed.success) return problem(400, 'USAGE', 'the body is JSON with `who` and `why`, as text that is not empty')
  if (!face.leads(job)) {
    const lease = await face.lease(job)
    return problem(
      409,
      'DAEMON_UNREACHABLE',
      `this daemon does not decide about ${job}${lease?.url == null ? '' : `; ask ${lease.url}`}`,
    )
  }
  const done = { ...parsed.data, at: new Date(face.nowMs()).toISOString() }
  await audit({ ...done, verb, job, from: incoming.socket.remoteAddress })
  log.info({ ...done, verb, job }, `${done.who} asked to ${verb} ${job}: ${done.why}`)
  if (verb === 'trigger') return { status: 202, body: { schema_version: 1, job, slot: await face.trigger(job, done) } }
  await face.setPaused(job, done, verb === 'pause')
  return ok({ schema_version: 1, job, paused: verb === 'pause' ? done : null })
}

async function slots(face: DaemonFace, only: string | undefined, each: number) {
  const book = await face.book()
  const found = [...face.jobs()]
    .filter(([name]) => only === undefined || name === only)
    .flatMap(([name, { job }]) =>
      job.schedule === undefined || book.job(name).paused !== null
        ? []
        : upcoming(name, job.schedule, book.job(name), face.nowMs(), each).map(({ at, start }) => ({
            job: name,
            at: new Date(at).toISOString(),
            start: new Date(start).toISOString(),
          })),
    )
  return found.sort((a, b) => (a.start < b.start ? -1 : 1))
}

async function body(incoming: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of incoming as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > BODY_BYTES) throw new AdflowError('USAGE', `a body has at most ${BODY_BYTES} bytes`)
    chunks.push(chunk)
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString('utf8'))
  } catch {
    return undefined
  }
}

function count(query: URLSearchParams, name: string, preset: number, most: number): number {
  const value = Number(query.get(name) ?? preset)
  return Number.isInteger(value) && value > 0 ? Math.min(value, most) : preset
}

function probe(good: boolean, face: DaemonFace): Answer {
  return { status: good ? 200 : 503, body: { status: good ? 'ok' : 'not ok', role: face.role() } }
}

function ok(found: unknown): Answer {
  return { status: 200, body: found }
}

function problem(status: number, code: string, message: string): Answer {
  return { status, body: { schema_version: 1, error: { code, message } } }
}

function failureOf(error: unknown, log: Logger): Answer {
  if (error instanceof AdflowError) {
    const status = error.code === 'DAEMON_REFUSED' ? 409 : error.code === 'USAGE' ? 413 : 503
    return problem(status, error.code, redact(error.message))
  }
  log.error({ err: error }, 'a request could not be answered')
  return problem(500, 'UNEXPECTED', 'see the log of the daemon')
}

function send(response: ServerResponse, { status, body: found, text, headers }: Answer): void {
  const content = text ?? `${JSON.stringify(found)}\n`
  response.writeHead(status, {
    'content-type': text === undefined ? 'application/json; charset=utf-8' : 'text/plain; version=0.0.4; charset=utf-8',
    'content-length': Buffer.byteLength(content),
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
    ...(status === 413 ? { connection: 'close' } : {}),
    ...headers,
  })
  response.end(content)
}
