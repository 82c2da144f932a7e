/** DuckDB files as stores: where they are, under which name they are attached, and what an ATTACH that fails means. */
import { hash } from 'node:crypto'
import { mkdirSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { AdflowError, localIoError } from '../../core/errors.ts'
import { realPathOf } from '../../core/real-path.ts'

/** Real path of the file. Its folder is made before it is attached. */
export function warehouseFile(path: string, baseDir: string): string {
  return realPathOf(resolve(baseDir, path))
}

export function makeFolderOf(file: string): void {
  try {
    mkdirSync(dirname(file), { recursive: true })
  } catch (error) {
    throw localIoError(error, `make the folder of the warehouse ${file}`)
  }
}

/** Two loaders on one file share one attachment, since the engine opens a file only once: so the name is the file's. */
export function aliasOf(file: string): string {
  return `wh_${hash('sha256', file).slice(0, 12)}`
}

/** What the engine's refusal to attach `file` means for a person. */
export function explainAttachError(error: unknown, file: string): AdflowError {
  const first = (error instanceof Error ? error.message : String(error)).split('\n', 1)[0] ?? ''
  const text = first.replace(/^the embedded engine: /, '').replace(/^IO Error: /, '')
  const holder = /Conflicting lock is held in (.+?) \(PID (\d+)\)/.exec(text)
  if (holder !== null || /Could not set lock on file/i.test(text))
    return new AdflowError(
      'STORE_LOCKED',
      `cannot open the warehouse ${file}: ${holder === null ? 'another process' : `process ${holder[2]} (${holder[1]})`} has it open`,
      {
        cause: error,
        hint: 'DuckDB lets one process write at a time: wait for it, or stop it, and run again',
        ...(holder === null ? {} : { details: { pid: Number(holder[2]) } }),
      },
    )
  if (/not a valid DuckDB database file|Corrupt|checksum|Serialization Error/i.test(text))
    return new AdflowError('STORE_DAMAGED', `cannot open the warehouse ${file}: ${text}`, {
      cause: error,
      hint: 'check that `path` names a DuckDB file; restore it from a backup if it was one. Nothing was changed',
    })
  return new AdflowError('STORE_UNAVAILABLE', `cannot open the warehouse ${file}: ${text}`, {
    cause: error,
    hint: 'check the path, its owner and its permissions',
  })
}
