/** A large file as one object, uploaded in parts. The object is there when the last request is; before that nobody sees anything. */
import { createHash } from 'node:crypto'
import { type FileHandle, open } from 'node:fs/promises'
import type { CompletedPart, MultipartUpload, PutObjectCommandInput, S3Client } from '@aws-sdk/client-s3'
import type { LimitFunction } from 'p-limit'
import { localIoError } from '../../core/errors.ts'
import type { LocalObject } from '../objects/remote-place.ts'
import { allSettled } from '../objects/staged-file.ts'

const MOST_PARTS = 10_000

/** Uploads that this process has begun and knows no end of; those it is at. */
const begun = new Set<string>()
const active = new Set<string>()

/** true: nobody is at it any more, since it is of a process before this one, or was given up by this one. */
export function isGivenUp({ UploadId = '', Initiated }: Pick<MultipartUpload, 'Initiated' | 'UploadId'>): boolean {
  if (begun.has(UploadId)) return !active.has(UploadId)
  return Initiated !== undefined && Initiated.getTime() < performance.timeOrigin
}

interface UploadRequest {
  readonly s3: typeof import('@aws-sdk/client-s3')
  readonly client: S3Client
  readonly request: Omit<PutObjectCommandInput, 'Body'>
  /** Under which the object is made. */
  readonly condition: Pick<PutObjectCommandInput, 'IfMatch' | 'IfNoneMatch'>
  readonly signal: AbortSignal
}

interface PartedFile extends LocalObject {
  readonly partBytes: number
  /** Pieces that are in memory at the same time. */
  readonly limit: LimitFunction
}

/** Rejected: the object is as it was, or, where the last answer was lost, there. */
export async function uploadInParts(
  { s3, client, request, condition, signal }: UploadRequest,
  { file, bytes, partBytes, limit }: PartedFile,
): Promise<void> {
  const { Bucket, Key } = request
  const begin = new s3.CreateMultipartUploadCommand({ ...request, ChecksumAlgorithm: 'SHA256' })
  const { UploadId = '' } = await client.send(begin, { abortSignal: signal })
  begun.add(UploadId)
  active.add(UploadId)
  const upload = { Bucket, Key, UploadId }
  const size = Math.max(partBytes, Math.ceil(bytes / MOST_PARTS))
  const put = async (handle: FileHandle, number: number): Promise<CompletedPart> => {
    signal.throwIfAborted()
    const piece = await pieceOf(handle, file, (number - 1) * size, Math.min(size, bytes - (number - 1) * size))
    const ChecksumSHA256 = createHash('sha256').update(piece).digest('base64')
    const part = { ...upload, PartNumber: number, Body: piece, ChecksumSHA256 }
    const { ETag } = await client.send(new s3.UploadPartCommand(part), { abortSignal: signal })
    return { PartNumber: number, ETag, ChecksumSHA256 }
  }
  try {
    const handle = await open(file, 'r')
    try {
      const numbers = Array.from({ length: Math.ceil(bytes / size) }, (_, index) => index + 1)
      const Parts = await allSettled(numbers.map((number) => limit(() => put(handle, number))))
      const end = { ...upload, MultipartUpload: { Parts }, MpuObjectSize: bytes, ...condition }
      await client.send(new s3.CompleteMultipartUploadCommand(end), { abortSignal: signal })
      begun.delete(UploadId)
    } finally {
      await handle.close()
    }
  } catch (error) {
    // The first error tells more; parts that stay are taken away by the next attempt, or at the next open.
    await client.send(new s3.AbortMultipartUploadCommand(upload)).then(
      () => begun.delete(UploadId),
      () => undefined,
    )
    throw error
  } finally {
    active.delete(UploadId)
  }
}

async function pieceOf(handle: FileHandle, file: string, from: number, length: number): Promise<Buffer> {
  try {
    const piece = Buffer.allocUnsafe(length)
    const { bytesRead } = await handle.read(piece, 0, length, from)
    if (bytesRead !== length) throw new Error(`${bytesRead} of ${length} bytes at ${from}`)
    return piece
  } catch (error) {
    throw localIoError(error, `read back ${file}`)
  }
}
