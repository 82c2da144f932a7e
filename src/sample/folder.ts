/** The folder of a sample: what is there, and publishing what was made, so that nobody sees half a file. */
import { createReadStream, createWriteStream } from 'node:fs'
import { mkdir, readdir, readFile, rename, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { AdflowError, localIoError } from '../core/errors.ts'
import { type Part, usage } from './options.ts'
import { isTruth, type Truth } from './truth.ts'

export const TRUTH_FILE = 'truth.json'
export const CAMPAIGNS_FILE = 'campaigns.csv'
/** Files are made in here and moved out when all are complete. */
const PARTIAL = '.sample.partial'

/** Truth of the sample in `dir`; undefined where there is none. */
export async function readTruth(dir: string): Promise<Truth | undefined> {
  const file = join(dir, TRUTH_FILE)
  let text: string
  try {
    text = await readFile(file, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw localIoError(error, `read ${file}`)
  }
  const found = parse(text)
  if (isTruth(found)) return found
  throw new AdflowError('LOCAL_IO', `cannot read ${file}: it was not written by \`adflow sample\` of this version`, {
    hint: 'choose another --out folder, or move that file away',
  })
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    if (error instanceof SyntaxError) return undefined
    throw error
  }
}

/** Refuses to append where the files are no longer those that truth.json speaks of. */
export async function checkFiles(dir: string, truth: Truth): Promise<void> {
  for (const { name, bytes } of truth.files) {
    const found = await sizeOf(join(dir, name))
    if (found !== bytes)
      throw new AdflowError(
        'SOURCE_CHANGED',
        `cannot append to the sample in ${dir}: ${name} should have ${bytes} bytes, found ${found ?? 'no such file'}`,
        { hint: 'make the sample anew with --force' },
      )
  }
}

/** Refuses a folder with event files, unless they are to be replaced. */
export async function checkVacant(dir: string, force: boolean): Promise<void> {
  const [event] = (await eventFiles(dir)).concat(
    (await sizeOf(join(dir, TRUTH_FILE))) === undefined ? [] : [TRUTH_FILE],
  )
  if (event !== undefined && !force)
    throw usage(
      `${dir} holds a sample already (${event})`,
      'add to it with --append, replace it with --force, or choose another --out',
    )
}

/** An empty folder for files in the making, inside `dir` so that a rename moves them. */
export async function openPartial(dir: string): Promise<string> {
  const partial = join(dir, PARTIAL)
  try {
    await rm(partial, { recursive: true, force: true })
    await mkdir(partial, { recursive: true })
  } catch (error) {
    throw localIoError(error, `make the folder ${partial}`)
  }
  return partial
}

export async function removePartial(dir: string): Promise<void> {
  await rm(join(dir, PARTIAL), { recursive: true, force: true })
}

/**
 * Moves the parts to their places. truth.json goes first where files are replaced and comes last in any case: a folder
 * with a truth.json holds what it says. A failed append is cut off again.
 */
export async function publish(
  dir: string,
  partial: string,
  parts: readonly Part[],
  truth: Truth,
  campaigns: string | undefined,
): Promise<void> {
  try {
    if (campaigns !== undefined) {
      await rm(join(dir, TRUTH_FILE), { force: true })
      for (const name of await eventFiles(dir)) await rm(join(dir, name))
      await writeFile(join(partial, CAMPAIGNS_FILE), campaigns)
      await rename(join(partial, CAMPAIGNS_FILE), join(dir, CAMPAIGNS_FILE))
    }
    for (const { name, after } of parts)
      if (after === undefined) await rename(join(partial, name), join(dir, name))
      else await appendTo(join(dir, name), join(partial, name), after)
    await writeFile(join(partial, TRUTH_FILE), `${JSON.stringify(truth, null, 2)}\n`)
    await rename(join(partial, TRUTH_FILE), join(dir, TRUTH_FILE))
  } catch (error) {
    throw localIoError(error, `publish the sample in ${dir}`)
  }
}

async function appendTo(target: string, source: string, after: number): Promise<void> {
  try {
    await pipeline(createReadStream(source), createWriteStream(target, { flags: 'a' }))
  } catch (error) {
    await truncate(target, after)
    throw error
  }
}

export async function sizeOf(file: string): Promise<number | undefined> {
  try {
    return (await stat(file)).size
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw localIoError(error, `look at ${file}`)
  }
}

async function eventFiles(dir: string): Promise<string[]> {
  try {
    const names = await readdir(dir)
    return names.filter((name) => /^events-\d{4}\.(?:ndjson|csv|parquet)(?:\.gz)?$/.test(name)).sort()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw localIoError(error, `list ${dir}`)
  }
}
