/** Cuts one JSON file (array, pretty-printed, concatenated) into NDJSON chunks that remember where each record stood. */
import { ChunkFile } from '../../records/chunk-file.ts'
import { type JsonCut, JsonCutter, type JsonPlace } from '../../records/json.ts'
import type { JsonSpans } from '../../records/json-spans.ts'
import { PIECE_BYTES, type Window } from '../../records/window.ts'
import { skipByteOrderMark } from './byte-order-mark.ts'
import { chunkPath } from './chunk-names.ts'
import { isUnchanged } from './identity.ts'
import { ownFile } from './in-place.ts'
import type { CutOrder, LaneCutter, LaneStart, OpenLane } from './lane-cutter.ts'
import type { CutChunk } from './reading.ts'
import { storedLines } from './stored-lines.ts'

export class JsonLane implements LaneCutter {
  readonly #lane: OpenLane
  readonly #window: Window
  #cutter: JsonCutter | undefined
  #place: JsonPlace

  constructor(lane: OpenLane, start: LaneStart) {
    this.#lane = lane
    this.#window = lane.window(start.at)
    this.#place = { at: start.at, lines: start.lines, array: start.array }
  }

  get at(): number {
    return this.#place.at
  }

  get raw(): number {
    return this.#lane.rawPosition(this.#window, this.at)
  }

  get failure(): unknown {
    return this.#window.failure
  }

  get state(): { lines: number; array: boolean } {
    return { lines: this.#place.lines, array: this.#place.array }
  }

  async ended(): Promise<boolean> {
    return (await this.#begin()).exhausted()
  }

  async cut(order: CutOrder): Promise<CutChunk | undefined> {
    const path = chunkPath(this.#lane.options.chunkDir, 'ndjson')
    const file = new ChunkFile(path)
    try {
      const cut = await this.#records(order, file)
      if (cut === undefined) return undefined
      await file.finish()
      return this.#chunk(cut, path, file)
    } catch (error) {
      await file.discard()
      throw error
    }
  }

  async skip(order: CutOrder): Promise<void> {
    for (;;) {
      const cut = await this.#records(order, new ChunkFile())
      if (cut === undefined || cut.at >= order.target) return
    }
  }

  async #begin(): Promise<JsonCutter> {
    if (this.#cutter === undefined && this.at === 0) await skipByteOrderMark(this.#window, this.#lane.origin)
    this.#cutter ??= new JsonCutter(this.#window, this.#place)
    return this.#cutter
  }

  async #records(order: CutOrder, file: ChunkFile): Promise<JsonCut | undefined> {
    const cutter = await this.#begin()
    const { maxRecordBytes } = this.#lane.options
    const cut = await cutter.cut({ ...order, maxRecordBytes, origin: this.#lane.origin }, file)
    if (cut !== undefined) this.#place = { at: cut.at, lines: cut.lines, array: cut.array }
    return cut
  }

  #chunk(cut: JsonCut, path: string, file: ChunkFile): CutChunk {
    const { spans } = cut
    const stored = (ordinals: readonly number[]) => storedLines(path, ordinals)
    return {
      to: cut.at,
      ...ownFile(path),
      format: { type: 'ndjson' },
      records: cut.records,
      refused: cut.refused,
      bytes: file.bytes,
      digest: file.digest,
      locate: async (ordinals) => ordinals.map((ordinal) => spans.at(ordinal)),
      raw: async (ordinals) => this.#originals(ordinals, await stored(ordinals), spans),
      stored,
    }
  }

  /** Records that were written over several lines are read from the source again, if it still is what it was. */
  async #originals(ordinals: readonly number[], stored: Buffer[], spans: JsonSpans): Promise<Buffer[]> {
    const first = ordinals.find((ordinal) => spans.multiline(ordinal))
    if (first === undefined) return stored
    const { file } = this.#lane
    const reader = await this.#lane.reopen().catch(() => undefined) // gone: its line in the chunk must do
    if (reader === undefined) return stored
    try {
      if (!isUnchanged(file.facts, reader.facts)) return stored
      const window = this.#lane.again(reader, spans.at(first).byteFrom)
      const originals: Buffer[] = []
      for (const [index, ordinal] of ordinals.entries()) {
        const span = spans.at(ordinal)
        const line = stored[index] ?? Buffer.alloc(0)
        originals.push(spans.multiline(ordinal) ? await bytesOf(window, span.byteFrom, span.byteTo) : line)
      }
      await window.close()
      return originals
    } finally {
      await reader.close()
    }
  }
}

/** `[from, to)` of the source, which the window must not have passed yet. */
async function bytesOf(window: Window, from: number, to: number): Promise<Buffer> {
  while (window.position < from) {
    if (window.length === 0 && (await window.fill(PIECE_BYTES)) === 0) break
    window.consume(Math.min(window.length, from - window.position))
  }
  while (window.reach < to && (await window.fill(to - window.reach)) > 0);
  if (window.failure !== undefined) throw window.failure
  return Buffer.from(window.bytes.subarray(window.start, window.start + to - from))
}
