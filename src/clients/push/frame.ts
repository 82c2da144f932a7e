/**
 * One request in the journal of the gateway: a head of fixed size, then its records as NDJSON. The sum in the head covers both, so
 * that a frame is whole or does not count.
 */
import type { FileHandle } from 'node:fs/promises'
import { crc32 } from 'node:zlib'
import { PIECE_BYTES } from '../../records/window.ts'

export const HEAD_BYTES = 72
const MAGIC = 0x31465041 // "APF1"
/** 16 bytes that stand for no key. */
const NO_KEY = Buffer.alloc(16)

export interface FrameHead {
  readonly payloadBytes: number
  readonly records: number
  /** When it was accepted, in milliseconds since the epoch. */
  readonly atMs: number
  /** 16 bytes: id of the receipt. */
  readonly receipt: Buffer
  /** 16 bytes of the hash of the idempotency key and of whoever gave it; undefined: none was given. */
  readonly key: Buffer | undefined
  /** 16 bytes of the hash of the body. */
  readonly digest: Buffer
}

export interface Frame extends FrameHead {
  /** Valid until the next frames are asked for. */
  readonly payload: Buffer
  /** Offset in the file after it. */
  readonly end: number
}

/** Head and payload in one piece. */
export function frameOf(head: Omit<FrameHead, 'payloadBytes'>, payload: Buffer): Buffer {
  const frame = Buffer.allocUnsafe(HEAD_BYTES + payload.length)
  frame.writeUInt32LE(MAGIC, 0)
  frame.writeUInt32LE(payload.length, 4)
  frame.writeUInt32LE(head.records, 8)
  frame.writeDoubleLE(head.atMs, 12)
  head.receipt.copy(frame, 20)
  ;(head.key ?? NO_KEY).copy(frame, 36)
  head.digest.copy(frame, 52)
  payload.copy(frame, HEAD_BYTES)
  frame.writeUInt32LE(sumOf(frame, payload), 68)
  return frame
}

/** undefined: these bytes are no head. */
export function parseHead(bytes: Buffer, at: number): FrameHead | undefined {
  if (bytes.length - at < HEAD_BYTES || bytes.readUInt32LE(at) !== MAGIC) return undefined
  const part = (from: number) => Buffer.from(bytes.subarray(at + from, at + from + 16))
  const key = part(36)
  return {
    payloadBytes: bytes.readUInt32LE(at + 4),
    records: bytes.readUInt32LE(at + 8),
    atMs: bytes.readDoubleLE(at + 12),
    receipt: part(20),
    key: key.equals(NO_KEY) ? undefined : key,
    digest: part(52),
  }
}

function sumOf(frame: Buffer, payload: Buffer): number {
  return crc32(payload, crc32(frame.subarray(0, 68)))
}

/** Reads frames in pieces of about a megabyte, or of one frame. */
export class FrameReader {
  /** Offset after the last whole frame. */
  end: number
  readonly #handle: FileHandle
  readonly #to: number
  #rest: Buffer = Buffer.alloc(0)

  constructor(handle: FileHandle, from: number, to: number) {
    this.#handle = handle
    this.end = from
    this.#to = to
  }

  /** The next ones, at least one. undefined: there is no whole frame before `to` any more. */
  async next(): Promise<readonly Frame[] | undefined> {
    for (let wanted = PIECE_BYTES; ; ) {
      const at = this.end + this.#rest.length
      const piece = Buffer.allocUnsafe(Math.max(0, Math.min(wanted, this.#to - at)))
      const { bytesRead } = await this.#handle.read(piece, 0, piece.length, at)
      const bytes = Buffer.concat([this.#rest, piece.subarray(0, bytesRead)])
      const frames = this.#parse(bytes)
      if (frames.length > 0) return frames
      if (bytesRead === 0) return undefined
      const head = parseHead(bytes, 0)
      if (head === undefined && bytes.length >= HEAD_BYTES) return undefined
      const whole = HEAD_BYTES + (head?.payloadBytes ?? 0)
      // A size that reaches beyond the end of the file is none to make room for.
      if (this.end + whole > this.#to || bytes.length >= whole) return undefined
      wanted = Math.max(PIECE_BYTES, whole - bytes.length)
    }
  }

  #parse(bytes: Buffer): Frame[] {
    const frames: Frame[] = []
    let at = 0
    for (;;) {
      const head = parseHead(bytes, at)
      const stop = at + HEAD_BYTES + (head?.payloadBytes ?? 0)
      if (head === undefined || stop > bytes.length) break
      const payload = bytes.subarray(at + HEAD_BYTES, stop)
      if (crc32(payload, crc32(bytes.subarray(at, at + 68))) !== bytes.readUInt32LE(at + 68)) break
      this.end += stop - at
      frames.push({ ...head, payload, end: this.end })
      at = stop
    }
    this.#rest = bytes.subarray(at)
    return frames
  }
}
