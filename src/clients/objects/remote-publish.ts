/**
 * Publishes the files of one batch in a remote place. One document per batch is its state, and only ever replaced where it still is
 * what was read: nothing → pending (the files that are on their way) → published (the manifest). A kill leaves one of the three;
 * two attempts at once cannot both go from pending to published. The names of files follow from the token, so the next attempt takes
 * over or replaces what a killed one has left, and `left` names what it will not replace.
 */
import { createHash, randomBytes } from 'node:crypto'
import pLimit from 'p-limit'
import type { BatchInfo } from '../../core/contracts.ts'
import { AdflowError } from '../../core/errors.ts'
import { ownsLane, type Shard } from '../../core/shard.ts'
import type { FileDigest } from './follow-file.ts'
import { type Manifest, META_FOLDER, manifestName, type PublishedFile } from './publish-manifest.ts'
import type { RemoteDocument, RemotePlace } from './remote-place.ts'
import { allSettled, describeStaged, type StagedFile } from './staged-file.ts'

const FILES_AT_ONCE = 4
const READS_AT_ONCE = 16
/** Of one attempt: each is lost only to another attempt that got further. */
const ROUNDS = 4

/** Manifests of different outputs in one place are kept apart by `prefix` and `format`. */
export interface RemoteOutput {
  readonly place: RemotePlace
  readonly prefix: string
  readonly format: string
}

/** `attempt` tells two writers of the same batch apart. */
interface Published extends Manifest {
  readonly attempt: string
}

interface Pending extends BatchInfo {
  readonly version: 1
  readonly loader: string
  readonly attempt: string
  readonly pending: readonly PublishedFile[]
  /** Keys that attempts before this one may have put, and this one will not. */
  readonly left: readonly string[]
}

type State = Published | Pending

export interface Found {
  readonly state: State
  readonly version: string
}

export interface Publication {
  readonly manifest: Manifest
  /** true: another attempt has published the batch. */
  readonly repeated: boolean
}

/** What a batch is, without its files. */
export type PublishedBatch = Omit<Manifest, 'version' | 'files'>

export async function readPublished(output: RemoteOutput, token: string): Promise<Manifest | undefined> {
  return publishedIn(await readState(output, token))
}

export function publishedIn(found: Found | undefined): Manifest | undefined {
  return found === undefined || 'pending' in found.state ? undefined : found.state
}

/** By token. Batches that are on their way are none yet. */
export async function listPublished(output: RemoteOutput): Promise<readonly Manifest[]> {
  const limit = pLimit(READS_AT_ONCE)
  const tokens = await tokensOf(output)
  const read = await allSettled(tokens.map((token) => limit(() => readPublished(output, token))))
  return read.filter((manifest) => manifest !== undefined)
}

async function tokensOf({ place, prefix, format }: RemoteOutput, digits = ''): Promise<readonly string[]> {
  const ending = `.${format}.json`
  const names = await place.list(META_FOLDER, `${prefix}${digits}`)
  return names
    .filter((name) => name.endsWith(ending))
    .map((name) => name.slice(prefix.length, -ending.length))
    .filter((token) => /^[0-9a-f]{64}$/.test(token))
    .sort()
}

/** `digits`: the first of the token. true: the batch is published, or this loader of this part of the job has begun to. */
export async function isUnderWay(
  output: RemoteOutput,
  digits: string,
  { job, loader, shard }: { readonly job: string; readonly loader: string; readonly shard: Shard | undefined },
): Promise<boolean> {
  for (const token of await tokensOf(output, digits)) {
    const state = (await readState(output, token))?.state
    if (state === undefined) continue
    const own = state.job === job && state.loader === loader && ownsLane(shard, state.range.lane)
    return own || !('pending' in state)
  }
  return false
}

/** `seen`: what stood there a moment ago. It need not be true: nothing is written where something else is there by now.
 *  @throws AdflowError STORE_UNAVAILABLE where other attempts are always faster */
export async function publishRemotely(
  output: RemoteOutput,
  batch: PublishedBatch,
  { staged, seen }: { readonly staged: readonly StagedFile[]; readonly seen: Found | undefined },
  signal: AbortSignal,
): Promise<Publication> {
  const limit = pLimit(FILES_AT_ONCE)
  const files = await allSettled(staged.map((file) => limit(() => describeStaged(file))))
  const attempt = randomBytes(6).toString('hex')
  for (let round = 0; round < ROUNDS; round += 1) {
    signal.throwIfAborted()
    const found = round === 0 ? seen : await readState(output, batch.token)
    if (
      found !== undefined &&
      !('pending' in found.state) &&
      !(await hasOverwritten(output.place, files, found.state))
    ) {
      if (round > 0) await removeOthers(output.place, files, found.state.files)
      return { manifest: found.state, repeated: found.state.attempt !== attempt }
    }
    const claim = await claimed(output, batch, { files, attempt, found })
    if (claim === undefined) continue
    const { version } = claim
    const held = () => (version === undefined ? Promise.resolve() : stillHeld(output, batch.token, version))
    const put = ({ temporary }: StagedFile, { path, bytes, sha256 }: PublishedFile) =>
      output.place.put(path, { file: temporary, bytes, sha256 }, { fresh: claim.fresh, held, signal })
    try {
      for (const key of claim.left) {
        await held()
        await output.place.remove(key)
      }
      await allSettled(staged.map((file, index) => limit(() => put(file, files[index] as PublishedFile))))
    } catch (error) {
      if (error instanceof TakenOver) continue
      throw error
    }
    const manifest: Published = { version: 1, ...batch, files, attempt }
    if ((await writeState(output, manifest, claim.version)) !== undefined) return { manifest, repeated: false }
  }
  throw new TakenOver(output, batch.token)
}

