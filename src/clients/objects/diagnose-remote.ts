/** Files of a server before a run: which there are, and whether one of them may be read. */
import type { DiagnoseEnv, Finding } from '../../core/diagnosis.ts'
import type { Findings } from '../../core/findings.ts'
import { sizeText } from '../../core/job/units.ts'
import type { FilePlace } from './place.ts'

/** Problems that are named one by one. */
const NAMED = 5

export async function* diagnoseRemoteFiles(
  at: Findings,
  place: FilePlace,
  { signal }: DiagnoseEnv,
): AsyncIterable<Finding> {
  let found: Awaited<ReturnType<FilePlace['discover']>>
  try {
    found = await place.discover([], signal)
  } catch (error) {
    yield at.failure('target', error, 'SOURCE_UNREADABLE')
    return
  }
  const { files, problems } = found
  const bytes = files.reduce((total, { facts }) => total + facts.size, 0)
  if (files.length > 0 || problems.length === 0)
    yield at.ok('target', `${files.length} ${files.length === 1 ? 'file' : 'files'}, ${sizeText(bytes)}`)
  for (const { code, message } of problems.slice(0, NAMED))
    yield at.failed('target', code, message, 'change `files` or `exclude`, or have it mended there')
  const first = files.find(({ facts }) => facts.size > 0)
  if (first === undefined) return
  try {
    const file = await place.open(first)
    try {
      await file.readAt(Buffer.alloc(1), 0, 1, 0)
      yield at.ok('permission', `${first.path} may be read`)
    } finally {
      await file.close()
    }
  } catch (error) {
    yield at.failure('permission', error, 'SOURCE_UNREADABLE')
  }
}
