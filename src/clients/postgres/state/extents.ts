/** Files as a table holds them: pieces by their place, so that a change of a part writes a part. */
import { hash } from 'node:crypto'
import type { PoolClient } from 'pg'
import type { StateServer } from './server.ts'

/** Of a file that is written as a whole; one that is appended to has smaller ones at its end. */
export const EXTENT_BYTES = 256 * 1024
/** Of extents that are fetched together. */
const FETCH_BYTES = 4 * 1024 * 1024

export interface Extent {
  /** Offset in the file. */
  readonly at: number
  readonly bytes: number
  readonly digest: string
}

export function digestOf(bytes: Uint8Array): string {
  return hash('sha256', bytes)
}

/** Of one name: the state of one job. */
export class Extents {
  readonly #table: string
  readonly #name: string

  constructor(server: StateServer, name: string) {
    this.#table = server.table('extents')
    this.#name = name
  }

  async put(client: PoolClient, epoch: number, path: string, at: number, bytes: Uint8Array): Promise<string> {
    const digest = digestOf(bytes)
    await client.query({
      name: 'adflow-extent',
      text: `INSERT INTO ${this.#table} (name, path, at, epoch, digest, bytes) VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (name, path, at) DO UPDATE SET epoch = excluded.epoch, digest = excluded.digest, bytes = excluded.bytes`,
      values: [this.#name, path, at, epoch, digest, bytes],
    })
    return digest
  }

  /** What the file has at and behind `from`. */
  async drop(client: PoolClient, path: string, from = 0): Promise<void> {
    await client.query({
      name: 'adflow-drop',
      text: `DELETE FROM ${this.#table} WHERE name = $1 AND path = $2 AND at >= $3`,
      values: [this.#name, path, from],
    })
  }

  /** Every file with its extents, in order. */
  async list(client: PoolClient): Promise<Map<string, Extent[]>> {
    const { rows } = await client.query<{ path: string; at: string; bytes: number; digest: string }>(
      `SELECT path, at, octet_length(bytes) AS bytes, digest FROM ${this.#table} WHERE name = $1 ORDER BY path, at`,
      [this.#name],
    )
    const files = new Map<string, Extent[]>()
    for (const { path, at, bytes, digest } of rows) {
      const extents = files.get(path) ?? []
      extents.push({ at: Number(at), bytes, digest })
      files.set(path, extents)
    }
    return files
  }

  /** The bytes of these extents of a file, a few MiB at a time. */
  async *fetch(client: PoolClient, path: string, extents: readonly Extent[]): AsyncGenerator<Uint8Array> {
    for (const group of grouped(extents)) {
      const { rows } = await client.query<{ bytes: Buffer }>(
        `SELECT bytes FROM ${this.#table} WHERE name = $1 AND path = $2 AND at = ANY($3) ORDER BY at`,
        [this.#name, path, group.map(({ at }) => at)],
      )
      for (const { bytes } of rows) yield bytes
    }
  }
}

function grouped(extents: readonly Extent[]): Extent[][] {
  const groups: Extent[][] = []
  let room = 0
  for (const extent of extents) {
    if (room < extent.bytes || groups.length === 0) {
      groups.push([])
      room = FETCH_BYTES
    }
    groups.at(-1)?.push(extent)
    room -= extent.bytes
  }
  return groups
}

/** Under which names, beginning so, there is a file of which the path begins so. */
export async function namesWith(server: StateServer, name: string, path: string): Promise<readonly string[]> {
  const { rows } = await server.with(`ask what there is of ${name}`, (client) =>
    client.query<{ name: string }>(
      `SELECT DISTINCT name FROM ${server.table('extents')} WHERE starts_with(name, $1) AND starts_with(path, $2)`,
      [name, path],
    ),
  )
  return rows.map((row) => row.name)
}

/** The last of the files whose paths begin so, in the order of their names. */
export async function fileEnd(
  server: StateServer,
  name: string,
  prefix: string,
): Promise<{ readonly path: string; readonly bytes: number } | undefined> {
  const { rows } = await server.with(`ask where ${name}/${prefix} ends`, (client) =>
    client.query<{ path: string; bytes: string }>(
      `SELECT path, at + octet_length(bytes) AS bytes FROM ${server.table('extents')} WHERE name = $1 AND starts_with(path, $2) ORDER BY path DESC, at DESC LIMIT 1`,
      [name, prefix],
    ),
  )
  return rows[0] === undefined ? undefined : { path: rows[0].path, bytes: Number(rows[0].bytes) }
}
