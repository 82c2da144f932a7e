/**
 * What is on disk of one consumer: which batches it has had, the messages that it is at, its dead letters, and whether it is
 * switched off. Only for the holder of the job's lock.
 */
import { mkdir, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { removeDurably, sweepTemporaries, writeDurably } from '../core/durable.ts'
import { localIoError } from '../core/errors.ts'
import { TokenLog } from '../core/token-log.ts'
import { Letters } from './letters.ts'
import { MessageFiles } from './message-file.ts'

/** It said that it wants nothing any more. */
export interface SwitchedOff {
  /** ISO 8601 UTC. */
  readonly at: string
  readonly reason: string
}

const LETTERS = 'letters.ndjson'
const OFF = 'off.json'

export class ConsumerState {
  /** Tokens of batches that it has had whole. */
  readonly passed: TokenLog
  readonly messages: MessageFiles
  readonly letters: Letters
  readonly folder: string
  #off: SwitchedOff | undefined

  private constructor(folder: string, passed: TokenLog, letters: Letters, off: SwitchedOff | undefined) {
    this.folder = folder
    this.passed = passed
    this.messages = new MessageFiles(messagesFolder(folder))
    this.letters = letters
    this.#off = off
  }

  static async open(folder: string): Promise<ConsumerState> {
    await mkdir(messagesFolder(folder), { recursive: true, mode: 0o700 }).catch((error) => {
      throw localIoError(error, `make the folder ${folder}`)
    })
    await sweepTemporaries(messagesFolder(folder))
    const passed = await TokenLog.open(join(folder, 'passed'))
    const letters = await Letters.open(lettersFile(folder))
    const state = new ConsumerState(folder, passed, letters, await readOff(folder))
    await state.#sweep()
    return state
  }

  get off(): SwitchedOff | undefined {
    return this.#off
  }

  async switchOff(reason: string): Promise<void> {
    // At once: several requests that are under way may be told the same.
    this.#off = { at: new Date().toISOString(), reason }
    await writeDurably(join(this.folder, OFF), JSON.stringify(this.#off))
  }

  async switchOn(): Promise<void> {
    await removeDurably(join(this.folder, OFF))
    this.#off = undefined
  }

  async close(): Promise<void> {
    await this.passed.close()
    await this.letters.close()
  }

  /** A kill between the note that a batch is through and the removal of its messages leaves these behind. */
  async #sweep(): Promise<void> {
    const names = await readdir(messagesFolder(this.folder)).catch((error) => {
      throw localIoError(error, `list ${messagesFolder(this.folder)}`)
    })
    const tokens = new Set(names.map((name) => /^([0-9a-f]{64})\./.exec(name)?.[1] ?? ''))
    for (const token of tokens) if (this.passed.has(token)) await this.messages.remove(token)
  }
}

export function lettersFile(folder: string): string {
  return join(folder, LETTERS)
}

function messagesFolder(folder: string): string {
  return join(folder, 'messages')
}

/** undefined where it is not switched off. */
async function readOff(folder: string): Promise<SwitchedOff | undefined> {
  const file = join(folder, OFF)
  try {
    return JSON.parse(await readFile(file, 'utf8')) as SwitchedOff
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw localIoError(error, `read ${file}`)
  }
}
