/** `adflow serve-push` as a process that is killed and started again, and clients that send until they are answered. */
import { type ChildProcess, spawn } from 'node:child_process'
import type { AddressInfo } from 'node:net'
import { createServer } from 'node:net'
import { fileURLToPath } from 'node:url'
import { Agent, request } from 'undici'

const BIN = fileURLToPath(new URL('../../bin/run.js', import.meta.url))

export class GatewayProcess {
  stderr = ''
  readonly port: number
  readonly #args: readonly string[]
  readonly #env: Readonly<Record<string, string>>
  /** KiB; undefined: as large as they like. */
  readonly #largestFile: number | undefined
  #child: ChildProcess | undefined

  private constructor(
    port: number,
    args: readonly string[],
    env: Readonly<Record<string, string>>,
    largestFile: number | undefined,
  ) {
    this.port = port
    this.#args = args
    this.#env = env
    this.#largestFile = largestFile
  }

  /** On a free port that it keeps over starts. `largestFile`: KiB at which the system refuses to write on. */
  static async start(
    args: readonly string[],
    env: Readonly<Record<string, string>>,
    largestFile?: number,
  ): Promise<GatewayProcess> {
    const gateway = new GatewayProcess(await freePort(), args, env, largestFile)
    await gateway.start()
    return gateway
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`
  }

  get pid(): number | undefined {
    return this.#child?.pid
  }

  /** Resolves when it listens. */
  async start(): Promise<void> {
    const limit = this.#largestFile === undefined ? '' : `ulimit -f ${this.#largestFile}; `
    const command = [process.execPath, BIN, ...this.#args, `--listen=127.0.0.1:${this.port}`]
    const child = spawn('bash', ['-c', `${limit}exec "$0" "$@"`, ...command], {
      env: { ...process.env, NO_COLOR: '1', ...this.#env },
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    this.#child = child
    await new Promise<void>((resolve, reject) => {
      child.once('exit', (code) => reject(new Error(`the gateway ended with ${code}: ${this.stderr}`)))
      child.stderr.setEncoding('utf8').on('data', (text: string) => {
        this.stderr += text
        if (text.includes('takes pushes at')) resolve()
      })
    })
  }

  /** Resolves to its exit code, or the signal. */
  async end(signal: NodeJS.Signals): Promise<number | NodeJS.Signals | null> {
    const child = this.#child
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return null
    return new Promise((resolve) => {
      child.once('exit', (code, by) => resolve(code ?? by))
      child.kill(signal)
    })
  }
}

export interface LoadOptions {
  readonly url: string
  readonly clients: number
  readonly eventsPerRequest: number
  /** undefined: as fast as they are answered. */
  readonly eventsPerSecond: number | undefined
  /** Asked before each request with the seconds since the first, and how many there were: whether those were all. */
  over(seconds: number, requests: number): boolean
  /** The event of a number. */
  event(id: number): string
}

export interface LoadReport {
  /** Events that were sent and answered for: ids from 0. */
  readonly acknowledged: number
  readonly requests: number
  /** Requests that were sent again. */
  readonly retries: number
  readonly seconds: number
  /** From the first attempt to the answer, ascending. */
  readonly latenciesMs: readonly number[]
}

/** Every request is sent under its key until it is answered for. */
export async function pushLoad(options: LoadOptions): Promise<LoadReport> {
  const { url, clients, eventsPerRequest, eventsPerSecond } = options
  const agent = new Agent({ connections: clients, pipelining: 1 })
  const begun = performance.now()
  const latenciesMs: number[] = []
  let next = 0
  let retries = 0
  const client = async () => {
    for (;;) {
      const number = next
      const dueMs = eventsPerSecond === undefined ? 0 : (number * eventsPerRequest * 1000) / eventsPerSecond
      if (options.over(Math.max(dueMs, performance.now() - begun) / 1000, number)) return
      next += 1
      const waitMs = dueMs - (performance.now() - begun)
      if (waitMs > 0) await pause(waitMs)
      const ids = Array.from({ length: eventsPerRequest }, (_, index) => number * eventsPerRequest + index)
      const body = `${ids.map((id) => options.event(id)).join('\n')}\n`
      const at = performance.now()
      while (!(await answered(agent, url, `r${number}`, body))) {
        retries += 1
        await pause(50)
      }
      latenciesMs.push(performance.now() - at)
    }
  }
  await Promise.all(Array.from({ length: clients }, client))
  await agent.close()
  return {
    acknowledged: next * eventsPerRequest,
    requests: next,
    retries,
    seconds: (performance.now() - begun) / 1000,
    latenciesMs: latenciesMs.sort((a, b) => a - b),
  }
}

async function answered(agent: Agent, url: string, key: string, body: string): Promise<boolean> {
  let status: number
  let text: string
  try {
    const answer = await request(url, {
      dispatcher: agent,
      method: 'POST',
      body,
      headers: { 'content-type': 'application/x-ndjson', 'idempotency-key': key },
    })
    status = answer.statusCode
    text = await answer.body.text()
  } catch {
    return false // killed meanwhile
  }
  if (status === 202) return true
  if (status === 429 || status === 503) return false
  throw new Error(`${status}: ${text}`)
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}

/** Nobody has it now. */
export async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', () => resolve()))
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}
