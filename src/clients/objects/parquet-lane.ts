/** Cuts one Parquet file into ranges of whole row groups; the file is never copied where it can have a second name. */
import { crc32 } from 'node:zlib'
import { AdflowError } from '../../core/errors.ts'
import { rowRanges } from '../../records/parquet.ts'
import { chunkPath } from './chunk-names.ts'
import { copyIn } from './copy-in.ts'
import { type FileFacts, fileFacts } from './discover.ts'
import { bringIn, type Readable, verifyInPlace } from './in-place.ts'
import type { OpenFile } from './place.ts'
import type { CutChunk, ReadingOptions } from './reading.ts'

const FOOTER_TAIL_BYTES = 8
const MAGIC = 'PAR1'

export class ParquetLane {
  rows = 0
  readonly #reader: OpenFile
  readonly #path: string
  readonly #options: ReadingOptions
  /** What the footer was read from, as it was then. */
  #staged: { readonly readable: Readable; readonly facts: FileFacts } | undefined
  #groups: Awaited<ReturnType<ReadingOptions['footers']['read']>> = []
  #identity = ''

  constructor(reader: OpenFile, path: string, options: ReadingOptions) {
    this.#reader = reader
    this.#path = path
    this.#options = options
  }

  async open(): Promise<void> {
    const footer = await this.#footer()
    this.#identity = `${this.#reader.facts.size} ${crc32(footer)}`
    const { chunkDir, folders, footers, signal } = this.#options
    const { local, facts } = this.#reader
    const target = chunkPath(chunkDir, 'parquet')
    const readable =
      local === undefined ? await copyIn(this.#reader, target, signal) : await bringIn(local, target, facts, folders)
    this.#staged = { readable, facts: (await fileFacts(readable.file)) ?? this.#reader.facts }
    this.#groups = await footers.read(readable.file).catch((error: unknown) => {
      throw error instanceof AdflowError
        ? new AdflowError(error.code, error.message.replaceAll(readable.file, this.#path), {
            cause: error,
            hint: error.hint ?? '',
          })
        : error
    })
    this.rows = this.#groups.reduce((sum, group) => sum + group.rows, 0)
  }

  ranges(from: number): { from: number; to: number }[] {
    return rowRanges(this.#groups, from, this.#options.chunkBytes)
  }

  async cut(from: number, to: number): Promise<CutChunk> {
    if (to > this.rows)
      throw new AdflowError('SOURCE_CHANGED', `${this.#path} was planned up to row ${to} but has ${this.rows}`, {
        hint: 'bring the file back as it was, or move the position on with `adflow state set`',
      })
    if (this.#staged === undefined) throw new AdflowError('UNEXPECTED', `${this.#path} was cut before it was opened`)
    const { readable: staged, facts } = this.#staged
    const { chunkDir, folders } = this.#options
    const readable = await bringIn(staged.file, chunkPath(chunkDir, 'parquet'), facts, folders)
    return {
      to,
      ...readable,
      format: { type: 'parquet', fromRow: from, toRow: to },
      records: to - from,
      refused: [],
      bytes: Math.round((facts.size * (to - from)) / this.rows),
      digest: `crc32:${crc32(`${this.#identity} ${from} ${to}`).toString(16).padStart(8, '0')}`,
      locate: async (ordinals) => ordinals.map((ordinal) => ({ byteFrom: -1, byteTo: -1, line: from + ordinal + 1 })),
      raw: async (ordinals) => ordinals.map(() => Buffer.alloc(0)),
      verify: () => verifyInPlace(readable.file, this.#path, facts),
    }
  }

  async close(): Promise<void> {
    await this.#staged?.readable.discard()
  }

  async #footer(): Promise<Buffer> {
    const { size } = this.#reader.facts
    const tail = await this.#bytes(Math.max(0, size - FOOTER_TAIL_BYTES), FOOTER_TAIL_BYTES)
    const length = tail.length === FOOTER_TAIL_BYTES ? tail.readUInt32LE(0) : -1
    if (tail.toString('latin1', 4) !== MAGIC || length < 0 || length + FOOTER_TAIL_BYTES > size)
      throw new AdflowError(
        'SOURCE_DAMAGED',
        `${this.#path} is no whole Parquet file: it does not end with its footer`,
        {
          hint: 'it is cut off, still being written, or no Parquet file; replace it by a whole copy',
        },
      )
    return this.#bytes(size - FOOTER_TAIL_BYTES - length, length)
  }

  async #bytes(from: number, length: number): Promise<Buffer> {
    const bytes = Buffer.alloc(length)
    let filled = 0
    while (filled < length) {
      const count = await this.#reader.readAt(bytes, filled, length - filled, from + filled)
      if (count === 0) break
      filled += count
    }
    return bytes.subarray(0, filled)
  }
}
