/** Reads one lane: planned ranges first and exactly, then on to the end. What cannot be read becomes a gap, never a throw,
 *  so that one bad file costs no other; only failures of adflow's own disk are thrown. */
import type { Chunk, Gap } from '../../core/contracts.ts'
import { AdflowError } from '../../core/errors.ts'
import { AvroLane } from './avro-lane.ts'
import { DelimitedLane } from './delimited-lane.ts'
import { type FileKind, kindOf } from './file-format.ts'
import { type Mark, Witness } from './identity.ts'
import { JsonLane } from './json-lane.ts'
import { BEGINNING, type LaneCutter, type LaneStart, OpenLane } from './lane-cutter.ts'
import { ParquetLane } from './parquet-lane.ts'
import type { OpenFile } from './place.ts'
import { type CutChunk, isSettled, type LaneTask, type ReadingOptions } from './reading.ts'

const SOURCE_FAULTS = new Set([
  'SOURCE_MISSING',
  'SOURCE_UNREADABLE',
  'SOURCE_DENIED',
  'SOURCE_UNSUPPORTED',
  'SOURCE_DAMAGED',
  'SOURCE_CHANGED',
  'SOURCE_BOMB',
])

export async function* readLane(task: LaneTask, options: ReadingOptions): AsyncGenerator<Chunk | Gap> {
  const progress = { at: task.at }
  try {
    if (task.unsure !== undefined) throw task.unsure
    const file = await options.place.open(task.file)
    try {
      const kind = await kindOf(file, task.file.absolute, options)
      const reader = new LaneReader(task, file, kind, progress)
      yield* kind.format === 'parquet' ? reader.parquet() : reader.stream()
    } finally {
      await file.close()
    }
    if (!options.signal.aborted) options.ended?.(task.lane)
  } catch (error) {
    if (!isSourceFault(error)) throw error
    yield gapOf(task, progress.at, error)
  }
}

export function isSourceFault(error: unknown): error is AdflowError {
  return error instanceof AdflowError && SOURCE_FAULTS.has(error.code)
}

export function gapOf(
  task: Pick<LaneTask, 'lane' | 'planned'> & { file: { absolute: string } },
  at: number,
  error: AdflowError,
): Gap {
  const planned = task.planned.find((range) => Number(range.from) >= at)
  return {
    gap: { lane: task.lane, from: String(at), ...(planned === undefined ? {} : { to: planned.to }) },
    origin: task.file.absolute,
    code: error.code,
    message: error.hint ? `${error.message}; ${error.hint}` : error.message,
  }
}

/** Of larger chunks the first of a file are smaller: until one is cut and encoded the store has nothing to do. */
const FIRST_BYTES = 64_000_000

/** How many bytes the next chunk should have. What is left of a file that has its end, and would be one chunk and a smaller one, is cut into halves: the smaller one would
 *  be in the store before the other is encoded, and then the store has nothing to do but that. Where the end is not known (Infinity), and before it, this
 *  follows from where the chunk begins. */
export function chunkBytesAt(from: number, chunkBytes: number, end: number): number {
  const bytes = Math.min(chunkBytes, Math.max(FIRST_BYTES, from))
  const left = end - from
  return left > bytes && left < 2 * bytes ? Math.ceil(left / 2) : bytes
}

class LaneReader {
  readonly #task: LaneTask
  readonly #file: OpenFile
  readonly #kind: FileKind
  readonly #options: ReadingOptions
  readonly #witness: Witness
  /** How far the lane was given out. */
  readonly #progress: { at: number }

  constructor(task: LaneTask, file: OpenFile, kind: FileKind, progress: { at: number }) {
    this.#task = task
    this.#file = file
    this.#kind = kind
    this.#options = kind.options
    this.#witness = new Witness(task.file, file.facts, file)
    this.#progress = progress
  }

