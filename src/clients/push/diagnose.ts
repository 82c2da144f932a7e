/** A source that is pushed to, before a run reads it: what waits in its journal, and the room for more. */
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { DiagnoseEnv, Diagnosis, Finding } from '../../core/diagnosis.ts'
import { diagnosisAt, type Findings, findingsAt, localSpace } from '../../core/findings.ts'
import { sizeText } from '../../core/job/units.ts'
import { journalPath, listJournal, readLoaded } from './journal-folder.ts'
import { journalFolder, type PushOptions } from './options.ts'

/** Of `max_pending`: beyond it people should look before clients are refused. */
const NEARLY = 0.8

export function diagnosePush(options: PushOptions, { stageDir, baseDir, job, id }: DiagnoseEnv): Diagnosis {
  const folder = journalFolder(options, stageDir ?? baseDir, baseDir)
  return diagnosisAt(folder, async function* (at) {
    yield options.tokens.length === 0
      ? at.ok('permission', 'no token: everybody of this machine may push')
      : at.ok('permission', `${options.tokens.length} tokens: ${options.tokens.map(({ name }) => name).join(', ')}`)
    for (const lane of options.lanes)
      yield* await laneFindings(findingsAt(join(folder, lane)), join(folder, lane), options, `${job}/${id}`)
    yield at.disk(await localSpace(folder), 'machine')
  })
}

async function laneFindings(at: Findings, folder: string, options: PushOptions, reader: string): Promise<Finding[]> {
  try {
    const { journals } = await listJournal(folder)
    if (journals.length === 0)
      return [at.ok('target', 'no gateway has been here yet: `adflow serve-push` makes the journal')]
    const loaded = await readLoaded(folder)
    if (loaded !== undefined && `${loaded.job}/${loaded.source}` !== reader)
      return [
        at.failed(
          'target',
          'SOURCE_UNSUPPORTED',
          `read by ${loaded.job}/${loaded.source}`,
          'give each job a `journal` of its own',
        ),
      ]
    const sizes = await Promise.all(journals.map(async (file) => (await stat(journalPath(folder, file))).size))
    const bytes = sizes.reduce((sum, size) => sum + size, 0)
    const found = `${sizeText(bytes)} in ${journals.length} files, and ${sizeText(options.max_pending)} may be`
    return [
      bytes < NEARLY * options.max_pending
        ? at.ok('owed', found)
        : at.warning('owed', found, 'run the job: clients are refused with 429 when it is full'),
    ]
  } catch (error) {
    return [at.failure('reachable', error, 'SOURCE_UNREADABLE')]
  }
}
