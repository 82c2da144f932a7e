/** The stream of changes of a slot: messages as they come, with room for a few megabytes between the server and whoever asks. */
import type { Client, Submittable } from 'pg'
import { AdflowError } from '../../../core/errors.ts'
import { ident, literal } from '../../../engine/sql-text.ts'
import { explainSource } from '../errors.ts'
import { type Lsn, lsnText } from './lsn.ts'
import { type Message, parseMessage } from './messages.ts'

/** `lsn`: of the change. A keepalive has no message: everything before `lsn` was sent. */
export interface StreamItem {
  readonly lsn: Lsn
  readonly message: Message | undefined
}

interface Wire {
  readonly stream: { pause(): void; resume(): void }
  query(sql: string): void
  sendCopyFromChunk(bytes: Buffer): void
  endCopyFrom(): void
}

const ROOM_BYTES = 8 << 20
/** The server gives up a reader that says nothing for wal_sender_timeout: a minute. */
const STATUS_MS = 5000
const XLOG_DATA = 0x77
const KEEPALIVE = 0x6b
const POSTGRES_EPOCH_MS = Date.UTC(2000, 0, 1)

export interface StreamOptions {
  readonly slot: string
  readonly publication: string
  readonly from: Lsn
  /** Changes before it are safe: the server need not keep them. */
  confirmed(): Lsn
  readonly doing: string
}

export class ChangeStream implements Submittable {
  readonly #client: Client
  readonly #options: StreamOptions
  readonly #items: { readonly item: StreamItem; readonly bytes: number }[] = []
  #wire: Wire | undefined
  #bytes = 0
  #paused = false
  #received: Lsn
  #failed: Error | undefined
  #changed = Promise.withResolvers<void>()
  #timer: NodeJS.Timeout | undefined

  constructor(client: Client, options: StreamOptions) {
    this.#client = client
    this.#options = options
    this.#received = options.from
    client.on('error', (error) => this.handleError(error))
    client.on('end', () =>
      this.handleError(new AdflowError('SOURCE_UNREADABLE', `cannot ${options.doing}: the connection was closed`)),
    )
  }

  start(): void {
    this.#client.query(this)
  }

  submit(connection: unknown): void {
    const { slot, publication, from } = this.#options
    const wire = connection as Wire
    this.#wire = wire
    wire.query(
      `START_REPLICATION SLOT ${ident(slot)} LOGICAL ${lsnText(from)} (proto_version '1', publication_names ${literal(ident(publication))})`,
    )
    this.#timer = setInterval(() => this.#tell(false), STATUS_MS)
  }

  /** The next item. undefined: there is none for now, and nothing will come before `signal` is aborted. */
  async next(signal: AbortSignal, silenceMs: number): Promise<StreamItem> {
    for (;;) {
      signal.throwIfAborted()
      const first = this.#items.shift()
      if (first !== undefined) {
        this.#bytes -= first.bytes
        if (this.#paused && this.#bytes < ROOM_BYTES / 2) {
          this.#paused = false
          this.#wire?.stream.resume()
        }
        return first.item
      }
      if (this.#failed !== undefined) throw explainSource(this.#failed, this.#options.doing)
      await this.#wait(signal, silenceMs)
    }
  }

  /** Tells the server what is confirmed, and asks how far it has come: it answers with a keepalive. */
  ask(): void {
    this.#tell(true)
  }

  /** The last word about what is confirmed goes out before the connection ends. */
  async end(): Promise<void> {
    clearInterval(this.#timer)
    if (this.#failed === undefined) {
      this.#tell(false)
      this.#wire?.stream.resume()
      this.#wire?.endCopyFrom()
    }
    this.#failed ??= new Error('ended')
    await this.#client.end().catch(() => undefined) // it broke: there is nothing more to be told
  }

  handleCopyData({ chunk }: { readonly chunk: Buffer }): void {
    const kind = chunk[0]
    if (kind === KEEPALIVE) {
      this.#push({ lsn: chunk.readBigUInt64BE(1), message: undefined }, 32)
      if (chunk[17] === 1) this.#tell(false)
      return
    }
    if (kind !== XLOG_DATA) return
    try {
      // Parsed at once: the bytes are the client's, and it uses them again.
      this.#push({ lsn: chunk.readBigUInt64BE(1), message: parseMessage(chunk.subarray(25)) }, chunk.length)
    } catch (error) {
      this.handleError(error as Error)
    }
  }

  handleError(error: Error): void {
    this.#failed ??= error
    this.#changed.resolve()
  }

  handleCommandComplete(): void {}
  handleReadyForQuery(): void {}

  #push(item: StreamItem, bytes: number): void {
    if (item.lsn > this.#received) this.#received = item.lsn
    this.#items.push({ item, bytes })
    this.#bytes += bytes
    if (!this.#paused && this.#bytes > ROOM_BYTES) {
      this.#paused = true
      this.#wire?.stream.pause()
    }
    this.#changed.resolve()
  }

  #tell(answer: boolean): void {
    if (this.#failed !== undefined) return
    const { confirmed } = this.#options
    const status = Buffer.alloc(34)
    status.writeUInt8(0x72, 0)
    status.writeBigUInt64BE(this.#received, 1)
    status.writeBigUInt64BE(confirmed(), 9)
    status.writeBigUInt64BE(confirmed(), 17)
    status.writeBigInt64BE(BigInt(Date.now() - POSTGRES_EPOCH_MS) * 1000n, 25)
    status.writeUInt8(answer ? 1 : 0, 33)
    this.#wire?.sendCopyFromChunk(status)
  }

  async #wait(signal: AbortSignal, silenceMs: number): Promise<void> {
    const { promise: stopped, reject } = Promise.withResolvers<never>()
    const stop = () => reject(signal.reason)
    signal.addEventListener('abort', stop, { once: true })
    const timer = setTimeout(
      () =>
        reject(
          new AdflowError(
            'SOURCE_UNREADABLE',
            `cannot ${this.#options.doing}: the server was silent for ${silenceMs / 1000} s`,
            {
              hint: '`statement_timeout` allows it more time',
            },
          ),
        ),
      silenceMs,
    )
    try {
      await Promise.race([this.#changed.promise, stopped])
      this.#changed = Promise.withResolvers<void>()
    } finally {
      clearTimeout(timer)
      signal.removeEventListener('abort', stop)
    }
  }
}