  async *stream(): AsyncGenerator<Chunk | Gap> {
    const { planned, until, file } = this.#task
    const lane = new OpenLane(this.#file, file, this.#kind.format, this.#kind.compression, this.#options)
    const settled = isSettled(this.#options, this.#file.facts)
    let cutter = await this.#resume(lane, settled)
    for (const range of planned) {
      const [from, to] = [Number(range.from), Number(range.to)]
      if (from < cutter.at) cutter = this.#cutter(lane, BEGINNING)
      if (from > cutter.at) await cutter.skip({ target: from, exact: true, limited: true, settled: true })
      const cut = await cutter.cut({ target: to, exact: true, limited: true, settled: true })
      if (cut === undefined || cut.to !== to) throw await this.#notThere(to, cut)
      yield await this.#chunk(from, cut, cutter, lane)
    }
    const end = until ?? (settled && !lane.compressed ? this.#file.facts.size : Infinity)
    while (until === undefined || cutter.at < until) {
      const from = cutter.at
      const size = from + chunkBytesAt(from, this.#options.chunkBytes, end)
      const target = until === undefined ? size : Math.min(until, size)
      const limited = until !== undefined && until <= size
      const cut = await cutter.cut({ target, exact: limited, limited, settled })
      if (cut === undefined) break
      yield await this.#chunk(from, cut, cutter, lane)
    }
    if (cutter.failure !== undefined) throw cutter.failure
  }

  async *parquet(): AsyncGenerator<Chunk | Gap> {
    const { planned, until } = this.#task
    const lane = new ParquetLane(this.#file, this.#task.file.absolute, this.#options)
    try {
      await lane.open()
      let at = this.#task.at
      const cut = async (from: number, to: number): Promise<Chunk> => {
        const chunk = await lane.cut(from, to)
        at = to
        const mark = await this.#mark(to, this.#file.facts.size, to === lane.rows)
        return this.#named(from, chunk, () => mark({ lines: to, rows: lane.rows }))
      }
      for (const range of planned) yield await cut(Number(range.from), Number(range.to))
      for (const { from, to } of lane.ranges(at)) {
        const end = Math.min(to, until ?? to)
        if (from < end) yield await cut(from, end)
      }
    } finally {
      await lane.close()
    }
  }

  #cutter(lane: OpenLane, start: LaneStart): LaneCutter {
    if (this.#kind.format === 'avro') return new AvroLane(lane, start)
    return this.#kind.format === 'json' ? new JsonLane(lane, start) : new DelimitedLane(lane, start)
  }

  /** Without the mark of just this position (`state set`, a rebuilt checkpoint) the stretch before it is passed over once
   *  more: only so line numbers, header and nesting are known. */
  async #resume(lane: OpenLane, settled: boolean): Promise<LaneCutter> {
    const { at, mark } = this.#task
    if (mark?.at === at && mark.lines !== undefined)
      return this.#cutter(lane, { at, lines: mark.lines, header: mark.header, array: mark.array ?? false })
    const cutter = this.#cutter(lane, BEGINNING)
    if (at > 0) await cutter.skip({ target: at, exact: true, limited: true, settled })
    return cutter
  }

  async #notThere(to: number, cut: CutChunk | undefined): Promise<AdflowError> {
    await cut?.discard()
    return new AdflowError(
      'SOURCE_CHANGED',
      `${this.#task.file.absolute} has no record that ends at ${to}, where one was planned`,
      {
        hint: 'bring the file back as it was, or move the position on with `adflow state set`',
      },
    )
  }

  async #chunk(from: number, cut: CutChunk, cutter: LaneCutter, lane: OpenLane): Promise<Chunk> {
    // Looking ahead is cheap, except where it decompresses: there it saves the next run from doing so for nothing.
    const looked = lane.compressed || this.#kind.format === 'json' || cut.to >= this.#file.facts.size
    const ended = looked && (await cutter.ended())
    const raw = lane.compressed ? Math.min(cutter.raw, this.#file.facts.size) : cut.to
    const { state } = cutter
    const mark = await this.#mark(cut.to, raw, ended)
    return this.#named(from, cut, () => mark(cut.lines === undefined ? state : { ...state, lines: cut.lines() }))
  }

  #named(from: number, cut: CutChunk, mark: () => string): Chunk {
    const { lane, file } = this.#task
    this.#progress.at = cut.to
    let released: Promise<void> | undefined
    return {
      range: { lane, from: String(from), to: String(cut.to) },
      get mark() {
        return mark()
      },
      origin: file.absolute,
      file: cut.file,
      format: cut.format,
      get records() {
        return cut.records
      },
      refused: cut.refused,
      bytes: cut.bytes,
      get digest() {
        return cut.digest
      },
      locate: cut.locate,
      raw: cut.raw,
      ...(cut.stored === undefined ? {} : { stored: cut.stored }),
      ...(cut.spans === undefined ? {} : { spans: cut.spans }),
      ...(cut.integers === undefined ? {} : { integers: cut.integers }),
      ...(cut.counted === undefined ? {} : { counted: cut.counted }),
      ...(cut.verify === undefined ? {} : { verify: cut.verify }),
      release: () => {
        released ??= cut.discard()
        return released
      },
    }
  }

  /** The evidence is taken now; what the cutter knows may come later. */
  async #mark(
    at: number,
    raw: number,
    ended: boolean,
  ): Promise<(state: Pick<Mark, 'header' | 'array' | 'rows'> & { lines?: number | undefined }) => string> {
    const evidence = await this.#witness.evidence(raw)
    const { floor } = this.#options
    return (state) =>
      JSON.stringify({ v: 1, at, ...evidence, ended, ...(floor === undefined ? {} : { floor }), ...state })
  }
}
