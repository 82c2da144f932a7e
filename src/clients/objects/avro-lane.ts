/** Cuts one container file of Avro into NDJSON chunks of whole blocks: a position is where a block begins, a line the number of a record. */

import { AdflowError } from '../../core/errors.ts'
import { ChunkFile } from '../../records/chunk-file.ts'
import type { Window } from '../../records/window.ts'
import { AvroCursor, NotAvro } from '../avro/binary.ts'
import {
  BLOCK_HEAD_BYTES,
  blockHead,
  type ContainerHead,
  containerHead,
  damaged,
  SYNC_BYTES,
} from '../avro/container.ts'
import { JsonBytes, TooLong } from '../avro/json-bytes.ts'
import { chunkPath } from './chunk-names.ts'
import { ownFile } from './in-place.ts'
import type { CutOrder, LaneCutter, LaneStart, OpenLane } from './lane-cutter.ts'
import type { CutChunk } from './reading.ts'
import { storedLines } from './stored-lines.ts'

/** A schema of more is taken for damage. */
const MOST_HEAD_BYTES = 16 << 20
/** Held before they are written. */
const OUTPUT_BYTES = 1 << 20
const NEWLINE = 10

interface Block {
  readonly count: number
  /** Records, still compressed; until the window moves. */
  readonly data: Buffer
  readonly place: string
  /** Of all of it, marker included. */
  readonly bytes: number
}

export class AvroLane implements LaneCutter {
  readonly #lane: OpenLane
  #window: Window
  readonly #out = new JsonBytes(0)
  #head: ContainerHead | undefined
  #at: number
  #lines: number

  constructor(lane: OpenLane, start: LaneStart) {
    this.#lane = lane
    this.#at = start.at
    this.#lines = start.lines
    this.#window = lane.window(start.at)
  }

  get at(): number {
    return this.#at
  }

  get raw(): number {
    return this.#at
  }

  get failure(): unknown {
    return this.#window.failure
  }

  get state(): { lines: number } {
    return { lines: this.#lines }
  }

  async ended(): Promise<boolean> {
    const window = this.#window
    if (window.length === 0) await window.fill(BLOCK_HEAD_BYTES)
    return window.length === 0 && window.ended && window.failure === undefined
  }

  async cut(order: CutOrder): Promise<CutChunk | undefined> {
    const path = chunkPath(this.#lane.options.chunkDir, 'ndjson')
    const file = new ChunkFile(path)
    const from = this.#at
    const before = this.#lines
    try {
      if ((await this.#blocks(order, file)) === 0) return undefined
      await file.finish()
    } catch (error) {
      await file.discard()
      // What stands before the damage is whole. The next cut meets it again, and tells it.
      const whole = this.#at
      if (order.exact || this.#lines === before) throw error
      this.#rewind(from, before)
      return this.cut({ ...order, target: whole, exact: true })
    }
    const stored = (ordinals: readonly number[]) => storedLines(path, ordinals)
    return {
      to: this.#at,
      ...ownFile(path),
      format: { type: 'ndjson' },
      records: this.#lines - before,
      refused: [],
      bytes: file.bytes,
      digest: file.digest,
      locate: async (ordinals) => ordinals.map((ordinal) => ({ byteFrom: -1, byteTo: -1, line: before + ordinal + 1 })),
      raw: stored,
      stored,
    }
  }

  async skip(order: CutOrder): Promise<void> {
    await this.#blocks(order, undefined)
  }

  /** How many there were. `file` undefined: they are passed over. */
  async #blocks(order: CutOrder, file: ChunkFile | undefined): Promise<number> {
    const head = await this.#begin(order.settled)
    if (head === undefined) return 0
    const { chunkBytes } = this.#lane.options
    let blocks = 0
    while (this.#at < order.target && (order.exact || file === undefined || file.bytes < chunkBytes)) {
      const block = await this.#block(head, order.settled)
      if (block === undefined || (order.exact && this.#at + block.bytes > order.target)) break
      if (file !== undefined) await this.#write(block, head, file)
      this.#window.consume(block.bytes)
      this.#at += block.bytes
      this.#lines += block.count
      blocks += 1
    }
    return blocks
  }

  #rewind(at: number, lines: number): void {
    this.#at = at === 0 ? (this.#head?.bytes ?? 0) : at
    this.#lines = lines
    this.#window = this.#lane.window(this.#at)
  }

  /** undefined: the head is not whole yet. */
  async #begin(settled: boolean): Promise<ContainerHead | undefined> {
    if (this.#head !== undefined) return this.#head
    const { origin } = this.#lane
    const window = this.#at === 0 ? this.#window : this.#lane.window(0)
    for (;;) {
      const grown = await window.fill(Math.max(1 << 12, window.length))
      if (window.length === 0) return undefined
      const head = await containerHead(window.bytes.subarray(window.start, window.end), origin)
      if (head !== undefined) {
        this.#head = head
        if (this.#at > 0) return head
        window.consume(head.bytes)
        this.#at = head.bytes
        return head
      }
      if (window.length > MOST_HEAD_BYTES) throw damaged(`the head of ${origin} has no end`)
      if (grown > 0) continue
      if (settled && window.failure === undefined) throw damaged(`${origin} ends in the middle of its head`)
      return undefined
    }
  }

  /** The next one, which is not consumed. undefined: the file ends here, or is not written further. */
  async #block({ sync }: ContainerHead, settled: boolean): Promise<Block | undefined> {
    const window = this.#window
    const place = `the block at byte ${this.#at} of ${this.#lane.origin}`
    const has = async (bytes: number) => {
      while (window.length < bytes && (await window.fill(bytes - window.length)) > 0);
      return window.length >= bytes
    }
    await has(BLOCK_HEAD_BYTES)
    const known = window.length === 0 ? undefined : blockHead(window.bytes, window.start, window.end, place)
    const bytes = known === undefined ? 0 : known.headBytes + known.size + SYNC_BYTES
    if (known === undefined || !(await has(bytes))) {
      if (window.length > 0 && settled && window.failure === undefined) throw damaged(`${place} is cut off`)
      return undefined
    }
    const from = window.start + known.headBytes
    const end = from + known.size
    if (!window.bytes.subarray(end, end + SYNC_BYTES).equals(sync))
      throw damaged(`${place} is not followed by the marker of the file`)
    return { count: known.count, data: window.bytes.subarray(from, end), place, bytes }
  }

  async #write({ count, data, place }: Block, head: ContainerHead, file: ChunkFile): Promise<void> {
    const { maxRecordBytes, maxRatio } = this.#lane.options
    const plain = head.unpack(data, { maxRatio, place })
    const cursor = new AvroCursor(plain, 0, plain.length)
    const out = this.#out
    out.length = 0
    for (let record = 0; record < count; record += 1) {
      out.limit = out.length + maxRecordBytes
      try {
        head.decoder.next(cursor, out)
      } catch (error) {
        if (error instanceof NotAvro) throw damaged(`record ${record + 1} of ${place} ${error.message}`)
        if (!(error instanceof TooLong)) throw error
        throw new AdflowError(
          'SOURCE_UNSUPPORTED',
          `record ${record + 1} of ${place} is larger than ${maxRecordBytes} bytes`,
          { cause: error, hint: 'raise `resources.max_record`' },
        )
      }
      out.limit += 1
      out.byte(NEWLINE)
      if (out.length < OUTPUT_BYTES) continue
      await file.append(out.bytes, 0, out.length)
      out.length = 0
    }
    await file.append(out.bytes, 0, out.length)
    if (cursor.at < plain.length) throw damaged(`${place} goes on behind its last record`)
  }
}
