/** Messages of the plugin pgoutput, version 1 of its protocol, as the server's manual describes them. */
import { AdflowError } from '../../../core/errors.ts'
import type { Lsn } from './lsn.ts'

/** As the server writes it out; null: NULL; undefined: a large value that did not change, and is not told. */
export type TupleValue = string | null | undefined

export interface RelationColumn {
  readonly name: string
  readonly type: number
}

export interface RelationMessage {
  readonly is: 'relation'
  readonly oid: number
  readonly schema: string
  readonly table: string
  readonly columns: readonly RelationColumn[]
}

/** A row, by its values; `key`: only those of the replica identity are told. */
export interface OldTuple {
  readonly values: readonly TupleValue[]
  readonly key: boolean
}

export type Message =
  | { readonly is: 'begin'; readonly commit: Lsn; readonly micros: bigint; readonly xid: number }
  | { readonly is: 'commit'; readonly end: Lsn }
  | RelationMessage
  | { readonly is: 'insert'; readonly relation: number; readonly after: readonly TupleValue[] }
  | {
      readonly is: 'update'
      readonly relation: number
      readonly before: OldTuple | undefined
      readonly after: readonly TupleValue[]
    }
  | { readonly is: 'delete'; readonly relation: number; readonly before: OldTuple }
  | { readonly is: 'truncate'; readonly relations: readonly number[] }
  | { readonly is: 'other' }

/** @throws AdflowError SOURCE_DAMAGED where the bytes are none of these messages */
export function parseMessage(bytes: Buffer): Message {
  try {
    return new Reader(bytes).message()
  } catch (error) {
    if (error instanceof AdflowError) throw error
    throw new AdflowError('SOURCE_DAMAGED', `the server sent a change that cannot be read (${bytes.length} bytes)`, {
      cause: error,
    })
  }
}

class Reader {
  readonly #bytes: Buffer
  #at = 0

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  message(): Message {
    const kind = this.#char()
    switch (kind) {
      case 'B':
        return { is: 'begin', commit: this.#long(), micros: this.#long(), xid: this.#int() }
      case 'C':
        this.#skip(9)
        return { is: 'commit', end: this.#long() }
      case 'R':
        return this.#relation()
      case 'I': {
        const relation = this.#int()
        this.#skip(1)
        return { is: 'insert', relation, after: this.#tuple() }
      }
      case 'U':
        return this.#update()
      case 'D':
        return { is: 'delete', relation: this.#int(), before: this.#old(this.#char()) }
      case 'T': {
        const count = this.#int()
        this.#skip(1)
        return { is: 'truncate', relations: Array.from({ length: count }, () => this.#int()) }
      }
      default:
        return { is: 'other' }
    }
  }

  #relation(): RelationMessage {
    const oid = this.#int()
    const [schema, table] = [this.#text(), this.#text()]
    this.#skip(1)
    const columns = Array.from({ length: this.#short() }, () => {
      this.#skip(1)
      const column = { name: this.#text(), type: this.#int() }
      this.#skip(4)
      return column
    })
    // Of the system's own schema it is told as nothing.
    return { is: 'relation', oid, schema: schema === '' ? 'pg_catalog' : schema, table, columns }
  }

  #update(): Message {
    const relation = this.#int()
    const kind = this.#char()
    if (kind === 'N') return { is: 'update', relation, before: undefined, after: this.#tuple() }
    const before = this.#old(kind)
    this.#skip(1)
    return { is: 'update', relation, before, after: this.#tuple() }
  }

  #old(kind: string): OldTuple {
    return { key: kind === 'K', values: this.#tuple() }
  }

  #tuple(): TupleValue[] {
    return Array.from({ length: this.#short() }, () => {
      const kind = this.#char()
      if (kind === 'n') return null
      if (kind === 'u') return undefined
      const length = this.#int()
      this.#at += length
      return this.#bytes.toString('utf8', this.#at - length, this.#at)
    })
  }

  #text(): string {
    const end = this.#bytes.indexOf(0, this.#at)
    const text = this.#bytes.toString('utf8', this.#at, end)
    this.#at = end + 1
    return text
  }

  #char(): string {
    this.#at += 1
    return String.fromCharCode(this.#bytes.readUInt8(this.#at - 1))
  }

  #short(): number {
    this.#at += 2
    return this.#bytes.readUInt16BE(this.#at - 2)
  }

  #int(): number {
    this.#at += 4
    return this.#bytes.readUInt32BE(this.#at - 4)
  }

  #long(): bigint {
    this.#at += 8
    return this.#bytes.readBigUInt64BE(this.#at - 8)
  }

  #skip(bytes: number): void {
    this.#at += bytes
  }
}
