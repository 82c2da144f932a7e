/**
 * The checkpoint of a job in two slots. A save overwrites the slot that is not in use, so the newest checkpoint is never
 * touched; damage costs one generation, and never silently the whole history.
 */
import { rename } from 'node:fs/promises'
import { join } from 'node:path'
import { syncDirectory, writeDurably } from '../core/durable.ts'
import { AdflowError, localIoError } from '../core/errors.ts'
import { comparePositions } from '../core/positions.ts'
import {
  ASK_STORES,
  CHECKPOINT_FORMAT,
  type Checkpoint,
  type CheckpointState,
  NO_PREVIOUS,
  readSlot,
  type Slot,
  type SlotReading,
  sealSlot,
} from './checkpoint-slot.ts'

type Valid = Extract<SlotReading, { state: 'valid' }>

/** The other slot is in use instead: work done since its generation is repeated, and the stores refuse it. */
export interface CheckpointFallback {
  /** The slot that could not be used. */
  readonly slot: Slot
  readonly reason: string
  /** The generation in use. */
  readonly generation: string
  /** Generation that the unusable slot claims to be. */
  readonly claimed?: string
}

export interface OpenOptions {
  /** The clock of `saved_at`. */
  readonly now?: () => Date
  /** For recover: a fresh state counts on from this generation, so that generations never fall. */
  readonly after?: string
}

const RECOVER = 'run `adflow recover` to rebuild the positions from the stores; nothing was touched'

/** Reads both slots and decides which holds. Throws STATE_DAMAGED or STATE_NEWER, and then has changed nothing. */
export async function openCheckpoints(directory: string, job: string, options: OpenOptions = {}): Promise<Checkpoints> {
  const a = await readSlot('a', slotPath(directory, 'a'))
  const b = await readSlot('b', slotPath(directory, 'b'))
  for (const reading of [a, b]) {
    if (reading.state === 'newer') throw newer(directory, reading)
    if (reading.state === 'valid' && reading.checkpoint.job !== job)
      throw new AdflowError(
        'STATE_DAMAGED',
        `cannot use the checkpoint of job ${job}: ${slotPath(directory, reading.slot)} belongs to job ${reading.checkpoint.job}`,
        { hint: 'point --state-dir at the folder of this job; nothing was touched' },
      )
  }
  const now = options.now ?? (() => new Date())
  if (a.state === 'absent' && b.state === 'absent')
    return new Checkpoints(directory, now, { current: emptyCheckpoint(job, options.after ?? '0', now()) })
  const chosen = choose(directory, job, a, b)
  const { checkpoint, checksum, slot } = chosen.newest
  const saved = { slot, checksum }
  if (chosen.fallback === undefined) return new Checkpoints(directory, now, { current: checkpoint, saved })
  // Whoever saves next heals the slot: that plans may be lost must not be forgotten with it.
  const current = { ...checkpoint, extra: { ...checkpoint.extra, [ASK_STORES]: true } }
  return new Checkpoints(directory, now, { current, saved, fallback: chosen.fallback })
}

/** For recover: renames both slots to `<slot>.aside.<milliseconds>`, where people can still read them. */
export async function setAsideCheckpoints(directory: string, now = new Date()): Promise<readonly string[]> {
  const moved: string[] = []
  for (const slot of ['a', 'b'] as const) {
    const path = slotPath(directory, slot)
    const aside = `${path}.aside.${now.getTime()}`
    try {
      await rename(path, aside)
      moved.push(aside)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw localIoError(error, `set ${path} aside`)
    }
  }
  await syncDirectory(directory)
  return moved
}

interface Opened {
  readonly current: Checkpoint
  readonly saved?: { readonly slot: Slot; readonly checksum: string }
  readonly fallback?: CheckpointFallback
}

/** The durable state of one job. One save at a time: several callers share a GroupSaver. */
export class Checkpoints {
  /** Set where the newest slot could not be trusted; the caller must say so and book it in the ledger. */
  readonly fallback: CheckpointFallback | undefined
  readonly #directory: string
  readonly #now: () => Date
  /** As text until somebody asks: with thousands of lanes reading it after each save would cost more than saving. */
  #current: Checkpoint | string
  #latest: Pick<Checkpoint, 'epoch' | 'sequence' | 'job'>
  #saved: { readonly slot: Slot; readonly checksum: string } | undefined
  /** Never issued before, also not by a slot that became unreadable. */
  #nextGeneration: bigint
  #saving = false
  #failure: unknown

  constructor(directory: string, now: () => Date, opened: Opened) {
    this.#directory = directory
    this.#now = now
    this.#current = deepFreeze(opened.current)
    this.#latest = opened.current
    this.#saved = opened.saved
    this.fallback = opened.fallback
    this.#nextGeneration = nextGeneration(opened)
  }

  /** true: nothing has ever been saved here. */
  get fresh(): boolean {
    return this.#saved === undefined
  }

