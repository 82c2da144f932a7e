/**
 * Batches owed to a store: Parquet named by token, with a description that is written last and makes the batch exist.
 * A kill between the two leaves a Parquet file that nobody describes; the batch is planned still and comes again.
 */
import { mkdir, readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { BatchInfo, Column } from '../core/contracts.ts'
import { publish, removeDurably, temporaryPath, writeDurably } from '../core/durable.ts'
import { localIoError } from '../core/errors.ts'
import { encode } from '../engine/encode.ts'
import { exactItems } from '../engine/exact.ts'
import type { Session } from '../engine/session.ts'
import { ident, literal } from '../engine/sql-text.ts'

export interface OwedBatch extends BatchInfo {
  readonly sequence: string
  readonly columns: readonly Column[]
  readonly rows: number
  readonly bytes: number
  readonly origin: string
  /** Token of the batch in the ledger; `token` is that of the output. */
  readonly batch: string
}

export class Spool {
  readonly folder: string
  /** By token, in the order in which they came. */
  readonly #owed = new Map<string, OwedBatch>()
  /** Those of each lane, in the same order: a store that was down for a day is owed very many. */
  readonly #lanes = new Map<string, Set<OwedBatch>>()
  #bytes = 0
  #rows = 0

  constructor(folder: string) {
    this.folder = folder
  }

  /** In the order in which the batches were planned. */
  get owed(): readonly OwedBatch[] {
    return [...this.#owed.values()]
  }

  get size(): number {
    return this.#owed.size
  }

  get bytes(): number {
    return this.#bytes
  }

  get rows(): number {
    return this.#rows
  }

  /** The first that is owed of a lane. */
  firstOf(source: string, lane: string): OwedBatch | undefined {
    return this.#lanes.get(laneKey(source, lane))?.values().next().value
  }

  async open(): Promise<void> {
    try {
      await mkdir(this.folder, { recursive: true })
      const names = (await readdir(this.folder)).filter((name) => name.endsWith('.json') && !name.startsWith('.'))
      const read = names.map(async (name) => JSON.parse(await readFile(join(this.folder, name), 'utf8')) as OwedBatch)
      const found = await Promise.all(read)
      for (const batch of found.sort((a, b) => Number(BigInt(a.sequence) - BigInt(b.sequence)))) this.#add(batch)
    } catch (error) {
      throw localIoError(error, `read the spool ${this.folder}`)
    }
  }

  file(batch: { readonly token: string }): string {
    return join(this.folder, `${batch.token}.parquet`)
  }

  /** The rows of a batch as they were handed over: what Parquet cannot hold is written as another type, and cast back. */
  relation(batch: OwedBatch): string {
    const items = batch.columns.map(({ name, type }) => `CAST(${ident(name)} AS ${type}) AS ${ident(name)}`)
    return `(SELECT ${items.join(', ')} FROM read_parquet(${literal(this.file(batch))}))`
  }

  /** `verify` is asked before the batch is visible: it throws where the bytes behind the relation have changed meanwhile. */
  async put(
    batch: Omit<OwedBatch, 'rows' | 'bytes'>,
    relation: string,
    session: Session,
    verify?: () => Promise<void>,
  ): Promise<OwedBatch> {
    const file = this.file(batch)
    const temporary = temporaryPath(file)
    const items = await exactItems(session, relation, batch.columns, 'parquet')
    const rows = await encode(session, relation, 'parquet', {
      file: temporary,
      compression: 'zstd',
      ...(items === undefined ? {} : { select: `SELECT ${items.join(', ')} FROM {batch} AS batch` }),
    })
    await verify?.()
    await publish(temporary, file)
    const { size } = await stat(file)
    const owed: OwedBatch = { ...batch, rows, bytes: size }
    await writeDurably(join(this.folder, `${batch.token}.json`), JSON.stringify(owed))
    this.#add(owed)
    return owed
  }

  async remove(batch: OwedBatch): Promise<void> {
    await removeDurably(join(this.folder, `${batch.token}.json`))
    await removeDurably(this.file(batch))
    this.#forget(batch.token)
  }

  #add(batch: OwedBatch): void {
    this.#forget(batch.token)
    this.#owed.set(batch.token, batch)
    const key = laneKey(batch.source, batch.range.lane)
    this.#lanes.set(key, (this.#lanes.get(key) ?? new Set()).add(batch))
    this.#bytes += batch.bytes
    this.#rows += batch.rows
  }

  #forget(token: string): void {
    const batch = this.#owed.get(token)
    if (batch === undefined) return
    this.#owed.delete(token)
    const key = laneKey(batch.source, batch.range.lane)
    const lane = this.#lanes.get(key)
    lane?.delete(batch)
    if (lane?.size === 0) this.#lanes.delete(key)
    this.#bytes -= batch.bytes
    this.#rows -= batch.rows
  }
}

function laneKey(source: string, lane: string): string {
  return JSON.stringify([source, lane])
}
