/** Makes pages of a stream of changes. A transaction may be larger than a page: then the cursor stands inside it, by the number of its changes. */
import { AdflowError } from '../../../core/errors.ts'
import type { PageSink } from '../../staging/fetcher.ts'
import type { ValueWriters } from './json-values.ts'
import { type Lsn, lsnText, parseLsn } from './lsn.ts'
import type { Message, RelationColumn, RelationMessage } from './messages.ts'
import { type Change, recordOf, type Transaction } from './records.ts'
import type { ChangesState } from './state.ts'
import type { StreamItem } from './stream.ts'

const PAGE_CHARACTERS = 256 << 10

interface Surroundings {
  readonly sink: PageSink
  readonly writers: ValueWriters
  readonly relations: Map<number, RelationMessage>
  warn(text: string): void
  learn(columns: readonly RelationColumn[]): Promise<void>
  reach(state: ChangesState): Promise<void>
}

export class TransactionReader {
  readonly #around: Surroundings
  #state: ChangesState
  /** Changes of the next transaction that were read by an earlier stream. */
  #known: ChangesState['inside']
  #transaction: Transaction | undefined
  #changes = 0
  #behind: Lsn
  #lines: string[] = []
  #characters = 0

  constructor(state: ChangesState, around: Surroundings) {
    this.#state = state
    this.#known = state.inside
    this.#around = around
    this.#behind = parseLsn(state.lsn)
  }

  /** Everything before `target` is read, and no transaction is open. */
  isBehind(target: Lsn): boolean {
    return this.#transaction === undefined && this.#known === undefined && this.#behind >= target
  }

  async take({ lsn, message }: StreamItem): Promise<void> {
    if (message === undefined) {
      if (this.#transaction === undefined && lsn > this.#behind) this.#behind = lsn
      return
    }
    await this.#message(message, lsn)
    if (this.#characters >= PAGE_CHARACTERS) await this.#page()
  }

  async end(): Promise<void> {
    await this.#page()
  }

  async #message(message: Message, lsn: Lsn): Promise<void> {
    switch (message.is) {
      case 'begin': {
        const { xid, commit, micros } = message
        if (this.#known !== undefined && this.#known.xid !== xid) throw otherTransaction(this.#known.xid, xid)
        this.#transaction = { xid, commit, micros }
        this.#changes = 0
        return
      }
      case 'commit':
        if (this.#known !== undefined) throw otherTransaction(this.#known.xid, undefined)
        this.#transaction = undefined
        this.#behind = message.end
        return
      case 'relation':
        return this.#relation(message)
      case 'insert':
        return this.#change({ op: 'insert', relation: this.#of(message.relation), lsn, after: message.after })
      case 'update':
        return this.#change({
          op: 'update',
          relation: this.#of(message.relation),
          lsn,
          before: message.before,
          after: message.after,
        })
      case 'delete':
        return this.#change({ op: 'delete', relation: this.#of(message.relation), lsn, before: message.before })
      case 'truncate':
        for (const relation of message.relations) this.#change({ op: 'truncate', relation: this.#of(relation), lsn })
    }
  }

  #change(change: Omit<Change, 'seq'>): void {
    this.#changes += 1
    if (this.#known !== undefined) {
      if (this.#changes === this.#known.changes) this.#known = undefined
      return
    }
    const line = recordOf({ ...change, seq: this.#changes }, this.#transaction, this.#around.writers)
    this.#lines.push(line)
    this.#characters += line.length
  }

  async #relation(message: RelationMessage): Promise<void> {
    const { relations, learn, warn } = this.#around
    const before = relations.get(message.oid)
    relations.set(message.oid, message)
    await learn(message.columns)
    const difference = before === undefined ? [] : differences(before.columns, message.columns)
    if (difference.length > 0) warn(`${message.schema}.${message.table} has changed: ${difference.join(', ')}`)
  }

  #of(oid: number): RelationMessage {
    const relation = this.#around.relations.get(oid)
    if (relation === undefined)
      throw new AdflowError('SOURCE_DAMAGED', `the server told a change of a table (${oid}) that it has not described`)
    return relation
  }

  async #page(): Promise<void> {
    const { sink, reach } = this.#around
    const { inside: _, ...rest } = this.#state
    const inside =
      this.#known ??
      (this.#transaction === undefined ? undefined : { xid: this.#transaction.xid, changes: this.#changes })
    const next = {
      ...rest,
      lsn: lsnText(this.#behind),
      ...(inside === undefined || inside.changes === 0 ? {} : { inside }),
    }
    if (this.#lines.length > 0) await sink.write(Buffer.from(this.#lines.join('')))
    this.#lines = []
    this.#characters = 0
    this.#state = next
    await reach(next)
  }
}

function differences(before: readonly RelationColumn[], after: readonly RelationColumn[]): string[] {
  const names = (columns: readonly RelationColumn[]) => new Map(columns.map(({ name, type }) => [name, type]))
  const [old, now] = [names(before), names(after)]
  return [
    ...[...now.keys()].filter((name) => !old.has(name)).map((name) => `column ${name} added`),
    ...[...old.keys()].filter((name) => !now.has(name)).map((name) => `column ${name} dropped`),
    ...[...now]
      .filter(([name, type]) => old.has(name) && old.get(name) !== type)
      .map(([name]) => `column ${name} of another type`),
  ]
}

function otherTransaction(expected: number, found: number | undefined): AdflowError {
  return new AdflowError(
    'SOURCE_CHANGED',
    `transaction ${expected} was read in part, and the server ${found === undefined ? 'has fewer changes of it now' : `goes on with ${found}`}`,
    {
      hint: 'the publication was changed meanwhile, or the slot was moved; `adflow state rewind --reload` begins anew: load with `write: merge`',
    },
  )
}
