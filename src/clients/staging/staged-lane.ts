/**
 * The staging folder of one lane: segments one after the other, each durable before its bytes count as read. Killed before the
 * description of a segment stands under its name, the source is asked again from the cursor before; killed later, never.
 */
import { mkdir, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import { publish, sweepTemporaries, syncDirectory, writeDurably } from '../../core/durable.ts'
import { localIoError } from '../../core/errors.ts'
import { PIECE_BYTES } from '../../records/window.ts'
import { type FileFacts, fileFacts } from '../objects/discover.ts'
import { RecordCounter } from './record-counter.ts'
import {
  DESCRIPTION,
  dataName,
  descriptionName,
  laneFolder,
  parseSegment,
  SEGMENT_FILE,
  type Segment,
  type SegmentFormat,
} from './segment.ts'
import { SegmentWriter } from './segment-writer.ts'

/** Where a lane goes on. */
export interface Entry {
  readonly at: number
  readonly lines: number
  /** Where the source goes on there: null at its beginning; undefined: nobody knows. */
  readonly cursor: string | null | undefined
}

export interface Witnessed {
  readonly records: number
  /** Of the file as it was published. */
  readonly facts: FileFacts
}

export class StagedLane {
  readonly lane: string
  readonly folder: string
  /** What could not be used and was put aside, under names that end in `.aside`. */
  readonly aside: string[] = []
  #segments: Segment[]
  #entry: Entry
  readonly #witnessed = new WeakMap<Segment, Witnessed>()

  private constructor(lane: string, folder: string, segments: Segment[], entry: Entry) {
    this.lane = lane
    this.folder = folder
    this.#segments = segments
    this.#entry = entry
  }

  /** For the holder of the job's lock. Checks every byte from `entry` on; what does not hang together with it is put aside. */
  static async open(stageDir: string, lane: string, entry: Entry): Promise<StagedLane> {
    const folder = laneFolder(stageDir, lane)
    try {
      await mkdir(folder, { recursive: true, mode: 0o700 })
      await syncDirectory(stageDir)
    } catch (error) {
      throw localIoError(error, `make ${folder}`)
    }
    await sweepTemporaries(folder)
    const opened = new StagedLane(lane, folder, [...(await stagedSegments(folder))], entry)
    await opened.#settle()
    return opened
  }

  /** For whoever reads ranges of the past, while the lane may have gone on: as it stands there, and changes nothing. */
  static async look(stageDir: string, lane: string, entry: Entry): Promise<StagedLane> {
    const folder = laneFolder(stageDir, lane)
    return new StagedLane(lane, folder, [...(await stagedSegments(folder))], entry)
  }

  /** Oldest first; those before the entry too. */
  get segments(): readonly Segment[] {
    return this.#segments
  }

  /** Where the next page belongs. */
  get end(): Entry {
    const last = this.#segments.at(-1)
    if (last === undefined || last.to < this.#entry.at) return this.#entry
    return { at: last.to, lines: last.lines + last.lineEnds, cursor: last.cursor }
  }

  fileOf(segment: Segment): string {
    return join(this.folder, dataName(segment))
  }

  /** The segment in which a position lies, or that begins there. */
  at(position: number): Segment | undefined {
    return this.#segments.find(({ from, to }) => from <= position && position < to)
  }

  /** All of the range is there. */
  covers(from: number, to: number): boolean {
    for (let position = from; position < to; ) {
      const segment = this.at(position)
      if (segment === undefined) return false
      position = segment.to
    }
    return true
  }

  /** A segment that will begin at the end. One at a time. */
  begin(format: SegmentFormat, maxRecordBytes: number): SegmentWriter {
    const counter = new RecordCounter(format, maxRecordBytes)
    return new SegmentWriter(join(this.folder, dataName({ from: this.end.at, format })), counter)
  }

  /** What is known of a segment that was written just now, all of whose bytes are records that may stay as they are. */
  witnessed(segment: Segment): Witnessed | undefined {
    return this.#witnessed.get(segment)
  }

  /** Resolved: its whole pages are durable, and so is the cursor after them. */
  async seal(writer: SegmentWriter, format: SegmentFormat, cursor: string): Promise<Segment> {
    const { at, lines, cursor: before } = this.end
    const { bytes, crc32: sum, counted } = writer.pages
    const { lineEnds, records } = counted
    await writer.dropPage()
    await writer.close()
    const extent = { from: at, to: at + bytes, lines, lineEnds, crc32: sum }
    const segment = this.#describe({ ...extent, format, before, cursor })
    await publish(writer.file, this.fileOf(segment))
    const facts = await fileFacts(this.fileOf(segment))
    if (records !== undefined && facts !== undefined) this.#witnessed.set(segment, { records, facts })
    await this.#put(segment)
    return segment
  }

  /** Resolved: the source goes on there, though it brought no bytes. */
  async advance(cursor: string): Promise<void> {
    const { at, lines, cursor: before } = this.end
    const nothing = { from: at, to: at, lines, lineEnds: 0, crc32: 0, format: { type: 'ndjson' } as const }
    await this.#put(this.#describe({ ...nothing, before, cursor }))
  }

  /** Takes away what lies before the position. A kill between may leave a file that nobody describes: the next start removes it. */
  async remove(before: number): Promise<void> {
    const gone = this.#segments.filter((segment) => isBehind(segment, before))
    if (gone.length === 0) return
    this.#entry = this.end // the next page belongs there, also when nothing is left before it
    this.#segments = this.#segments.filter((segment) => !gone.includes(segment))
    try {
      for (const segment of gone) {
        await rm(join(this.folder, descriptionName(segment)), { force: true })
        await rm(this.fileOf(segment), { force: true })
      }
    } catch (error) {
      throw localIoError(error, `remove staged bytes from ${this.folder}`)
    }
  }

  #describe(
    segment: Omit<Segment, 'v' | 'lane' | 'staged' | 'before'> & { before: string | null | undefined },
  ): Segment {
    const { before, ...rest } = segment
    return { v: 1, lane: this.lane, ...rest, before: before ?? null, staged: new Date().toISOString() }
  }

  async #put(segment: Segment): Promise<void> {
    await writeDurably(join(this.folder, descriptionName(segment)), JSON.stringify(segment))
    this.#segments = [...this.#segments.filter(({ from }) => from !== segment.from), segment]
  }

  /** Keeps the segments that hang together with the entry and have the bytes that they should have. */
  async #settle(): Promise<void> {
    const kept: Segment[] = []
    let end: number | undefined
    for (const segment of this.#segments) {
      if (isBehind(segment, this.#entry.at)) kept.push(segment)
      else if (segment.from <= (end ?? this.#entry.at) && (end === undefined || segment.from === end)) {
        if (!(await this.#isSound(segment))) break
        kept.push(segment)
        end = segment.to
      } else break
    }
    this.#segments = kept
    const named = new Set(kept.flatMap((one) => [descriptionName(one), ...(isEmpty(one) ? [] : [dataName(one)])]))
    try {
      const names = (await readdir(this.folder)).filter((name) => SEGMENT_FILE.test(name))
      const cursorsAlone = new Set(kept.filter(isEmpty).map(descriptionName))
      const described = new Set(names.filter((name) => DESCRIPTION.test(name) && !cursorsAlone.has(name)).map(numberOf))
      for (const name of names) {
        if (named.has(name)) continue
        // Bytes without a description were never counted as read: the source is asked for them again.
        if (!described.has(numberOf(name))) await rm(join(this.folder, name), { force: true })
        else {
          await rename(join(this.folder, name), join(this.folder, `${name}.aside`))
          this.aside.push(name)
        }
      }
      if (this.aside.length > 0) await syncDirectory(this.folder)
    } catch (error) {
      throw localIoError(error, `clear up ${this.folder}`)
    }
  }

  async #isSound(segment: Segment): Promise<boolean> {
    if (isEmpty(segment)) return true
    return (await sumOf(this.fileOf(segment), segment.to - segment.from)) === segment.crc32
  }
}

/** The segments that a folder describes, oldest first. Changes nothing. */
export async function stagedSegments(folder: string): Promise<readonly Segment[]> {
  try {
    const names = (await readdir(folder)).filter((name) => DESCRIPTION.test(name)).sort()
    const read = names.map(async (name) => parseSegment(await readFile(join(folder, name), 'utf8')))
    return (await Promise.all(read)).filter((segment) => segment !== undefined)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw localIoError(error, `read ${folder}`)
  }
}

function isEmpty({ from, to }: Segment): boolean {
  return from === to
}

/** Nothing of it is needed to go on from the position: a cursor alone is, where it stands there. */
function isBehind(segment: Segment, position: number): boolean {
  return segment.to < position || (segment.to === position && !isEmpty(segment))
}

function numberOf(name: string): string {
  return name.slice(0, name.indexOf('.'))
}

/** undefined: the file has another size, or is not there. */
async function sumOf(path: string, size: number): Promise<number | undefined> {
  try {
    if ((await stat(path)).size !== size) return undefined
    const handle = await open(path, 'r')
    try {
      const piece = Buffer.allocUnsafe(PIECE_BYTES)
      let sum = 0
      for (let at = 0; at < size; ) {
        const { bytesRead } = await handle.read(piece, 0, piece.length, at)
        if (bytesRead === 0) return undefined
        sum = crc32(piece.subarray(0, bytesRead), sum)
        at += bytesRead
      }
      return sum
    } finally {
      await handle.close()
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw localIoError(error, `read ${path}`)
  }
}