  /** The newest durable checkpoint: frozen, and a copy of what was saved. */
  get current(): Checkpoint {
    if (typeof this.#current === 'string') this.#current = deepFreeze(JSON.parse(this.#current) as Checkpoint)
    return this.#current
  }

  /** Resolved: durable. `next` is read before the call returns. After a failed write everything is refused, because
   *  what the disk holds is not known until it is read anew. */
  async save(next: CheckpointState): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure
    if (this.#saving) throw new AdflowError('UNEXPECTED', 'cannot save the checkpoint: another save is on its way')
    const successor = this.#successor(next)
    const text = JSON.stringify(successor)
    const sealed = sealSlot(text)
    const slot: Slot = this.#saved?.slot === 'a' ? 'b' : 'a'
    this.#saving = true
    try {
      await writeDurably(slotPath(this.#directory, slot), sealed.text)
    } catch (error) {
      this.#failure = error
      throw error
    } finally {
      this.#saving = false
    }
    this.#current = text
    this.#latest = { epoch: successor.epoch, sequence: successor.sequence, job: successor.job }
    this.#saved = { slot, checksum: sealed.checksum }
    this.#nextGeneration += 1n
  }

  #successor(next: CheckpointState): Checkpoint {
    const { epoch, sequence, job } = this.#latest
    for (const [name, before, after] of [
      ['epoch', epoch, next.epoch],
      ['sequence', sequence, next.sequence],
    ] as const)
      if (comparePositions(after, before) < 0)
        throw new AdflowError(
          'UNEXPECTED',
          `cannot save the checkpoint of ${job}: ${name} would fall from ${before} to ${after}`,
        )
    return {
      format: CHECKPOINT_FORMAT,
      job,
      generation: String(this.#nextGeneration),
      epoch: next.epoch,
      saved_at: this.#now().toISOString(),
      previous: this.#saved?.checksum ?? NO_PREVIOUS,
      sequence: next.sequence,
      sources: next.sources,
      planned: next.planned,
      ...(next.evolved === undefined ? {} : { evolved: next.evolved }),
      ...(next.extra === undefined ? {} : { extra: next.extra }),
    }
  }
}

/** Past what a slot that became unreadable may have held; what it claims is believed within reason, for it is damaged. */
function nextGeneration({ current, fallback }: Opened): bigint {
  const generation = BigInt(current.generation)
  if (fallback === undefined) return generation + 1n
  const claimed = BigInt(fallback.claimed ?? 0)
  return claimed > generation && claimed < generation + BELIEVABLE ? claimed + 1n : generation + 2n
}

const BELIEVABLE = 1_000_000n

function choose(directory: string, job: string, a: SlotReading, b: SlotReading) {
  if (a.state === 'valid' && b.state === 'valid') return chooseNewer(directory, job, a, b)
  const [newest, other] = a.state === 'valid' ? [a, b] : [b, a]
  if (newest.state !== 'valid') throw damaged(directory, job, `${describe(a)}; ${describe(b)}`)
  const { generation, previous } = newest.checkpoint
  // Only the first save of a chain leaves the other slot absent.
  if (other.state === 'absent' && previous === NO_PREVIOUS) return { newest }
  const claimed = other.state === 'damaged' && other.claimed !== undefined ? { claimed: other.claimed } : {}
  return { newest, fallback: { slot: other.slot, reason: reasonOf(other), generation, ...claimed } }
}

function chooseNewer(directory: string, job: string, a: Valid, b: Valid) {
  const order = comparePositions(a.checkpoint.generation, b.checkpoint.generation)
  const [newest, older] = order >= 0 ? [a, b] : [b, a]
  const { generation, previous } = newest.checkpoint
  if (order === 0 && a.checksum !== b.checksum)
    throw damaged(directory, job, `slots a and b both claim generation ${generation} and differ`)
  if (previous === older.checksum) return { newest }
  const reason = `it is not the checkpoint before generation ${generation}: one of the files was put back from elsewhere`
  return { newest, fallback: { slot: older.slot, reason, generation } }
}

function reasonOf(reading: SlotReading): string {
  if (reading.state === 'damaged') return reading.reason
  return reading.state === 'absent' ? 'it is missing' : `it is ${reading.state}`
}

function describe(reading: SlotReading): string {
  return `slot ${reading.slot}: ${reasonOf(reading)}`
}

function damaged(directory: string, job: string, found: string): AdflowError {
  return new AdflowError('STATE_DAMAGED', `cannot read the checkpoint of job ${job} in ${directory}: ${found}`, {
    hint: RECOVER,
  })
}

function newer(directory: string, reading: Extract<SlotReading, { state: 'newer' }>): AdflowError {
  return new AdflowError(
    'STATE_NEWER',
    `cannot read ${slotPath(directory, reading.slot)}: it has format ${reading.format}, this adflow knows ${CHECKPOINT_FORMAT}`,
    { hint: 'upgrade adflow; nothing was touched' },
  )
}

function emptyCheckpoint(job: string, generation: string, now: Date): Checkpoint {
  return {
    format: CHECKPOINT_FORMAT,
    job,
    generation,
    epoch: '0',
    saved_at: now.toISOString(),
    previous: NO_PREVIOUS,
    sequence: '1',
    sources: {},
    planned: [],
  }
}

function slotPath(directory: string, slot: Slot): string {
  return join(directory, `checkpoint.${slot}`)
}

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value)
    Object.values(value).forEach(deepFreeze)
  }
  return value
}
