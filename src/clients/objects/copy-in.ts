/** A file from elsewhere as a file of the chunk folder, for formats that the engine reads by their end. */
import { open } from 'node:fs/promises'
import { localIoError } from '../../core/errors.ts'
import { ownFile, type Readable } from './in-place.ts'
import type { OpenFile } from './place.ts'

const BUFFER_BYTES = 1 << 20

/** Throws SOURCE_…, or what this machine's disk has to say. */
export async function copyIn(source: OpenFile, target: string, signal: AbortSignal): Promise<Readable> {
  const copy = ownFile(target)
  const bytes = source.forward(0)
  const buffer = Buffer.allocUnsafeSlow(BUFFER_BYTES)
  const writing = (error: unknown) => {
    throw localIoError(error, `write ${target}`)
  }
  try {
    const file = await open(target, 'wx', 0o600).catch(writing)
    try {
      for (let at = 0; ; ) {
        signal.throwIfAborted()
        const count = await bytes.read(buffer, 0, buffer.length)
        if (count === 0) return copy
        for (let done = 0; done < count; )
          done += (await file.write(buffer, done, count - done, at + done).catch(writing)).bytesWritten
        at += count
      }
    } finally {
      await file.close()
    }
  } catch (error) {
    await copy.discard()
    throw error
  }
}
