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
    const { size } = await source.stat()
    let at = 0
    for (const span of [...left, { start: size, end: size }]) {
      await copyRange(source, copy, at, span.start)
      at = await pastLineEnd(source, span.end)
    }
  } catch (error) {
    throw localIoError(error, `copy ${file} to ${target}`)
  } finally {
    await source?.close()
    await copy?.close()
  }
}

const piece = () => Buffer.allocUnsafe(PIECE_BYTES)

async function copyRange(source: FileHandle, copy: FileHandle, from: number, to: number): Promise<void> {
  const buffer = piece()
  for (let at = from; at < to; ) {
    const { bytesRead } = await source.read(buffer, 0, Math.min(buffer.length, to - at), at)
    if (bytesRead === 0) return
    for (let written = 0; written < bytesRead; )
      written += (await copy.write(buffer, written, bytesRead - written)).bytesWritten
    at += bytesRead
  }
}

/** The line end belongs to the record. */
async function pastLineEnd(source: FileHandle, at: number): Promise<number> {
  const two = Buffer.alloc(2)
  const { bytesRead } = await source.read(two, 0, 2, at)
  if (bytesRead > 0 && two[0] === NEWLINE) return at + 1
  return bytesRead > 1 && two[0] === RETURN && two[1] === NEWLINE ? at + 2 : at
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
