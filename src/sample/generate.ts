/** Makes a sample: plans it, writes the files and the truth aside, then publishes all of it together. */
import { AdflowError } from '../core/errors.ts'
import { campaignsCsv } from './campaigns.ts'
import { CAMPAIGNS_FILE, checkFiles, checkVacant, openPartial, publish, readTruth, removePartial } from './folder.ts'
import { planSample, type SampleOptions, usage } from './options.ts'
import { type FileTruth, type Truth, truthOf } from './truth.ts'
import { writeParts } from './write.ts'

export interface SampleContext {
  /** Ends the work; the folder stays as it was. */
  readonly signal?: AbortSignal
  /** Records written so far, of all that are to be written. Called after each file. */
  readonly onProgress?: (rows: number, of: number) => void
}

/** Resolves with the truth of the whole folder once everything is in place. The same options give the same bytes. */
export async function generateSample(options: SampleOptions, context: SampleContext = {}): Promise<Truth> {
  const { dir } = options
  const { signal = new AbortController().signal, onProgress } = context
  const before = options.append === true ? await truthToAppendTo(dir) : undefined
  const plan = planSample(options, before)
  if (before === undefined) await checkVacant(dir, options.force === true)
  const partial = await openPartial(dir)
  let done = 0
  const onRows = (rows: number): void => {
    done += rows
    onProgress?.(done, plan.batch.rows)
  }
  try {
    const { files, rows } = await writeParts(plan, partial, { signal, onRows })
    const shape = { ...plan, files: merge(before?.files ?? [], files), reference: CAMPAIGNS_FILE }
    const truth = truthOf(before, plan.batch, shape, rows)
    signal.throwIfAborted()
    await publish(dir, partial, plan.parts, truth, before === undefined ? campaignsCsv(plan.batch) : undefined)
    return truth
  } catch (error) {
    if (!signal.aborted) throw error
    throw new AdflowError('INTERRUPTED', `interrupted while making the sample in ${dir}: nothing was changed there`, {
      cause: error,
      hint: 'run it again',
    })
  } finally {
    await removePartial(dir)
  }
}

async function truthToAppendTo(dir: string): Promise<Truth> {
  const truth = await readTruth(dir)
  if (truth === undefined)
    throw usage(`cannot append: there is no sample in ${dir} (no truth.json)`, 'leave --append out')
  await checkFiles(dir, truth)
  return truth
}

/** Files of the folder after an append: the last one has grown, others are new. */
function merge(before: readonly FileTruth[], made: readonly FileTruth[]): FileTruth[] {
  const added = new Map(made.map((file) => [file.name, file]))
  const grown = before.map((file) => {
    const more = added.get(file.name)
    added.delete(file.name)
    return more === undefined ? file : { ...more, rows: file.rows + more.rows }
  })
  return [...grown, ...added.values()]
}
