/**
 * What stands in the journal of a lane. The gateway writes `<number>.journal`, and `<number>.keys` when nothing more comes into
 * it; the job writes `loaded.json`. Neither writes what is the other's, so nothing has to be locked between the two.
 */
import { type FileHandle, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { writeDurably } from '../../core/durable.ts'
import { AdflowError, localIoError } from '../../core/errors.ts'

/** A place in the journal: file and offset in it. */
export interface Place {
  readonly file: number
  readonly at: number
}

/** Bytes before the first frame: a magic, and where the file before ended. */
export const FIRST_AT = 24
const MAGIC = 'ADFPUSH1'
const DIGITS = 12
const FILE = /^(\d{12})\.(journal|keys)$/

export interface JournalFiles {
  /** Ascending. */
  readonly journals: readonly number[]
  /** Ascending; a file that is there with its keys is whole, and nothing more comes into it. */
  readonly keys: readonly number[]
}

export function journalPath(folder: string, file: number): string {
  return join(folder, `${String(file).padStart(DIGITS, '0')}.journal`)
}

export function keysPath(folder: string, file: number): string {
  return join(folder, `${String(file).padStart(DIGITS, '0')}.keys`)
}

/** Nothing where the folder is not there. */
export async function listJournal(folder: string): Promise<JournalFiles> {
  const names = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return []
    throw localIoError(error, `list ${folder}`)
  })
  const found = names.flatMap((name) => {
    const [, digits, kind] = FILE.exec(name) ?? []
    return digits === undefined ? [] : [{ file: Number(digits), kind }]
  })
  const of = (kind: string) =>
    found
      .filter((each) => each.kind === kind)
      .map(({ file }) => file)
      .sort((a, b) => a - b)
  return { journals: of('journal'), keys: of('keys') }
}

/** What a journal file begins with. */
export function firstBytes(before: Place): Buffer {
  const bytes = Buffer.alloc(FIRST_AT)
  bytes.write(MAGIC, 0, 'latin1')
  bytes.writeDoubleLE(before.file, 8)
  bytes.writeDoubleLE(before.at, 16)
  return bytes
}

/** Where the file before it ended: proof that none is missing between the two. undefined: this is no journal. */
export async function placeBefore(handle: FileHandle): Promise<Place | undefined> {
  const bytes = Buffer.alloc(FIRST_AT)
  const { bytesRead } = await handle.read(bytes, 0, FIRST_AT, 0)
  if (bytesRead < FIRST_AT || bytes.toString('latin1', 0, 8) !== MAGIC) return undefined
  return { file: bytes.readDoubleLE(8), at: bytes.readDoubleLE(16) }
}

export function placeText({ file, at }: Place): string {
  return `${file}:${at}`
}

/** undefined: it is none. */
export function parsePlace(text: string): Place | undefined {
  const [, file, at] = /^(\d{1,12}):(\d{1,15})$/.exec(text) ?? []
  return file === undefined ? undefined : { file: Number(file), at: Number(at) }
}

const loadedShape = z.object({
  v: z.literal(1),
  job: z.string(),
  source: z.string(),
  file: z.int().nonnegative(),
  at: z.int().nonnegative(),
})

/** Up to where the checkpoint of a job has it. */
export type Loaded = Readonly<z.infer<typeof loadedShape>>

const loadedPath = (folder: string) => join(folder, 'loaded.json')

/** undefined: nothing yet. @throws AdflowError STATE_DAMAGED, LOCAL_IO */
export async function readLoaded(folder: string): Promise<Loaded | undefined> {
  let text: string
  try {
    text = await readFile(loadedPath(folder), 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw localIoError(error, `read ${loadedPath(folder)}`)
  }
  const parsed = loadedShape.safeParse(jsonOf(text))
  if (parsed.success) return parsed.data
  throw new AdflowError('STATE_DAMAGED', `${loadedPath(folder)} is not what a job writes there`, {
    hint: 'remove it: the next run writes it anew, and until then nothing is removed from the journal',
  })
}

export function writeLoaded(folder: string, loaded: Omit<Loaded, 'v'>): Promise<void> {
  return writeDurably(loadedPath(folder), `${JSON.stringify({ v: 1, ...loaded })}\n`)
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
