/** Dead letters of a job: looked at without a lock, sent back or given up under it, and audited before anything changes. */
import { existsSync } from 'node:fs'
import { AdflowError } from '../core/errors.ts'
import type { Job } from '../core/job/job.ts'
import { type Ledger, openLedger } from '../lineage/ledger.ts'
import { holdJob } from '../runtime/hold.ts'
import { stateDirOf } from '../runtime/state-dir.ts'
import { ConsumerState, lettersFile } from './consumer-state.ts'
import { requireConsumers } from './distribute-job.ts'
import { type DeadLetter, type Letter, Letters } from './letters.ts'

export interface LetterFilter {
  readonly consumer?: string
  /** Ids of messages; none: all. */
  readonly ids: readonly string[]
  /** A part of the reason, whatever its case. */
  readonly matching?: string
}

/** In the order in which they died, consumer by consumer. */
export async function listLetters(job: Job, stateDir: string, filter: LetterFilter): Promise<readonly Letter[]> {
  requireConsumers(job, filter.consumer === undefined ? [] : [filter.consumer])
  const found: Letter[] = []
  for (const { id } of job.distribute) found.push(...chosen((await lettersOf(job, stateDir, id)).all, filter))
  return found
}

/** With its payload. @throws AdflowError USAGE where there is none of that id. */
export async function findLetter(job: Job, stateDir: string, id: string): Promise<DeadLetter & Pick<Letter, 'state'>> {
  requireConsumers(job, [])
  for (const consumer of job.distribute) {
    const letters = await lettersOf(job, stateDir, consumer.id)
    const head = letters.all.find((letter) => letter.id === id)
    const letter = head === undefined ? undefined : await letters.letter(id)
    if (head !== undefined && letter !== undefined) return { ...letter, state: head.state }
  }
  throw noSuch(id)
}

function lettersOf(job: Job, stateDir: string, consumer: string): Promise<Letters> {
  return Letters.read(lettersFile(stateDirOf(stateDir, job.name).consumerOf(consumer)))
}

export interface ChangeOptions extends LetterFilter {
  readonly job: Job
  readonly stateDir: string
  readonly command: string
  readonly who: string
  readonly what: 'replayed' | 'discarded'
  /** For the audit. */
  readonly reason?: string
}

export interface LettersChanged {
  readonly schema_version: 1
  readonly job: string
  readonly what: 'replayed' | 'discarded'
  /** Ids of the messages, by consumer. */
  readonly letters: Readonly<Record<string, readonly string[]>>
  readonly count: number
}

/** Ids of one event of the ledger. */
const IDS_AT_ONCE = 1000

/** All of them or none: an id that is not there is refused before anything changes. */
export async function changeLetters(options: ChangeOptions): Promise<LettersChanged> {
  const { job, stateDir, what } = options
  requireConsumers(job, options.consumer === undefined ? [] : [options.consumer])
  const letters: Record<string, readonly string[]> = {}
  const state = stateDirOf(stateDir, job.name)
  if (existsSync(state.path)) {
    const held = await holdJob(options)
    const consumers = new Map<string, ConsumerState>()
    try {
      for (const { id } of job.distribute) consumers.set(id, await ConsumerState.open(state.consumerOf(id)))
      for (const [id, consumer] of consumers) {
        const dead = chosen(consumer.letters.all, options).filter((letter) => letter.state === 'dead')
        if (dead.length > 0) letters[id] = dead.map((letter) => letter.id)
      }
      refuseMissing(options.ids, Object.values(letters).flat())
      const ledger = await openLedger(state.ledger, { run: held.run })
      try {
        for (const [id, ids] of Object.entries(letters)) await change(options, ledger, id, consumers.get(id), ids)
      } finally {
        await ledger.close()
      }
    } finally {
      for (const consumer of consumers.values()) await consumer.close()
      await held.close()
    }
  }
  refuseMissing(options.ids, Object.values(letters).flat())
  const count = Object.values(letters).reduce((sum, ids) => sum + ids.length, 0)
  return { schema_version: 1, job: job.name, what, letters, count }
}

/** The ledger says it first: nothing changes that nobody has signed for. */
async function change(
  { what, who, reason }: ChangeOptions,
  ledger: Ledger,
  id: string,
  consumer: ConsumerState | undefined,
  ids: readonly string[],
): Promise<void> {
  for (let from = 0; from < ids.length; from += IDS_AT_ONCE) {
    const part = ids.slice(from, from + IDS_AT_ONCE)
    const more = reason === undefined ? {} : { reason }
    await ledger.append([{ type: 'dead_letters_changed', who, consumer: id, what, ids: part, ...more }])
    await consumer?.letters.mark(what === 'replayed' ? 'queued' : 'discarded', part)
  }
}

function refuseMissing(ids: readonly string[], found: readonly string[]): void {
  const missing = ids.find((id) => !found.includes(id))
  if (missing !== undefined) throw noSuch(missing)
}

function chosen(letters: readonly Letter[], { consumer, ids, matching }: LetterFilter): readonly Letter[] {
  const part = matching?.toLowerCase()
  return letters.filter(
    (letter) =>
      (consumer === undefined || letter.consumer === consumer) &&
      (ids.length === 0 || ids.includes(letter.id)) &&
      (part === undefined || letter.reason.toLowerCase().includes(part)),
  )
}

function noSuch(id: string): AdflowError {
  return new AdflowError('USAGE', `there is no dead letter with the id ${id}`, {
    hint: 'list them with `adflow dlq list`; one that was sent back already is `queued`',
  })
}
