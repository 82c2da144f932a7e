/** A real gRPC server in a process of its own, to be killed. What it has is a file of rows. */
import { appendFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { temporaryFolder } from './cli.ts'
import type { Certificate } from './servers/core/certificates.ts'
import { accepts, ServerProcess } from './servers/core/process.ts'

const PROGRAM = fileURLToPath(new URL('grpc/server.ts', import.meta.url))
export const PROTO = fileURLToPath(new URL('grpc/events.proto', import.meta.url))

export class GrpcSource {
  readonly #folder = temporaryFolder('grpc')
  readonly #tls: Certificate | undefined
  #process: ServerProcess | undefined
  port = 0

  /** With `tls` it asks clients for a certificate of the same authority. */
  constructor(rows: readonly string[], tls?: Certificate) {
    writeFileSync(this.#rows, `${rows.join('\n')}\n`)
    this.#tls = tls
  }

  get address(): string {
    return `127.0.0.1:${this.port}`
  }

  add(rows: readonly string[]): void {
    appendFileSync(this.#rows, `${rows.join('\n')}\n`)
  }

  async start(): Promise<this> {
    const { certificateFile, keyFile, authorityFile } = this.#tls ?? {}
    const tls = certificateFile === undefined ? [] : [certificateFile, keyFile ?? '', authorityFile ?? '']
    let port = this.port
    this.#process = new ServerProcess({
      command: process.execPath,
      args: [PROGRAM, String(port), this.#rows, ...tls],
      log: join(this.#folder.path, 'log'),
      ready: async (logged) => {
        port = Number(/ready (\d+)/.exec(logged())?.[1] ?? 0)
        return port > 0 && (await accepts(port))
      },
    })
    await this.#process.start()
    this.port = port
    return this
  }

  async kill9(): Promise<void> {
    await this.#process?.kill9()
  }

  /** At the port that it had. */
  async restart(): Promise<void> {
    await this.#process?.end()
    await this.start()
  }

  async end(): Promise<void> {
    await this.#process?.end()
    this.#folder.remove()
  }

  get #rows(): string {
    return join(this.#folder.path, 'rows')
  }
}
