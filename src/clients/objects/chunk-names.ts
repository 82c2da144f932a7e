/** Names of chunk files: generated, never taken from the source, so that no source name can lead out of the folder. */
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'

const run = randomBytes(4).toString('hex')
let count = 0

export function chunkPath(folder: string, extension: string): string {
  count += 1
  return join(folder, `${run}-${count}.${extension}`)
}
