/** Cuts one Parquet file into ranges of whole row groups; the file is never copied where it can have a second name. */
import { rm } from 'node:fs/promises'
import { crc32 } from 'node:zlib'
import { AdflowError } from '../../core/errors.ts'
import { rowRanges } from '../../records/parquet.ts'
import { chunkPath } from './chunk-names.ts'
import { type FileFacts, fileFacts } from './discover.ts'
import { bringIn, verifyInPlace } from './in-place.ts'
import type { LocalFile } from './local-file.ts'
import type { CutChunk, ReadingOptions } from './reading.ts'

const FOOTER_TAIL_BYTES = 8
const MAGIC = 'PAR1'

export class ParquetLane {
  rows = 0
  readonly #reader: LocalFile
  readonly #path: string
  readonly #options: ReadingOptions
  readonly #staged: string
  #groups: Awaited<ReturnType<ReadingOptions['footers']['read']>> = []
  #identity = ''

  constructor(reader: LocalFile, path: string, options: ReadingOptions) {
    this.#reader = reader
    this.#path = path
    this.#options = options
    this.#staged = chunkPath(options.chunkDir, 'parquet')
  }

  async open(): Promise<void> {
    const footer = await this.#footer()
    this.#identity = `${this.#reader.facts.size} ${crc32(footer)}`
    await bringIn(this.#path, this.#staged, this.#reader.facts)
    // By its generated name: the engine takes `*` and `[` in a name for a pattern.
    this.#groups = await this.#options.footers.read(this.#staged).catch((error: unknown) => {
      throw error instanceof AdflowError
        ? new AdflowError(error.code, error.message.replaceAll(this.#staged, this.#path), {
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
    const file = chunkPath(this.#options.chunkDir, 'parquet')
    const staged = await this.#stagedFacts()
    await bringIn(this.#staged, file, staged)
    return {
      to,
      file,
      format: { type: 'parquet', fromRow: from, toRow: to },
      records: to - from,
      refused: [],
      bytes: Math.round((staged.size * (to - from)) / this.rows),
      digest: `crc32:${crc32(`${this.#identity} ${from} ${to}`).toString(16).padStart(8, '0')}`,
      locate: async (ordinals) => ordinals.map((ordinal) => ({ byteFrom: -1, byteTo: -1, line: from + ordinal + 1 })),
      raw: async (ordinals) => ordinals.map(() => Buffer.alloc(0)),
      verify: () => verifyInPlace(file, this.#path, staged),
    }
  }

  async close(): Promise<void> {
    await rm(this.#staged, { force: true })
  }

  async #stagedFacts(): Promise<FileFacts> {
    const facts = await fileFacts(this.#staged)
    if (facts === undefined) throw new AdflowError('LOCAL_IO', `the staged file ${this.#staged} has gone`)
    return facts
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
