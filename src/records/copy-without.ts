/** Copies a chunk file without some of its records: for a second reading after the damaged ones are known. */
import { type FileHandle, open } from 'node:fs/promises'
import { localIoError } from '../core/errors.ts'
import { visitRecords } from './locate.ts'
import { NEWLINE, RETURN, type Splitter } from './splitter.ts'
import { type ByteSource, PIECE_BYTES } from './window.ts'

interface Span {
  readonly start: number
  readonly end: number
}

/** Byte ranges of records in a chunk file, ascending, by walking it. */
export async function spansOf(file: string, splitter: Splitter, ordinals: readonly number[]): Promise<Span[]> {
  const spans: Span[] = []
  const layout = { from: 0, linesBefore: 0, excluded: [] }
  await visitRecords(
    () => sourceOf(file),
    splitter,
    layout,
    ordinals,
    (_, __, { byteFrom, byteTo }) => spans.push({ start: byteFrom, end: byteTo }),
  )
  return spans
}

/** `left` is ascending. Memory: one piece, whatever the size of the file. */
export async function copyWithout(file: string, left: readonly Span[], target: string): Promise<void> {
  let source: FileHandle | undefined
  let copy: FileHandle | undefined
  try {
    source = await open(file, 'r')
    copy = await open(target, 'w')
    const buffer = Buffer.allocUnsafe(PIECE_BYTES)
    let next = 0
    for (let at = 0; ; ) {
      let { bytesRead: length } = await source.read(buffer, 0, buffer.length, at)
      if (length === 0) break
      // The two bytes of a line end must be seen together.
      if (length > 1 && buffer[length - 1] === RETURN) length -= 1
      const { kept, done } = closeGaps(buffer.subarray(0, length), at, left, next)
      next = done
      for (let written = 0; written < kept; )
        written += (await copy.write(buffer, written, kept - written)).bytesWritten
      at += length
    }
  } catch (error) {
    throw localIoError(error, `copy ${file} to ${target}`)
  } finally {
    await source?.close()
    await copy?.close()
  }
}

/** Moves together what is kept of a piece that begins at `at`; `done`: spans that end, line end included, in it or before. */
function closeGaps(piece: Buffer, at: number, left: readonly Span[], next: number): { kept: number; done: number } {
  let kept = 0
  let from = 0
  let done = next
  const keep = (to: number): void => {
    if (kept < from) piece.copyWithin(kept, from, to)
    kept += to - from
  }
  for (let span = left[done]; span !== undefined && span.start < at + piece.length; span = left[done]) {
    keep(Math.max(span.start - at, from))
    from = Math.min(span.end - at, piece.length)
    if (from === piece.length) return { kept, done } // the span, or its line end, goes on in the next piece
    from += lineEndAt(piece, from)
    done += 1
  }
  keep(piece.length)
  return { kept, done }
}

/** The line end belongs to the record. */
function lineEndAt(bytes: Buffer, at: number): number {
  if (bytes[at] === NEWLINE) return 1
  return bytes[at] === RETURN && bytes[at + 1] === NEWLINE ? 2 : 0
}

async function sourceOf(file: string): Promise<ByteSource> {
  const handle = await open(file, 'r').catch((error: unknown) => {
    throw localIoError(error, `read ${file}`)
  })
  return {
    read: async (target, offset, length) => (await handle.read(target, offset, length)).bytesRead,
    close: () => handle.close(),
  }
}
