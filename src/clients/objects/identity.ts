/**
 * What identifies the bytes that a lane has read: the mark that is stored with its position. A name says nothing – log
 * files are renamed, truncated, replaced – so the mark keeps the inode with its birth, and digests of the first bytes and of
 * the last bytes that were read.
 */
import { createHash } from 'node:crypto'
import { z } from 'zod'
import type { RandomReader } from '../../records/compression.ts'
import type { FileFacts, SourceFile } from './discover.ts'

const part = z.object({ from: z.number(), length: z.number(), sha256: z.string() })

const markShape = z.object({
  v: z.literal(1),
  path: z.string(),
  dev: z.string(),
  ino: z.string(),
  born: z.string(),
  size: z.number(),
  modified: z.string(),
  version: z.string().optional(),
  /** From where the listing of the next run may begin. */
  floor: z.string().optional(),
  /** Position in the lane at which the mark was made. */
  at: z.number(),
  /** How far the file itself was read: other than `at` where it is compressed. */
  raw: z.number(),
  /** Bytes of the file that must still be the same. */
  parts: z.array(part),
  /** Lines before `at`; missing where they were never counted. */
  lines: z.number().optional(),
  /** The file of `size` bytes was read to its end. */
  ended: z.boolean(),
  /** CSV: column names. */
  header: z.array(z.string()).optional(),
  /** JSON: `at` is inside a top-level array. */
  array: z.boolean().optional(),
  /** Parquet: rows of the file. */
  rows: z.number().optional(),
})

export type Mark = z.infer<typeof markShape>
export type Evidence = Pick<Mark, 'path' | 'dev' | 'ino' | 'born' | 'size' | 'modified' | 'version' | 'raw' | 'parts'>

const HEAD_BYTES = 4096
const TAIL_BYTES = 256

/** undefined: none, or by another version of it; then only the name counts. */
export function parseMark(text: string | undefined): Mark | undefined {
  if (text === undefined) return undefined
  try {
    return markShape.safeParse(JSON.parse(text)).data
  } catch {
    return undefined
  }
}

/** Makes the evidence of one open file; reads its head once. */
export class Witness {
  readonly #file: SourceFile
  readonly #facts: FileFacts
  readonly #reader: RandomReader
  #head: Mark['parts'][number] | undefined

  constructor(file: SourceFile, facts: FileFacts, reader: RandomReader) {
    this.#file = file
    this.#facts = facts
    this.#reader = reader
  }

  /** Evidence of having read `raw` bytes of the file. */
  async evidence(raw: number): Promise<Evidence> {
    const { modifiedMs: _, ...facts } = this.#facts
    if (facts.version !== undefined) return { ...facts, path: this.#file.path, raw, parts: [] }
    const length = Math.min(raw, HEAD_BYTES)
    if (this.#head?.length !== length) this.#head = await this.#digest(0, length)
    const parts = [this.#head]
    if (raw > HEAD_BYTES) parts.push(await this.#digest(raw - TAIL_BYTES, TAIL_BYTES))
    return { ...facts, path: this.#file.path, raw, parts }
  }

  async #digest(from: number, length: number): Promise<Mark['parts'][number]> {
    return { from, length, sha256: await digestOf(this.#reader, from, length) }
  }
}

export type Difference = 'truncated' | 'replaced'

/** undefined: the file still holds what the mark has seen. */
export async function differenceOf(
  mark: Evidence,
  facts: FileFacts,
  reader: () => Promise<RandomReader>,
): Promise<Difference | undefined> {
  if (facts.version !== undefined) return isUnchanged(mark, facts) ? undefined : 'replaced'
  if (isUnchanged(mark, facts)) return undefined
  if (facts.size < mark.raw) return 'truncated'
  const opened = await reader()
  try {
    for (const { from, length, sha256 } of mark.parts)
      if ((await digestOf(opened, from, length)) !== sha256) return 'replaced'
    return undefined
  } finally {
    await opened.close()
  }
}

/** The same file, whatever it is called now. An inode alone is given away again as soon as its file is deleted. */
export function isSameFile(mark: Pick<FileFacts, 'dev' | 'ino' | 'born'>, facts: FileFacts): boolean {
  return mark.ino === facts.ino && mark.dev === facts.dev && mark.born === facts.born
}

async function digestOf(reader: RandomReader, from: number, length: number): Promise<string> {
  const bytes = Buffer.alloc(length)
  let filled = 0
  while (filled < length) {
    const count = await reader.readAt(bytes, filled, length - filled, from + filled)
    if (count === 0) break
    filled += count
  }
  return createHash('sha256').update(bytes.subarray(0, filled)).digest('hex').slice(0, 32)
}

/** The same bytes: by their version, else as far as size and modification time can tell. */
export function isUnchanged(
  before: Pick<FileFacts, 'dev' | 'ino' | 'born' | 'size' | 'modified'> & { readonly version?: string | undefined },
  now: FileFacts,
): boolean {
  if (!isSameFile(before, now) || before.size !== now.size) return false
  return now.version === undefined ? before.modified === now.modified : before.version === now.version
}
