/** Object container files of Avro: a head with the schema, then blocks of records, each with a marker behind it. */
import { crc32, inflateRawSync, zstdDecompressSync } from 'node:zlib'
import { AdflowError } from '../../core/errors.ts'
import { AvroCursor, EndsEarly, NotAvro } from './binary.ts'
import { AvroDecoder } from './decoder.ts'
import { parseSchema, SchemaError } from './schema.ts'

const MAGIC = Buffer.from('Obj\x01', 'latin1')
export const SYNC_BYTES = 16
/** Count and size of a block. */
export const BLOCK_HEAD_BYTES = 20
/** Beyond it a block is taken for damage: writers make some kilobytes, or megabytes. */
const MOST_BLOCK_BYTES = 256 << 20
const MOST_PLAIN_BYTES = 512 << 20
/** What may come out however little went in. */
const FLOOR_BYTES = 64 << 20
const CRC_BYTES = 4

export interface ContainerHead {
  readonly bytes: number
  readonly decoder: AvroDecoder
  readonly sync: Buffer
  unpack(block: Buffer, limits: UnpackLimits): Buffer
}

export interface UnpackLimits {
  readonly maxRatio: number
  /** For messages. */
  readonly place: string
}

/** undefined: `bytes` do not hold all of it. @throws AdflowError SOURCE_DAMAGED, SOURCE_UNSUPPORTED */
export async function containerHead(bytes: Buffer, origin: string): Promise<ContainerHead | undefined> {
  if (!bytes.subarray(0, MAGIC.length).equals(MAGIC.subarray(0, bytes.length)))
    throw damaged(`${origin} does not begin like a container file of Avro`, 'check `format`, or replace the file')
  const cursor = new AvroCursor(bytes, Math.min(MAGIC.length, bytes.length), bytes.length)
  try {
    const meta = metaOf(cursor)
    const at = cursor.take(SYNC_BYTES)
    const schema = parseSchema(meta.get('avro.schema')?.toString() ?? '')
    return {
      bytes: cursor.at,
      decoder: new AvroDecoder(schema),
      sync: Buffer.from(bytes.subarray(at, at + SYNC_BYTES)),
      unpack: await unpacker(meta.get('avro.codec')?.toString() ?? 'null', origin),
    }
  } catch (error) {
    if (error instanceof EndsEarly) return undefined
    if (error instanceof NotAvro) throw damaged(`the head of ${origin} ${error.message}`)
    if (error instanceof SchemaError) throw damaged(`the schema in ${origin} ${error.message}`)
    throw error
  }
}

/** undefined: it is not whole. `bytes`: of head, records and marker. @throws AdflowError SOURCE_DAMAGED */
export function blockHead(
  from: Buffer,
  start: number,
  end: number,
  place: string,
): { readonly count: number; readonly size: number; readonly headBytes: number } | undefined {
  const cursor = new AvroCursor(from, start, end)
  try {
    const [count, size] = [cursor.size(), cursor.size()]
    if (count < 0 || size < 0 || size > MOST_BLOCK_BYTES) throw new NotAvro(`says that it has ${size} bytes`)
    return { count, size, headBytes: cursor.at - start }
  } catch (error) {
    if (error instanceof EndsEarly) return undefined
    if (error instanceof NotAvro) throw damaged(`${place} ${error.message}`)
    throw error
  }
}

export function damaged(found: string, hint = 'replace the file by a whole copy'): AdflowError {
  return new AdflowError('SOURCE_DAMAGED', found, { hint })
}

function metaOf(cursor: AvroCursor): Map<string, Buffer> {
  const meta = new Map<string, Buffer>()
  for (let left = cursor.size(); left !== 0; left = cursor.size()) {
    if (left < 0) {
      left = -left
      cursor.size()
    }
    for (; left > 0; left -= 1) {
      const [name, value] = [piece(cursor), piece(cursor)]
      meta.set(name.toString(), value)
    }
  }
  return meta
}

function piece(cursor: AvroCursor): Buffer {
  const length = cursor.size()
  const at = cursor.take(length)
  return cursor.bytes.subarray(at, at + length)
}

async function unpacker(codec: string, origin: string): Promise<ContainerHead['unpack']> {
  switch (codec) {
    case 'null':
      return (block) => block
    case 'deflate':
      return (block, limits) => within(block, limits, (maxOutputLength) => inflateRawSync(block, { maxOutputLength }))
    case 'zstandard':
      return (block, limits) =>
        within(block, limits, (maxOutputLength) => zstdDecompressSync(block, { maxOutputLength }))
    case 'snappy': {
      // Of the only package at hand that has it.
      const { compressionsAlgorithms } = await import('@platformatic/kafka')
      const { snappy } = compressionsAlgorithms
      return (block, limits) => {
        const bytes = block.subarray(0, -CRC_BYTES)
        const plain = within(bytes, limits, (most) => {
          if (snappyBytes(bytes) > most) throw Object.assign(new Error('too large'), { code: TOO_LARGE })
          return snappy.decompressSync(bytes)
        })
        if (block.length < CRC_BYTES || crc32(plain) !== block.readUInt32BE(block.length - CRC_BYTES))
          throw damaged(`${limits.place} has another sum than it says`)
        return plain
      }
    }
    default:
      throw new AdflowError('SOURCE_UNSUPPORTED', `${origin} is compressed by ${codec}`, {
        hint: 'adflow reads null, deflate, snappy and zstandard: have it written by one of them',
      })
  }
}

const TOO_LARGE = 'ERR_BUFFER_TOO_LARGE'

function within(block: Buffer, { maxRatio, place }: UnpackLimits, unpack: (most: number) => Buffer): Buffer {
  const most = Math.min(MOST_PLAIN_BYTES, Math.max(FLOOR_BYTES, Math.floor(block.length * maxRatio)))
  try {
    return unpack(most)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === TOO_LARGE)
      throw new AdflowError('SOURCE_BOMB', `${place} expands beyond ${most} bytes`, {
        cause: error,
        hint: 'raise `max_ratio` where such blocks are meant',
      })
    throw damaged(`${place} cannot be decompressed: ${(error as Error).message}`)
  }
}

/** As it says itself. */
function snappyBytes(bytes: Buffer): number {
  let [value, scale] = [0, 1]
  for (const byte of bytes.subarray(0, 5)) {
    value += (byte & 127) * scale
    if (byte < 128) break
    scale *= 128
  }
  return value
}
