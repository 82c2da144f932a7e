/**
 * The messages of one batch for one consumer: made of the rows by one statement of the engine, and durable before the first
 * of them is sent. A description that is written last makes them exist; from then on nothing changes them, neither
 * another job file nor another version of adflow, so that an id has the same bytes for ever.
 */
import { createReadStream } from 'node:fs'
import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Message, MessageConsumer } from '../core/consumer.ts'
import { publish, removeDurably, temporaryPath, writeDurably } from '../core/durable.ts'
import { localIoError } from '../core/errors.ts'
import type { JobConsumer } from '../core/job/job.ts'
import type { Session } from '../engine/session.ts'
import type { Outbox, OutboxFile } from '../runtime/outbox.ts'
import { messagesSql } from './message-sql.ts'

const LINE_FEED = 10

/** A message with its place in the file. */
export interface StoredMessage extends Message {
  readonly index: number
  /** Messages with a key in common keep their order. */
  readonly keys: readonly string[]
}

/** What is known of a file of messages. */
export interface MadeMessages {
  readonly token: string
  readonly messages: number
  readonly rows: number
  readonly attributes: Readonly<Record<string, string>>
}

interface Line {
  readonly i: number
  readonly id: string
  readonly keys: readonly string[]
  readonly rows: number
  readonly body: string
}

export class MessageFiles {
  readonly #folder: string

  constructor(folder: string) {
    this.#folder = folder
  }

  progressFile(token: string): string {
    return join(this.#folder, `${token}.progress`)
  }

  /** undefined where they are not made yet. */
  async find(token: string): Promise<MadeMessages | undefined> {
    try {
      return JSON.parse(await readFile(this.#description(token), 'utf8')) as MadeMessages
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
      throw localIoError(error, `read ${this.#description(token)}`)
    }
  }

  /** @throws AdflowError ENGINE_FAILED where an expression of the job fails on a row. */
  async make(
    file: OutboxFile,
    outbox: Outbox,
    config: JobConsumer,
    consumer: MessageConsumer,
    session: Session,
  ): Promise<MadeMessages> {
    const temporary = temporaryPath(this.#data(file.token))
    await writeFile(temporary, '', { flag: 'wx' }).catch((error) => {
      throw localIoError(error, `write ${temporary}`)
    })
    const made = await messagesSql(file, outbox.rows(file), config, consumer, session, temporary)
    await publish(temporary, this.#data(file.token))
    const described = { token: file.token, ...made, attributes: consumer.attributes(file) }
    await writeDurably(this.#description(file.token), JSON.stringify(described))
    return described
  }

  /** In order; memory holds one line at a time. */
  async *read({ token, attributes }: MadeMessages): AsyncGenerator<StoredMessage> {
    for await (const line of linesOf(this.#data(token))) {
      const { i, id, keys, rows, body } = JSON.parse(line) as Line
      yield { index: i, id, keys, rows, body, attributes }
    }
  }

  /** The description goes first: a file that nobody describes is made again. */
  async remove(token: string): Promise<void> {
    await removeDurably(this.#description(token))
    for (const path of [this.#data(token), this.progressFile(token)]) await rm(path, { force: true })
  }

  #data(token: string): string {
    return join(this.#folder, `${token}.ndjson`)
  }

  #description(token: string): string {
    return join(this.#folder, `${token}.json`)
  }
}

/** Line by line, as they are asked for: node:readline reads a thousand lines ahead, and a line may be a megabyte. */
async function* linesOf(path: string): AsyncGenerator<string> {
  const input = createReadStream(path)
  const open: Buffer[] = []
  try {
    for await (const part of input as AsyncIterable<Buffer>) {
      let from = 0
      for (let to = part.indexOf(LINE_FEED); to >= 0; to = part.indexOf(LINE_FEED, from)) {
        open.push(part.subarray(from, to))
        yield Buffer.concat(open.splice(0)).toString('utf8')
        from = to + 1
      }
      if (from < part.length) open.push(part.subarray(from))
    }
  } catch (error) {
    throw localIoError(error, `read ${path}`)
  } finally {
    input.destroy()
  }
}
