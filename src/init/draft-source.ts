/** Drafts from a source that stands elsewhere, by its address: what is open is filled in, a sample is read, a contract is drafted from it. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Logger } from 'pino'
import { AdflowError } from '../core/errors.ts'
import type { Registry } from '../core/registry.ts'
import { Engine } from '../engine/session.ts'
import { wholeOptions } from './choose-offer.ts'
import { type Draft, draftFrom } from './draft.ts'
import { sampleSource } from './sample-source.ts'
import type { SourceAddress } from './source-address.ts'

export interface DraftSourceOptions {
  readonly registry: Registry
  /** Folder of the job file that is drafted. */
  readonly baseDir: string
  readonly log: Logger
  readonly timeoutMs: number
}

export interface SourceDraft {
  readonly draft: Draft
  /** Of the extractor, as they were given and filled in. */
  readonly options: Readonly<Record<string, unknown>>
}

/** @throws AdflowError USAGE where the address says too little, SOURCE_… where it cannot be read */
export async function draftSource(
  source: SourceAddress,
  { registry, baseDir, log, timeoutMs }: DraftSourceOptions,
): Promise<SourceDraft> {
  const definition = await registry.get('extractor', source.type)
  const signal = AbortSignal.timeout(timeoutMs)
  const folder = await mkdtemp(join(tmpdir(), 'adflow-draft-'))
  try {
    const options = await wholeOptions(definition, source, { id: 'sample', job: 'sample', baseDir, log, signal })
    const parsed = definition.options.parse(options)
    const { file, whole } = await sampleSource(definition, { options: parsed, baseDir, folder, log, signal })
    const draft = await draftedFrom(file, folder, true)
    return { draft: { ...draft, whole: draft.whole && whole }, options: { type: source.type, ...options } }
  } catch (error) {
    if (error instanceof AdflowError || !signal.aborted) throw error
    throw new AdflowError(
      'SOURCE_UNREADABLE',
      `the source ${source.type} gave no record within ${timeoutMs / 1000} s`,
      {
        cause: error,
        hint: 'check its address, and that it can be reached from here',
      },
    )
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** @throws AdflowError USAGE where nothing in the file has a field */
export async function draftedFrom(file: string, tempFolder: string, textNumbers = false): Promise<Draft> {
  const engine = await Engine.open({ memoryBytes: 1e9, threads: 2, tempFolder, locked: false })
  try {
    const session = await engine.connect()
    const draft = await draftFrom(file, session, { textNumbers })
    session.close()
    if (draft.columns.length > 0) return draft
    throw new AdflowError('USAGE', `cannot draft a job from ${file}: no record has a field`, {
      hint: 'give --from a file with records',
    })
  } finally {
    engine.close()
  }
}
