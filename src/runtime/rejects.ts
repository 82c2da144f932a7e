/** A file for the records that a stage refuses: the lines that the quarantine of a run would hold. */
import { type FileHandle, open } from 'node:fs/promises'
import { localIoError } from '../core/errors.ts'
import type { BatchPlace } from './quarantine.ts'
import { type QuarantineRecord, quarantineLines } from './quarantine.ts'

export class RejectsFile {
  readonly #path: string
  readonly #handle: FileHandle

  private constructor(path: string, handle: FileHandle) {
    this.#path = path
    this.#handle = handle
  }

  /** Empties what is there. For this user alone: it holds records as they came. */
  static async open(path: string): Promise<RejectsFile> {
    try {
      return new RejectsFile(path, await open(path, 'w', 0o600))
    } catch (error) {
      throw localIoError(error, `open the file for rejected records ${path}`)
    }
  }

  async add(place: BatchPlace, records: readonly QuarantineRecord[]): Promise<void> {
    try {
      await this.#handle.writeFile(quarantineLines(place, records))
    } catch (error) {
      throw localIoError(error, `write rejected records to ${this.#path}`)
    }
  }

  async close(): Promise<void> {
    await this.#handle.close()
  }
}
