/** The messages for a consumer in their order: dead letters that were sent back, then batch after batch what is not through. */
import type { MessageConsumer } from '../core/consumer.ts'
import { redact } from '../core/job/secrets.ts'
import type { OutboxFile } from '../runtime/outbox.ts'
import type { ConsumerWork } from './consumer-work.ts'
import { FileMoves } from './file-moves.ts'
import { type DeadLetter, messageOf } from './letters.ts'
import type { StoredMessage } from './message-file.ts'
import { Progress } from './progress.ts'
import type { Attempts, Item, Origin } from './window.ts'

export class MessageFeed {
  delivered = 0
  dead = 0
  readonly #work: ConsumerWork
  readonly #consumer: MessageConsumer
  readonly #items: AsyncGenerator<Item>
  readonly #tracks: FileTrack[] = []

  constructor(work: ConsumerWork, consumer: MessageConsumer) {
    this.#work = work
    this.#consumer = consumer
    this.#items = this.#read()
  }

  /** undefined after the last one. */
  async next(): Promise<Item | undefined> {
    const { value, done } = await this.#items.next()
    return done === true ? undefined : value
  }

  /** What is left is owed. */
  async end(reason: string): Promise<void> {
    await this.#items.return(undefined)
    for (const track of this.#tracks) await track.end(reason)
  }

  /** Rows of the file that are through already. */
  settledRows(token: string): number {
    return this.#tracks.find((track) => track.file.token === token)?.settledRows ?? 0
  }

  async *#read(): AsyncGenerator<Item> {
    const { state, files } = this.#work
    for (const { id, state: stands } of state.letters.all) {
      const letter = stands === 'queued' ? await state.letters.letter(id) : undefined
      if (letter !== undefined) yield itemOf(messageOf(letter), new LetterTrack(this, this.#work, letter), undefined)
    }
    for (const file of files) yield* this.#messagesOf(file)
  }

  async *#messagesOf(file: OutboxFile): AsyncGenerator<Item> {
    const { state, outbox, config, session } = this.#work
    const made =
      (await state.messages.find(file.token)) ??
      (await state.messages.make(file, outbox, config, this.#consumer, await session()))
    const progress = await Progress.open(state.messages.progressFile(file.token))
    const track = new FileTrack(this, this.#work, file, progress)
    this.#tracks.push(track)
    await track.begin()
    for await (const message of state.messages.read(made)) {
      if (progress.isSettled(message.index)) continue
      track.open += 1
      if (state.letters.has(message.id)) {
        await track.buried(message)
        continue
      }
      yield itemOf(message, track, progress.triesOf(message.index))
    }
    await track.allRead()
  }
}

function itemOf(message: StoredMessage, origin: Origin, tries: Attempts | undefined): Item {
  const { attempts = 0, firstMs } = tries ?? {}
  return { message, origin, attempts, firstMs, notBefore: 0, underWay: false }
}

function letterOf(
  message: StoredMessage,
  about: Pick<DeadLetter, 'consumer' | 'token'>,
  reason: string,
  tries: Attempts,
) {
  const first = new Date(tries.firstMs).toISOString()
  const head = { reason: redact(reason), attempts: tries.attempts, first_at: first, last_at: new Date().toISOString() }
  return { ...message, ...about, ...head }
}

/** A batch of the outbox: when all its messages are through, it is. */
class FileTrack implements Origin {
  readonly file: OutboxFile
  /** Messages that were given out and are not through. */
  open = 0
  readonly #feed: MessageFeed
  readonly #work: ConsumerWork
  readonly #progress: Progress
  readonly #moves: FileMoves
  #read = false
  #over = false

  constructor(feed: MessageFeed, work: ConsumerWork, file: OutboxFile, progress: Progress) {
    this.#feed = feed
    this.#work = work
    this.file = file
    this.#progress = progress
    this.#moves = new FileMoves(work.ledger, file.token, work.config.id, !progress.fresh)
  }

  get settledRows(): number {
    return this.#progress.deliveredRows + this.#progress.deadRows
  }

  begin(): Promise<void> {
    return this.#moves.to('distribution.running', this.#counts)
  }

  async delivered({ index, rows }: StoredMessage): Promise<void> {
    await this.#progress.settle(index, 'delivered', rows)
    this.#feed.delivered += rows
    await this.#settled()
  }

  /** The letter is on disk before the message counts as through. */
  async dead(message: StoredMessage, reason: string, tries: Attempts): Promise<void> {
    const about = { consumer: this.#work.config.id, token: this.file.token }
    await this.#work.state.letters.bury(letterOf(message, about, reason, tries))
    await this.buried(message)
  }

  /** Also for a letter after which a kill came before this note. */
  async buried({ index, rows }: StoredMessage): Promise<void> {
    await this.#progress.settle(index, 'dead', rows)
    this.#feed.dead += rows
    await this.#settled()
  }

  tried({ index }: StoredMessage, tries: Attempts): Promise<void> {
    return this.#progress.tried(index, tries)
  }

  async allRead(): Promise<void> {
    this.#read = true
    if (this.open === 0) await this.#finish()
  }

  async end(reason: string): Promise<void> {
    if (this.#over) return
    this.#over = true
    await this.#moves.owed(this.#counts, redact(reason))
    await this.#progress.close()
  }

  get #counts() {
    return { delivered: this.#progress.deliveredRows, dead: this.#progress.deadRows }
  }

  async #settled(): Promise<void> {
    this.open -= 1
    if (this.#read && this.open === 0) await this.#finish()
  }

  /** The note comes before the messages go: a kill between the two leaves messages that the next run removes. */
  async #finish(): Promise<void> {
    this.#over = true
    const { state, passed } = this.#work
    await state.passed.add(this.file.token)
    await this.#moves.to(this.#counts.dead > 0 ? 'distribution.partial' : 'distribution.completed', this.#counts)
    await this.#progress.close()
    await state.messages.remove(this.file.token)
    await passed(this.file)
  }
}

/** A dead letter that was sent back: it goes under the same id, and may die again. */
class LetterTrack implements Origin {
  readonly #feed: MessageFeed
  readonly #work: ConsumerWork
  readonly #letter: DeadLetter

  constructor(feed: MessageFeed, work: ConsumerWork, letter: DeadLetter) {
    this.#feed = feed
    this.#work = work
    this.#letter = letter
  }

  async delivered({ id, rows }: StoredMessage): Promise<void> {
    await this.#work.state.letters.mark('delivered', [id])
    this.#feed.delivered += rows
  }

  async dead(message: StoredMessage, reason: string, tries: Attempts): Promise<void> {
    await this.#work.state.letters.bury(letterOf(message, this.#letter, reason, tries))
    this.#feed.dead += message.rows
  }

  async tried(): Promise<void> {
    // Its attempts count anew in each run: somebody has sent it back by hand.
  }
}
