/** Makes a local folder what the server has: a file that differs is written anew beside itself, from what is the same and what is fetched. */
import { type FileHandle, mkdir, open, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { PoolClient } from 'pg'
import { publish, temporaryPath } from '../../../core/durable.ts'
import { localIoError } from '../../../core/errors.ts'
import { digestOf, type Extent, Extents } from './extents.ts'
import type { StateServer } from './server.ts'
import { allFiles, sharedPath } from './shared-files.ts'

export type SharedFiles = ReadonlyMap<string, readonly Extent[]>

/** As of one instant. Only for who has the folder to itself. Returns what the server has; nothing is made where that is nothing. */
export function copyIn(server: StateServer, name: string, root: string, signal?: AbortSignal): Promise<SharedFiles> {
  return server.transaction(
    `fetch the state of ${name}`,
    async (client) => {
      await client.query('SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY')
      const extents = new Extents(server, name)
      const files = await extents.list(client)
      for (const path of await allFiles(root)) {
        const shared = sharedPath(root, path)
        if (shared !== undefined && !files.has(shared)) await rm(path, { force: true })
      }
      for (const [path, wanted] of files) await fetchFile(client, extents, join(root, path), path, wanted)
      return files
    },
    signal,
  )
}

async function fetchFile(
  client: PoolClient,
  extents: Extents,
  file: string,
  path: string,
  wanted: readonly Extent[],
): Promise<void> {
  const local = await openIfThere(file)
  try {
    const { differing, size } = await compare(local, wanted)
    if (differing.length === 0 && size === endOf(wanted)) return
    await mkdir(dirname(file), { recursive: true, mode: 0o700 })
    const temporary = temporaryPath(file)
    const handle = await open(temporary, 'wx', 0o600)
    try {
      const fetched = extents.fetch(client, path, differing)
      const missing = new Set(differing)
      for (const extent of wanted) {
        const bytes = missing.has(extent) ? (await fetched.next()).value : await read(local, extent)
        if (bytes instanceof Uint8Array) await handle.write(bytes, 0, bytes.length, extent.at)
      }
    } finally {
      await handle.close()
    }
    await publish(temporary, file)
  } catch (error) {
    throw localIoError(error, `write ${file}`)
  } finally {
    await local?.close()
  }
}

async function compare(local: FileHandle | undefined, wanted: readonly Extent[]) {
  const differing: Extent[] = []
  for (const extent of wanted) {
    const bytes = await read(local, extent)
    if (bytes === undefined || digestOf(bytes) !== extent.digest) differing.push(extent)
  }
  return { differing, size: local === undefined ? -1 : (await local.stat()).size }
}

async function read(local: FileHandle | undefined, { at, bytes }: Extent): Promise<Uint8Array | undefined> {
  if (local === undefined) return undefined
  const buffer = Buffer.alloc(bytes)
  const { bytesRead } = await local.read(buffer, 0, bytes, at)
  return buffer.subarray(0, bytesRead)
}

async function openIfThere(file: string): Promise<FileHandle | undefined> {
  try {
    return await open(file, 'r')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw localIoError(error, `read ${file}`)
  }
}

function endOf(extents: readonly Extent[]): number {
  const last = extents.at(-1)
  return last === undefined ? 0 : last.at + last.bytes
}
