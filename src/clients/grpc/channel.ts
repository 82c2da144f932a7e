/** Calls to one gRPC server, as bytes: which messages they are is told by the schema. The library is imported with the first call. */
import type * as Grpc from '@grpc/grpc-js'
import { isThisMachine } from '../../core/this-machine.ts'
import { type TlsOptions, tlsMaterial } from '../../core/tls.ts'

export interface ChannelOptions {
  /** `host:port` */
  readonly address: string
  /** undefined: `off` on this machine, else `verify`. */
  readonly mode: 'verify' | 'off' | undefined
  readonly tls: TlsOptions
  readonly baseDir: string
  readonly metadata: Readonly<Record<string, string>>
  readonly timeoutMs: number
  readonly maxMessageBytes: number
}

/** Broken connections are made anew this soon: a server that was restarted is there again before a run gives up. */
const RECONNECT = { 'grpc.initial_reconnect_backoff_ms': 100, 'grpc.max_reconnect_backoff_ms': 2000 }

export class GrpcChannel {
  readonly #options: ChannelOptions
  #client: Promise<{ readonly grpc: typeof Grpc; readonly client: Grpc.Client }> | undefined

  constructor(options: ChannelOptions) {
    this.#options = options
  }

  get address(): string {
    return this.#options.address
  }

  get encrypted(): boolean {
    const { address, mode } = this.#options
    return (mode ?? (isThisMachine(address.replace(/:\d+$/, '')) ? 'off' : 'verify')) === 'verify'
  }

  get hasMetadata(): boolean {
    return Object.keys(this.#options.metadata).length > 0
  }

  /** Rejects with a GrpcStatus. */
  async unary(path: string, request: Uint8Array, signal: AbortSignal): Promise<Buffer> {
    const { client, metadata, deadline } = await this.#ready()
    signal.throwIfAborted()
    return new Promise((resolve, reject) => {
      const call = client.makeUnaryRequest(path, bytes, plain, request, metadata, deadline, (error, answer) => {
        signal.removeEventListener('abort', cancel)
        if (error !== null) reject(error)
        else resolve(answer ?? Buffer.alloc(0))
      })
      const cancel = () => call.cancel()
      signal.addEventListener('abort', cancel, { once: true })
    })
  }

  /** Messages as they come; reading them rejects with a GrpcStatus. The caller cancels it. */
  async stream(path: string, request: Uint8Array): Promise<Grpc.ClientReadableStream<Buffer>> {
    const { client, metadata, deadline } = await this.#ready()
    return client.makeServerStreamRequest(path, bytes, plain, request, metadata, deadline)
  }

  /** Requests and answers in turn. The caller ends it. */
  async talk(path: string): Promise<Grpc.ClientDuplexStream<Uint8Array, Buffer>> {
    const { client, metadata, deadline } = await this.#ready()
    return client.makeBidiStreamRequest(path, bytes, plain, metadata, deadline)
  }

  async close(): Promise<void> {
    const opened = await this.#client?.catch(() => undefined) // whoever wanted it was told
    opened?.client.close()
  }

  async #ready() {
    this.#client ??= this.#open()
    const { grpc, client } = await this.#client
    const metadata = new grpc.Metadata()
    for (const [key, value] of Object.entries(this.#options.metadata))
      metadata.set(key, key.toLowerCase().endsWith('-bin') ? Buffer.from(value, 'base64') : value)
    return { client, metadata, deadline: { deadline: Date.now() + this.#options.timeoutMs } }
  }

  async #open() {
    const { address, tls, baseDir, maxMessageBytes } = this.#options
    const { ca, key, cert } = tlsMaterial(tls, baseDir)
    const grpc = await import('@grpc/grpc-js')
    // What goes wrong is told by the error of the call; the library would print it as well.
    grpc.setLogVerbosity(grpc.logVerbosity.NONE)
    const credentials = this.encrypted
      ? grpc.credentials.createSsl(ca ?? null, key ?? null, cert ?? null)
      : grpc.credentials.createInsecure()
    const client = new grpc.Client(address, credentials, {
      ...RECONNECT,
      'grpc.max_receive_message_length': maxMessageBytes,
      'grpc.enable_retries': 0,
      'grpc.primary_user_agent': 'adflow',
    })
    return { grpc, client }
  }
}

function bytes(message: Uint8Array): Buffer {
  return Buffer.from(message)
}

function plain(message: Buffer): Buffer {
  return message
}
