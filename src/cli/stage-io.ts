/** Standard input, files, standard output and the file for rejected records, as the stages of a pipe want them. */
import { createReadStream } from 'node:fs'
import { access, constants } from 'node:fs/promises'
import { addAbortSignal } from 'node:stream'
import { AdflowError, EXIT } from '../core/errors.ts'
import { RejectsFile } from '../runtime/rejects.ts'
import { PipeClosed, RowOutput } from '../runtime/row-output.ts'
import type { StageSummary } from '../runtime/stage-summary.ts'
import type { StageInput } from '../runtime/stages.ts'
import { catchSignals } from './signals.ts'
import { stageText } from './stage-text.ts'

/** Files, in order; `-`, or none, is standard input. */
export async function stageInputs(files: readonly string[], signal: AbortSignal): Promise<StageInput[]> {
  const names = files.length === 0 ? ['-'] : files
  for (const file of names.filter((name) => name !== '-')) await readable(file)
  if (names.includes('-') && process.stdin.isTTY === true)
    process.stderr.write('reading rows from the terminal: end them with Ctrl-D, or name a file\n')
  return names.map((file) =>
    file === '-'
      ? { name: 'stdin', open: () => addAbortSignal(signal, process.stdin) }
      : { name: file, open: () => addAbortSignal(signal, createReadStream(file)) },
  )
}

async function readable(file: string): Promise<void> {
  await access(file, constants.R_OK).catch((error: NodeJS.ErrnoException) => {
    throw new AdflowError('SOURCE_UNREADABLE', `cannot read ${file}: ${error.message}`, { cause: error })
  })
}

export interface StageFlags {
  readonly rejects?: string | undefined
  readonly strict?: boolean
  readonly quiet: boolean
  readonly json?: boolean | undefined
}

export interface StageStreams {
  readonly rows: RowOutput
  readonly signal: AbortSignal
  readonly rejects?: RejectsFile
}

/** Runs a stage; its counts go to stderr, its exit code to the process. undefined: the reader of the rows went away. */
export async function runStage(
  flags: StageFlags,
  work: (streams: StageStreams) => Promise<StageSummary>,
): Promise<StageSummary | undefined> {
  const rejects = flags.rejects === undefined ? undefined : await RejectsFile.open(flags.rejects)
  const signals = catchSignals()
  try {
    const rows = new RowOutput(process.stdout, 'standard output')
    const summary = await work({ rows, signal: signals.drain, ...(rejects === undefined ? {} : { rejects }) })
    if (summary.exit === EXIT.done && flags.strict === true && hasWarnings(summary)) summary.exit = EXIT.warnings
    if (summary.exit === EXIT.done && signals.exit !== undefined) summary.exit = signals.exit
    process.exitCode = summary.exit
    return summary
  } catch (error) {
    if (!(error instanceof PipeClosed)) throw error
    process.exitCode = EXIT.pipeClosed
    return undefined
  } finally {
    signals.release()
    await rejects?.close()
  }
}

/** Counts on stderr: standard output is for rows. */
export function tellCounts(summary: StageSummary | undefined, { quiet, json }: StageFlags): void {
  if (summary === undefined || quiet) return
  process.stderr.write(`${json === true ? JSON.stringify(summary) : stageText(summary)}\n`)
}

function hasWarnings({ quarantined, warnings, warned_by }: StageSummary): boolean {
  return quarantined > 0 || warnings.length > 0 || Object.keys(warned_by).length > 0
}
