/** What a file of NDJSON holds: its records, and the sum of its bytes. */
import { closeSync, openSync, readSync } from 'node:fs'
import { AdflowError } from '../core/errors.ts'
import { ChunkFile } from './chunk-file.ts'
import { compiledMemory } from './compiled.ts'
import { type Cut, cutRecords } from './cut.ts'
import { lines } from './lines.ts'
import { PlainIntegers } from './plain-integers.ts'
import { type ByteSource, Window } from './window.ts'

/** Read, summed and searched before the next ones come, all of them stay in the cache of one core. */
const READ_BYTES = 256 << 10

export interface CountRequest {
  /** Where it can be read. */
  readonly file: string
  /** Its own name, for errors. */
  readonly origin: string
  readonly bytes: number
  readonly maxRecordBytes: number
  /** Keys whose values are taken for integers in plain digits. */
  readonly integers: readonly string[]
}

export interface Counted {
  readonly records: number
  readonly lines: number
  readonly digest: string
}

/**
 * undefined: it has a record that must not reach the engine. 'not plain': what was taken for an integer is none, and the rest was not looked at. Blocks its
 * thread: what is read waits in nobody's queue and changes no core.
 * @throws AdflowError SOURCE_UNREADABLE, SOURCE_CHANGED where it is shorter
 */
export async function countFile(request: CountRequest): Promise<Counted | 'not plain' | undefined> {
  const { file, origin, bytes, maxRecordBytes } = request
  const integers = new PlainIntegers(request.integers)
  const source = open(file, origin, () => integers.plain)
  try {
    const sum = new ChunkFile()
    const cut = await cutRecords(
      new Window(source, 0, undefined, compiledMemory(0, 1).buffers[0]),
      lines,
      { target: bytes, exact: true, settled: true, linesBefore: 0, maxRecordBytes, origin, integers },
      sum,
    )
    if (!integers.plain) return 'not plain'
    return isWhole(cut, bytes) ? { records: cut.records, lines: cut.lines, digest: sum.digest } : undefined
  } catch (error) {
    if (!integers.plain) return 'not plain'
    throw error
  } finally {
    await source.close()
  }
}

function isWhole(cut: Cut | undefined, bytes: number): cut is Cut {
  return cut?.to === bytes && cut.refused.length === 0 && cut.excluded.length === 0
}

/** It ends where `going` says so. */
function open(file: string, origin: string, going: () => boolean): ByteSource {
  const reading = <T>(work: () => T): T => {
    try {
      return work()
    } catch (error) {
      const found = error instanceof Error ? error.message : String(error)
      throw new AdflowError('SOURCE_UNREADABLE', `cannot read ${origin}: ${found}`, {
        cause: error,
        hint: 'check that the file exists and that adflow may read it',
      })
    }
  }
  const handle = reading(() => openSync(file, 'r'))
  return {
    read: async (target, offset, length) =>
      going() ? reading(() => readSync(handle, target, offset, Math.min(length, READ_BYTES), null)) : 0,
    close: async () => closeSync(handle),
  }
}
