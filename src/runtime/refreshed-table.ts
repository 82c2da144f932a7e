/**
 * One table of reference data that is read again while the run goes on. Each version is a table of its own in the engine, and
 * each session sees one of them under the name that the SQL of the job uses: a batch never sees a part of each.
 */
import { existsSync } from 'node:fs'
import { copyFile, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import pLimit from 'p-limit'
import { publish } from '../core/durable.ts'
import { AdflowError, localIoError } from '../core/errors.ts'
import { durationText } from '../core/job/units.ts'
import type { ReferenceRefresh } from '../core/step-contract.ts'
import type { Session } from '../engine/session.ts'
import { ident } from '../engine/sql-text.ts'
import { copyName, endingOf, LARGEST_COPY_BYTES } from './pins.ts'
import { type Reference, referenceSelect } from './reference-source.ts'

export interface RefreshedParts {
  readonly reference: Reference & { readonly refresh: ReferenceRefresh }
  /** Of its own, for versions that come and go. */
  readonly session: Session
  /** Where versions are kept by their names; the engine may read it. */
  readonly copies: string
  /** On the same file system, emptied between runs; the engine may read it. */
  readonly folder: string
  readonly baseDir: string
}

let files = 0

export class RefreshedTable {
  readonly reference: RefreshedParts['reference']
  readonly #parts: RefreshedParts
  /** Names of versions are those of their copies. */
  #current = ''
  /** When what is known now was asked for; of performance.now(). */
  #readAt = 0
  #stamp: string | undefined
  readonly #loaded = new Map<string, Promise<void>>()
  /** Version → batches under way that see it. */
  readonly #users = new Map<string, number>()
  readonly #seen = new WeakMap<Session, string>()
  readonly #oneAtATime = pLimit(1)

  private constructor(parts: RefreshedParts) {
    this.#parts = parts
    this.reference = parts.reference
  }

  /** `file`: what it holds when the run begins. */
  static async open(parts: RefreshedParts, file: string): Promise<RefreshedTable> {
    const table = new RefreshedTable(parts)
    const { source, place } = parts.reference
    table.#readAt = performance.now()
    table.#current = await copyName(file)
    // Of a file that was changed since it was copied the next look finds another stamp than this one, or the same content.
    table.#stamp = source.kind === 'file' ? undefined : ''
    await checkSize(file, place)
    await table.#load(table.#current, file)
    return table
  }

  get ageMs(): number {
    return performance.now() - this.#readAt
  }

  get tooOld(): boolean {
    const { maxAgeMs } = this.reference.refresh
    return maxAgeMs !== undefined && this.ageMs > maxAgeMs
  }

  /** The version that a batch sees: the one it was planned with, where it was planned before. Until `release`. */
  hold(planned: string | undefined): string {
    const version = planned ?? this.#current
    this.#users.set(version, (this.#users.get(version) ?? 0) + 1)
    return version
  }

  release(version: string): void {
    const left = (this.#users.get(version) ?? 0) - 1
    if (left > 0) this.#users.set(version, left)
    else this.#users.delete(version)
  }

  /** @throws AdflowError STATE_MISSING where the version is not kept any more */
  async show(session: Session, version = this.#current): Promise<void> {
    if (this.#seen.get(session) === version) return
    await (this.#loaded.get(version) ?? this.#load(version, await this.#kept(version)))
    await session.run(`CREATE OR REPLACE TEMP VIEW ${this.reference.table} AS SELECT * FROM ${this.#tableOf(version)}`)
    this.#seen.set(session, version)
  }

  /** true: from now on batches are planned with another version. @throws AdflowError: the version before stays */
  async refresh(signal: AbortSignal): Promise<boolean> {
    const { source, place } = this.reference
    const { folder, baseDir, copies } = this.#parts
    const begun = performance.now()
    const stamp = source.kind === 'file' ? await stampOf(place) : ''
    if (source.kind === 'file' && stamp === this.#stamp) {
      this.#readAt = begun
      return false
    }
    const fetched = join(folder, `refreshed-${process.pid}-${files++}${endingOf(place)}`)
    try {
      if (source.kind === 'query') await source.fetch(fetched, baseDir, signal)
      else await copyWhole(place, fetched, stamp)
      await checkSize(fetched, place)
      const version = await copyName(fetched)
      const changed = version !== this.#current
      if (changed) {
        if (!this.#loaded.has(version)) await this.#load(version, fetched)
        // Before a plan can name it.
        await publish(fetched, join(copies, version))
      }
      this.#current = version
      this.#readAt = begun
      this.#stamp = stamp
      await this.#forget()
      return changed
    } finally {
      await rm(fetched, { force: true })
    }
  }

  /** Tables that no batch sees any more, and no other will. */
  async #forget(): Promise<void> {
    for (const version of this.#loaded.keys()) {
      if (version === this.#current || this.#users.has(version)) continue
      this.#loaded.delete(version)
      await this.#oneAtATime(() => this.#parts.session.run(`DROP TABLE IF EXISTS ${this.#tableOf(version)}`))
    }
  }

  #load(version: string, file: string): Promise<void> {
    const table = this.#tableOf(version)
    const loading = this.#oneAtATime(async () => {
      const { session } = this.#parts
      try {
        await session.run(`CREATE OR REPLACE TABLE ${table} AS ${referenceSelect(this.reference, file)}`)
        await checkKeys(session, this.reference, table)
      } catch (error) {
        this.#loaded.delete(version)
        await session.run(`DROP TABLE IF EXISTS ${table}`)
        throw error
      }
    })
    this.#loaded.set(version, loading)
    loading.catch(() => undefined) // whoever waits for it is told
    return loading
  }

  async #kept(version: string): Promise<string> {
    const file = join(this.#parts.copies, version)
    if (existsSync(file) && (await copyName(file)) === version) return file
    throw new AdflowError(
      'STATE_MISSING',
      `a batch was planned with a version of the reference data ${this.reference.name} that is not there any more: ${file}`,
      { hint: 'restore the folder `pins` of the state directory from a backup' },
    )
  }

  #tableOf(version: string): string {
    return ident(`${this.reference.key}@${version.slice(0, 16)}`)
  }
}

/** A repeated key would double the rows that match it. @throws AdflowError JOB_INVALID */
export async function checkKeys(session: Session, { keys, name, path }: Reference, table: string): Promise<void> {
  for (const key of keys) {
    const columns = key.map(ident).join(', ')
    const present = key.map((column) => `${ident(column)} IS NOT NULL`).join(' AND ')
    const [twice] = await session.rows(
      `SELECT count(*) AS n FROM (SELECT 1 FROM ${table} WHERE ${present} GROUP BY ${columns} HAVING count(*) > 1)`,
    )
    const count = Number(twice?.['n'] ?? 0)
    if (count > 0)
      throw new AdflowError(
        'JOB_INVALID',
        `the reference data \`${name}\` has ${count} repeated ${count === 1 ? 'key' : 'keys'} (${key.join(', ')})`,
        { hint: 'each key must stand once, or matching rows would be doubled', details: { path } },
      )
  }
}

async function stampOf(file: string): Promise<string> {
  try {
    const { ino, size, mtimeNs, ctimeNs } = await stat(file, { bigint: true })
    return [ino, size, mtimeNs, ctimeNs].join(' ')
  } catch (error) {
    throw localIoError(error, `read the reference data ${file}`)
  }
}

async function copyWhole(file: string, to: string, stamp: string): Promise<void> {
  try {
    await copyFile(file, to)
  } catch (error) {
    throw localIoError(error, `copy the reference data ${file}`)
  }
  if ((await stampOf(file)) !== stamp)
    throw new AdflowError('SOURCE_CHANGED', `${file} was changed while it was read`, {
      hint: 'write reference data under another name, and rename them',
    })
}

async function checkSize(file: string, place: string): Promise<void> {
  const { size } = await stat(file)
  if (size > LARGEST_COPY_BYTES)
    throw new AdflowError(
      'SOURCE_UNSUPPORTED',
      `the reference data ${place} have ${size} bytes; what is refreshed may have ${LARGEST_COPY_BYTES}`,
      { hint: `each version is kept with the job: select fewer columns or rows, or leave out \`refresh\`` },
    )
}

/** For messages. */
export function ageText(ms: number): string {
  return durationText(Math.max(1, Math.round(ms / 1000)) * 1000)
}