interface Claim {
  /** undefined: nothing is on its way under it, and no document was needed. */
  readonly version: string | undefined
  readonly left: readonly string[]
  /** No attempt has been here before. */
  readonly fresh: boolean
}

/** Of attempts with the same files each goes on under the document of the first: they cannot harm each other. */
async function claimed(
  output: RemoteOutput,
  { rows: _, ...batch }: PublishedBatch,
  own: { readonly files: readonly PublishedFile[]; readonly attempt: string; readonly found: Found | undefined },
): Promise<Claim | undefined> {
  const { attempt, files, found } = own
  if (found === undefined && files.length === 0) return { version: undefined, left: [], fresh: true }
  const { pending, left: others } = underWay(found?.state)
  if (found !== undefined && sameFiles(pending, files)) return { version: found.version, left: others, fresh: false }
  const names = new Set(files.map(({ path }) => path))
  const known = [...pending.map(({ path }) => path), ...others]
  const left = [...new Set(known)].filter((key) => !names.has(key))
  const version = await writeState(output, { version: 1, ...batch, attempt, pending: files, left }, found?.version)
  return version === undefined ? undefined : { version, left, fresh: found === undefined }
}

/** Of what is published by now every file is on its way again. */
function underWay(state: State | undefined): Pick<Pending, 'pending' | 'left'> {
  if (state === undefined) return { pending: [], left: [] }
  return 'pending' in state ? state : { pending: state.files, left: [] }
}

async function stillHeld(output: RemoteOutput, token: string, version: string): Promise<void> {
  if ((await readState(output, token))?.version !== version) throw new TakenOver(output, token)
}

class TakenOver extends AdflowError {
  constructor({ place }: RemoteOutput, token: string) {
    super('STORE_UNAVAILABLE', `another process is writing batch ${token.slice(0, 12)} to ${place.nameOf('')}`, {
      hint: 'let one process at a time run a job; what the other one writes is found by the next attempt',
    })
  }
}

/** The batch counts as unpublished from here on; the next publication replaces or removes its files. */
export async function retractRemotely(output: RemoteOutput, token: string): Promise<void> {
  const found = await readState(output, token)
  if (found === undefined || 'pending' in found.state) return
  const { attempt, files, rows: _, ...batch } = found.state
  const left = files.map(({ path }) => path)
  const pending: Pending = { ...batch, attempt: randomBytes(6).toString('hex'), pending: [], left }
  if ((await writeState(output, pending, found.version)) === undefined) throw new TakenOver(output, token)
}

/**
 * true: bytes of this attempt stand where other bytes were published. So it comes out where this attempt stood still before it replaced
 * what it had looked at, and another one found the same there, took it over and published it: its ETag is the one that was looked for.
 * Whoever did it publishes the batch anew.
 */
async function hasOverwritten(
  place: RemotePlace,
  own: readonly PublishedFile[],
  { files }: Manifest,
): Promise<boolean> {
  const published = new Map(files.map(({ path, sha256 }) => [path, sha256]))
  for (const { path, sha256 } of own) {
    const other = published.get(path)
    if (other === undefined || other === sha256) continue
    if ((await digestOf(place, path))?.sha256 === sha256) return true
  }
  return false
}

/** undefined: nothing is there. */
export async function digestOf(place: RemotePlace, key: string): Promise<FileDigest | undefined> {
  const stream = await place.bytes(key)
  if (stream === undefined) return undefined
  const sha256 = createHash('sha256')
  let bytes = 0
  for await (const piece of stream) {
    sha256.update(piece)
    bytes += piece.byteLength
  }
  return { bytes, sha256: sha256.digest('hex') }
}

/** After another attempt with other files was faster: what only this one has put belongs to nobody. */
async function removeOthers(
  place: RemotePlace,
  own: readonly PublishedFile[],
  published: readonly PublishedFile[],
): Promise<void> {
  const kept = new Set(published.map(({ path }) => path))
  for (const { path } of own) if (!kept.has(path)) await place.remove(path)
}

export function manifestKey({ prefix, format }: Pick<RemoteOutput, 'prefix' | 'format'>, token: string): string {
  return `${META_FOLDER}/${manifestName({ prefix, format }, token)}`
}

async function writeState(output: RemoteOutput, state: State, was: string | undefined): Promise<string | undefined> {
  return output.place.write(manifestKey(output, state.token), `${JSON.stringify(state)}\n`, was)
}

export async function readState(output: RemoteOutput, token: string): Promise<Found | undefined> {
  const key = manifestKey(output, token)
  const document = await output.place.read(key)
  return document === undefined
    ? undefined
    : { state: parsed(document, output.place.nameOf(key)), version: document.version }
}

function parsed({ text }: RemoteDocument, name: string): State {
  try {
    const state = JSON.parse(text) as Partial<Published & Pending>
    if (state.version === 1 && Array.isArray(state.files ?? state.pending)) return state as State
  } catch {
    // What is no JSON is as wrong as what is another document.
  }
  throw new AdflowError('STORE_DAMAGED', `${name} is no manifest: it was changed after adflow wrote it`, {
    hint: 'restore it from a backup; without it nobody knows which files belong to the batch',
  })
}

function sameFiles(one: readonly PublishedFile[], other: readonly PublishedFile[]): boolean {
  const text = (files: readonly PublishedFile[]) =>
    JSON.stringify(files.map(({ path, bytes, sha256 }) => [path, bytes, sha256]).sort())
  return text(one) === text(other)
}
