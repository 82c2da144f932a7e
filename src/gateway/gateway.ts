/** The sources that are pushed to, and the HTTP server before them. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { Logger } from 'pino'
import { isLoopback } from '../core/bearer.ts'
import { AdflowError } from '../core/errors.ts'
import { listenAt } from '../core/listen.ts'
import { type Answer, Refusal } from './answer.ts'
import { reasonOf } from './lane-intake.ts'
import { Budget } from './limits.ts'
import { PushSource, type SourceSettings } from './push-source.ts'
import { takePush } from './take-push.ts'

const TIDY_MS = 1000
/** From the first signal to the end: what is under way is answered. */
const DRAIN_MS = 24_000

/** Where nothing else is said. */
export const PUSH_LIMITS = { memoryBytes: 256 << 20, connections: 1024 } as const

export interface GatewayOptions {
  readonly host: string
  readonly port: number
  /** Of bodies that are under way, all their copies counted. */
  readonly memoryBytes: number
  readonly connections: number
  readonly log: Logger
  /** The command line, for whoever finds the lock held. */
  readonly command: string
}

export class Gateway {
  readonly #options: GatewayOptions
  readonly #sources = new Map<string, PushSource>()
  readonly #memory: Budget
  readonly #told = new Map<string, string>()
  readonly #server = createServer(
    { maxHeaderSize: 16_384, headersTimeout: 10_000, requestTimeout: 30_000, keepAliveTimeout: 30_000 },
    (request, response) => this.#answer(request, response),
  )
  #timer: NodeJS.Timeout | undefined
  #round: Promise<void> = Promise.resolve()
  #closing: Promise<void> | undefined

  private constructor(options: GatewayOptions) {
    this.#options = options
    this.#memory = new Budget(options.memoryBytes)
    this.#server.maxConnections = options.connections
    this.#server.on('checkContinue', (request: IncomingMessage, response: ServerResponse) =>
      this.#answer(request, response, () => response.writeContinue()),
    )
  }

  /** Listens, and opens the sources; one that cannot be opened answers 503 until it can.
   *  @throws AdflowError DAEMON_ADDRESS, TOKEN_UNSAFE */
  static async start(
    options: GatewayOptions,
    sources: readonly SourceSettings[],
  ): Promise<Gateway & { readonly url: string }> {
    for (const source of sources) requireTokens(options.host, source)
    const gateway = new Gateway(options)
    const url = await listenAt(gateway.#server, options.host, options.port)
    await gateway.configure(sources)
    gateway.#timer = setInterval(() => void gateway.#tidy(), TIDY_MS).unref()
    return Object.assign(gateway, { url })
  }

  /** From now on these are taken. One that has changed is closed, and opened anew. One call at a time. */
  async configure(sources: readonly SourceSettings[]): Promise<void> {
    const wanted = new Map(sources.map((settings) => [`${settings.job}/${settings.source}`, settings]))
    for (const [name, source] of this.#sources) {
      const settings = wanted.get(name)
      if (settings !== undefined && source.isAs(settings)) continue
      this.#sources.delete(name)
      await source.close()
    }
    for (const [name, settings] of wanted) {
      if (this.#sources.has(name)) continue
      try {
        requireTokens(this.#options.host, settings)
        this.#sources.set(name, new PushSource(settings))
      } catch (error) {
        this.#tell(name, error)
      }
    }
    await this.#tidy()
  }

  /** Resolves when all that is under way is answered, or after 24 s. */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    clearInterval(this.#timer)
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()))
    this.#server.closeIdleConnections()
    const late = setTimeout(() => this.#server.closeAllConnections(), DRAIN_MS)
    await closed
    clearTimeout(late)
    await this.#round
    for (const source of this.#sources.values()) await source.close()
  }

  get #draining(): boolean {
    return this.#closing !== undefined
  }

  #answer(request: IncomingMessage, response: ServerResponse, proceed?: () => void): void {
    this.#answerOf(request, proceed)
      .catch((error: unknown): Answer => {
        if (error instanceof Refusal) return error.answer
        this.#options.log.error({ err: error }, `a request failed: ${String(error)}`)
        return new Refusal(500, 'unexpected', 'see the log of the gateway').answer
      })
      .then((answer) => {
        request.resume() // what nobody reads any more; the client is still sending it
        send(response, answer, this.#draining)
      })
      .catch((error: unknown) => {
        this.#options.log.error({ err: error }, 'an answer could not be sent')
        response.destroy()
      })
  }

  async #answerOf(request: IncomingMessage, proceed?: () => void): Promise<Answer> {
    const { pathname } = new URL(request.url ?? '/', 'http://gateway')
    if (pathname === '/livez') return { status: 200, body: { status: 'ok' } }
    if (pathname === '/readyz') return this.#ready()
    return takePush(request, pathname, {
      sources: this.#sources,
      memory: this.#memory,
      draining: () => this.#draining,
      ...(proceed === undefined ? {} : { proceed }),
    })
  }

  #ready(): Answer {
    const sources = [...this.#sources.values()].map((source) => ({
      source: source.name,
      ready: source.failure === undefined,
      lanes: Object.fromEntries([...source.lanes].map(([lane, { bytes }]) => [lane, { pending_bytes: bytes }])),
    }))
    const good = !this.#draining && sources.every(({ ready }) => ready)
    const body = { status: good ? 'ok' : 'not ok', draining: this.#draining }
    // Names of jobs are nobody's business elsewhere.
    return { status: good ? 200 : 503, body: isLoopback(this.#options.host) ? { ...body, sources } : body }
  }

  /** Opens what is not open, and removes what has been loaded. */
  #tidy(): Promise<void> {
    this.#round = this.#round.then(async () => {
      for (const source of this.#sources.values()) {
        try {
          if (source.failure !== undefined) await source.open(this.#options.command)
          await source.tidy()
          this.#tell(source.name, undefined)
        } catch (error) {
          this.#tell(source.name, error)
        }
      }
    })
    return this.#round
  }

  /** Once, until it is another. */
  #tell(name: string, error: unknown): void {
    const reason = error === undefined ? '' : reasonOf(error)
    if (reason === (this.#told.get(name) ?? '')) return
    this.#told.set(name, reason)
    if (error === undefined) this.#options.log.info(`${name} takes pushes again`)
    else this.#options.log.error({ err: error }, `${name} takes no pushes: ${reason}`)
  }
}

/** @throws AdflowError TOKEN_UNSAFE */
function requireTokens(host: string, { job, source, options }: SourceSettings): void {
  if (isLoopback(host) || options.tokens.length > 0) return
  throw new AdflowError(
    'TOKEN_UNSAFE',
    `${host} can be reached from other machines, and ${job}/${source} has no tokens`,
    {
      hint: 'give the source `tokens`, or listen on 127.0.0.1',
    },
  )
}

function send(response: ServerResponse, { status, body, headers }: Answer, draining: boolean): void {
  const content = `${JSON.stringify(body)}\n`
  response.writeHead(status, {
    'content-type': 'application/json; charset=utf-8',
    'content-length': Buffer.byteLength(content),
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
    ...(draining ? { connection: 'close' } : {}),
    ...headers,
  })
  response.end(content)
}
